#!/usr/bin/env python3
"""Draw what a model can and cannot restore, for docs/limits.md: captured, refocused, in focus.

Synthetic fields through the measured optics of BBBC006, as in specimens_report.py, and a camera
with shot and read noise. Nothing is chosen by hand: all fields are drawn from one seed.

    python -m refocus.bench.limits_pictures docs/images/limits
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refocus.bench.report_command import run_report
from refocus.configs import Optics
from refocus.engine import Engine, open_engine
from refocus.engine.refocuser import Refocuser
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import defocus
from refocus.optics.drawing import DARK, canvas, contrast, head, to_8_bit
from refocus.optics.metrics import gtn, psnr, ssim
from refocus.optics.specimens import GENERATORS, nuclei

OPTICS = Optics(na=0.52, spherical_waves=-0.4)
CAMERA = CameraModel(electrons_per_count=1.0)
SIDE, SEED = 256, 99
PANEL, MARGIN, HEADER = 320, 8, 30

Light = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Case:
    """One row of pictures.

    Attributes
    ----------
    specimen
        Makes the light of the field, ``(H, W)``, background 0 and brightest about 1.
    defocus_um
        Distance from focus, µm; a second one is another layer of the specimen.
    electrons
        Photo-electrons of the brightest structures.
    background
        And of the background.
    full_well
        Above so many a pixel is saturated.
    """

    specimen: Callable[[np.random.Generator], Light]
    defocus_um: tuple[float, ...]
    electrons: float = 1500.0
    background: float = 20.0
    full_well: float = 60_000.0


def grown(kind: str) -> Callable[[np.random.Generator], Light]:
    """Draw a field of one kind."""
    return lambda rng: GENERATORS[kind]((SIDE, SIDE), rng)


def cells(rng: np.random.Generator) -> Light:
    """Draw a field of ordinary nuclei, neither crowded nor empty."""
    return nuclei((SIDE, SIDE), rng, count=30, radius_um=(6.0, 7.0))


def brightfield(rng: np.random.Generator) -> Light:
    """Draw dark cells on a bright ground, which no training saw."""
    return 1.0 - 0.6 * cells(rng)


CASES = {
    "near": Case(cells, (8.0,)),
    "in-focus": Case(cells, (0.0,)),
    "far": Case(cells, (32.0,)),
    "beyond": Case(cells, (60.0,)),
    "other-side": Case(grown("filaments"), (-8.0,)),
    "slight": Case(grown("tissue"), (4.0,)),
    "dim": Case(cells, (8.0,), electrons=25.0, background=5.0),
    "saturated": Case(cells, (8.0,), electrons=8000.0, full_well=2500.0),
    "two-layers": Case(cells, (8.0, -16.0)),
    "brightfield": Case(brightfield, (8.0,)),
}


def main() -> None:
    """Draw every case, and print its figures as a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write NAME.jpg")
    parser.add_argument("--model", default="openvino", help="an engine or an ONNX model")
    parser.add_argument("--only", choices=CASES, help="one case alone")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    engine = open_engine(options.model)
    print("| case | captured | refocused | verdict |\n|---|---|---|---|")
    for name in [options.only] if options.only else CASES:
        *frames, verdict = image(CASES[name], engine)
        notes = figures(*frames)
        title = f"refocused ({verdict})" if verdict != "unrated" else "refocused"
        titles = ["captured", title, "in focus"]
        # for tests/docs, which compare what the page says
        told = {"defocus_um": CASES[name].defocus_um, "verdict": verdict, "figures": notes[:2]}
        picture = draw(frames, titles, notes)
        picture.save(options.folder / f"{name}.jpg", quality=88, comment=json.dumps(told))
        print(f"| {name} | {notes[0]} | {notes[1]} | {verdict} |", flush=True)
    engine.close()


def image(case: Case, engine: Engine) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], str]:
    """Give the frame as captured, refocused, and as it would have been in focus; the verdict."""
    rng = np.random.default_rng([SEED, 0])
    layers = [case.specimen(rng) for _ in case.defocus_um]
    blurred = sum(
        defocus(layer, OPTICS, distance)
        for layer, distance in zip(layers, case.defocus_um, strict=True)
    )
    captured = expose(case, np.asarray(blurred), rng)
    ideal = np.clip(sum(layers) * case.electrons, 0, None) + case.background
    done = Refocuser(engine, on_distrust="refocused").refocus(captured)
    return captured, done.pixels, CAMERA.digitise(ideal), done.judgement.verdict


def expose(case: Case, light: Light, rng: np.random.Generator) -> NDArray[Any]:
    """Take a picture of light; wells that are full stay full."""
    electrons = np.clip(light, 0, None) * case.electrons + case.background
    full: NDArray[Any] = CAMERA.digitise(np.array(case.full_well))
    filled: NDArray[Any] = np.minimum(CAMERA.expose(electrons, rng), full)
    return filled


def figures(captured: NDArray[Any], refocused: NDArray[Any], ideal: NDArray[Any]) -> list[str]:
    """Compare the first two with the last."""
    truth, *others = gtn(ideal, captured, refocused)
    return [f"{psnr(truth, x):.1f} dB, {ssim(truth, x):.2f}" for x in others] + [""]


def draw(frames: list[NDArray[Any]], titles: list[str], notes: list[str]) -> Image.Image:
    """Draw three frames side by side, at the contrast of the last."""
    low, high = contrast(frames[-1])
    size = (3 * (PANEL + MARGIN) + MARGIN, HEADER + PANEL + MARGIN)
    picture, pen = canvas(size, DARK)
    for number, (frame, title, note) in enumerate(zip(frames, titles, notes, strict=True)):
        left = MARGIN + number * (PANEL + MARGIN)
        panel = Image.fromarray(to_8_bit(frame, low, high))
        picture.paste(panel.resize((PANEL, PANEL), Image.Resampling.BICUBIC), (left, HEADER))
        head(pen, (left, 6), PANEL, title, note, 17)
    return picture


if __name__ == "__main__":
    run_report(main)
