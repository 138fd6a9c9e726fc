"""See a stream: a page in the browser, and layers in napari.

Knows what a publisher sends, and nothing of engines; the demo alone acquires.
"""

__all__ = ["caption", "choice", "listener", "places", "stream_state"]
