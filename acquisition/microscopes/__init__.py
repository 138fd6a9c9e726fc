"""Simulated and replayed microscopes: a core whose camera, stage and specimen are software."""
