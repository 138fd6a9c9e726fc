"""The networks, their losses, and their checkpoints."""
