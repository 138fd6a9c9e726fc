"""See a stream: a page in the browser, and layers in napari, of what ``acquisition`` publishes."""
