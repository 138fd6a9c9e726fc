"""How far a refocused frame can be trusted: evidence, verdict, and what is published of it.

Knows nothing of the device that ran the network.
"""

__all__ = ["evidence", "judge", "judgement", "reblur", "structure", "tiles"]
