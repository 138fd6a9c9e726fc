"""See a stream: a page in the browser, and layers in napari.

Knows what a publisher sends; the demo and napari's widget alone acquire.
"""

__all__ = ["caption", "choice", "listener", "places", "stream_state"]
