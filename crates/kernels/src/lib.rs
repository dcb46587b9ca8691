//! Tensors in motion on a CPU: dot products, norms, attention, and the threads that run them.
