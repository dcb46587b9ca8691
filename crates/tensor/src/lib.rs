//! Tensors at rest: names, shapes, what each format's bytes mean, and the files they live in.
