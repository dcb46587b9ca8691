//! Requests in, tokens out: scheduling, cache blocks, sampling.
