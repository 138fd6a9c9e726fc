"""Frames out of focus with their in-focus partners: measured, recorded, or simulated."""
