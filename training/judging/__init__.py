"""What a model is worth: evaluation beside its rivals, and the calibration of its verdicts.

Knows nothing of how it was trained.
"""

__all__ = [
    "calibrate",
    "candidate",
    "evaluate",
    "hard_sets",
    "measured_windows",
    "objectives",
    "restore",
    "samples",
    "stale",
    "trust_report",
]
