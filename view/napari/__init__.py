"""Layers in napari that show the newest frame."""
