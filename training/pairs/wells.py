"""Wells, which every split keeps together."""

from collections.abc import Sequence
from pathlib import Path


def well(path: Path) -> str:
    """Name the well of a file such as ``a02_s1_w1.png``: what splits must keep together."""
    return path.stem.split("_")[0]


def fold_of(wells: Sequence[str], folds: int) -> dict[str, int]:
    """Deal wells into folds, in their order."""
    return {w: i % folds for i, w in enumerate(sorted(set(wells)))}
