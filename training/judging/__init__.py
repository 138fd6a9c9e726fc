"""What a model is worth: evaluation beside its rivals, and the calibration of its verdicts."""
