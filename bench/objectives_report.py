"""What a model does on several objectives, beside doing nothing and what physics allows.

Told nothing, each frame alone; told nothing, after ten frames of a run, and what is published of
that by default; told the optics, after as many; told the whole light path, the distance too; the
Wiener filter that is told it, and the spectrum of the kind of specimen; Richardson-Lucy told it, at
its best number of iterations. The truth is the object through the same optics in focus.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refocus.bench.report_command import count, run_report
from refocus.engine import Engine
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.refocuser import Refocuser
from refocus.optics.camera import CameraModel
from refocus.optics.transfer import light_path_of
from refocus.training.judging.objectives import (
    BACKGROUND_ELECTRONS,
    KINDS,
    OBJECTIVES,
    PEAK_ELECTRONS,
    RUN,
    Case,
    examples,
    quality,
)
from refocus.training.judging.restore import Wiener, best_richardson_lucy

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ROWS = (
    "do nothing",
    "blind",
    "after ten frames",
    "published by default",
    "optics told, after ten",
    "all told",
    "Wiener, all told",
    "Richardson-Lucy, all told",
)
OTHERS = 40
"""First of the fields that spectra are taken from; they are not those judged on."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--frames", type=count, default=12, help="frames of each objective")
    parser.add_argument(
        "--objectives", type=count, default=len(OBJECTIVES), help="how many of them"
    )
    parser.add_argument(
        "--times", type=float, default=1.0, help="of the distances of the table; 0 is in focus"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    engine = OpenVinoEngine(given.model, precision="f32")
    cases = [case.nearer(given.times) for case in OBJECTIVES[: given.objectives]]
    rows = [measure(engine, case, given.frames) for case in cases]
    engine.close()
    print(json.dumps(rows, indent=2, ensure_ascii=False) if given.json else markdown(rows))


def measure(engine: Engine, case: Case, frames: int) -> dict[str, Any]:
    """Measure one objective, dB: means over kinds of specimen."""
    optics = case.optics
    known, path = light_path_of(optics), light_path_of(optics, case.defocus_um)
    run, cautious = Refocuser(engine, on_distrust="refocused"), Refocuser(engine)
    drawn = list(examples(case, RUN + frames))
    for example in drawn[:RUN]:
        run.refocus(example.frame, "run")
        cautious.refocus(example.frame, "run")
        run.refocus(example.frame, "known", known)
    filters = _wiener(case)
    found: dict[str, list[float]] = {name: [] for name in ROWS}
    for number, example in enumerate(drawn[RUN:]):
        ways: dict[str, Callable[[], NDArray[Any]]] = {
            "do nothing": lambda e=example: e.frame,  # type: ignore[misc]
            "blind": lambda e=example, n=number: run.refocus(e.frame, f"alone {n}").pixels,  # type: ignore[misc]
            "after ten frames": lambda e=example: run.refocus(e.frame, "run").pixels,  # type: ignore[misc]
            "published by default": lambda e=example: cautious.refocus(e.frame, "run").pixels,  # type: ignore[misc]
            "optics told, after ten": lambda e=example: run.refocus(e.frame, "known", known).pixels,  # type: ignore[misc]
            "all told": lambda e=example: run.refocus(e.frame, "told", path).pixels,  # type: ignore[misc]
            "Wiener, all told": lambda e=example: filters[e.kind](e.frame),  # type: ignore[misc]
            "Richardson-Lucy, all told": lambda e=example: best_richardson_lucy(  # type: ignore[misc]
                e.frame, optics, case.defocus_um, partial(quality, e)
            ),
        }
        for name, way in ways.items():
            found[name].append(quality(example, way()))
    means = {name: round(float(np.mean(values)), 2) for name, values in found.items()}
    return {"objective": case.name, **means}


def _wiener(case: Case) -> dict[str, Wiener]:
    """Make the linear filter of least error for each kind of specimen."""
    others: dict[str, list[NDArray[Any]]] = {kind: [] for kind in KINDS}
    for example in examples(case, OTHERS, seed=77):
        others[example.kind].append(example.truth)
    return {
        kind: Wiener(fields, case.optics, case.defocus_um, CameraModel(), seen_in_focus=True)
        for kind, fields in others.items()
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """Set the table in Markdown, with the mean gain over doing nothing of the first four."""
    lines = ["| objective, distance | " + " | ".join(ROWS) + " |", "|---" * (len(ROWS) + 1) + "|"]
    for row in rows:
        cells = " | ".join(f"{row[name]:.1f}" for name in ROWS)
        lines.append(f"| {row['objective']} | {cells} |")
    gains = (np.mean([row[name] - row[ROWS[0]] for row in rows[:4]]) for name in ROWS)
    lines.append(
        "| gain, mean of the first four | " + " | ".join(f"{g:+.1f}" for g in gains) + " |"
    )
    light = f"{PEAK_ELECTRONS:g} electrons at the brightest, {BACKGROUND_ELECTRONS:g} background"
    return "\n".join([*lines, "", f"dB; {', '.join(KINDS)} in turn; {light}."])


if __name__ == "__main__":
    run_report(main)
