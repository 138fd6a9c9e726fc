"""Checkpoint to ONNX to TensorRT, each verified against the one before.

Knows the network of training, and nothing of how it was trained.
"""

__all__ = ["to_onnx", "to_triton"]
