"""What travels, and reading it: headers, keys, shared memory, and the subscriber.

Knows nothing of microscopes, engines or pixels' meaning: a reader needs no more than this package
and ``refocus.configs``.
"""

__all__ = ["keys", "link", "messages", "shared_memory", "subscriber"]
