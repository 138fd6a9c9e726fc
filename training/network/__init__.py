"""The networks, their losses, and their checkpoints.

Knows nothing of data.
"""

__all__ = ["checkpoint", "checkpoint_engine", "losses", "resnet", "unet", "vgg"]
