//! What a decoder asks of a device, and the devices that answer.
