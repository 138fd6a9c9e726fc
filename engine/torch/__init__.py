"""A model run by PyTorch: on CUDA with frames overlapped, or on the CPU as the reference."""
