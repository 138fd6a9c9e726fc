"""A model run by TensorRT or TensorRT-RTX: built on this machine, kept, and only then trusted."""
