"""How a model does on kinds of specimen and distances from focus, beside what physics allows.

Fields are imaged through the measured optics of BBBC006, a little off those that training drew
most (NA 0.52, -0.4 waves), by a camera with shot and read noise. The truth is what the model was
taught: the object, or the object through the same optics in focus.

    python -m refocus.bench.specimens_report MODEL.onnx --specimens sharp_images/
"""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refocus.bench.report_command import count, run_report
from refocus.configs import Optics, RefocusError
from refocus.configs.light_path import LightPath
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.refocuser import Refocuser
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import convolve, defocus
from refocus.optics.images import list_images, read_image
from refocus.optics.metrics import gtn, psnr, ssim
from refocus.optics.psf import psf
from refocus.optics.specimens import GENERATORS
from refocus.optics.transfer import blur_of
from refocus.training.judging.restore import Wiener, best_richardson_lucy

if TYPE_CHECKING:
    from collections.abc import Callable

OPTICS = Optics(na=0.52, spherical_waves=-0.4)
CAMERA = CameraModel(electrons_per_count=1.0)
PEAK_ELECTRONS, BACKGROUND_ELECTRONS = 1500.0, 20.0
DISTANCES_UM = (4.0, 8.0, 16.0, 32.0, -4.0, -8.0, -32.0)
KINDS = ("nuclei", "filaments", "membranes", "beads", "tissue")
FIELDS, SIDE = 6, 384
WAYS = ("captured", "Richardson-Lucy", "Wiener", "told nothing", "told all")
WITH_SSIM = (0, 3)
"""Places of those ways whose SSIM is printed, too."""

Plane = NDArray[Any]


class Kind(NamedTuple):
    """Fields of one kind, background 0 and brightest 1, and others that are like them."""

    fields: list[Plane]
    alike: list[Plane]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--specimens", type=Path, help="folder of sharp images")
    parser.add_argument("--every", type=count, default=6, help="take one in so many of the folder")
    parser.add_argument("--fields", type=count, default=FIELDS, help="of each kind")
    parser.add_argument("--side", type=count, default=SIDE, help="of the fields, pixels")
    options = parser.parse_args()
    kinds = {name: grown(name, options.fields, options.side) for name in KINDS}
    if options.specimens:
        try:
            sharp = pictured(options.specimens, options.every, options.fields, options.side)
        except RefocusError as error:
            parser.error(str(error))
        kinds = {options.specimens.name: sharp, **kinds}
    engine = OpenVinoEngine(options.model, precision="f32")
    print(" · ".join(WAYS if engine.sight else WAYS[:-1]) + ", dB; SSIM captured · told nothing\n")
    print("| specimen | " + " | ".join(f"{z:+g} µm" for z in DISTANCES_UM) + " |")
    print("|---" * (len(DISTANCES_UM) + 1) + "|")
    for name, kind in kinds.items():
        cells = [cell(engine, kind, z) for z in DISTANCES_UM]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    engine.close()


def grown(kind: str, fields: int, side: int) -> Kind:
    """Draw fields of one kind, from seeds that no training uses."""

    def drawn(seed: int) -> list[Plane]:
        rngs = (np.random.default_rng([seed, i]) for i in range(fields))
        return [GENERATORS[kind]((side, side), rng) for rng in rngs]

    return Kind(drawn(99), drawn(98))


def pictured(folder: Path, every: int, count: int, side: int) -> Kind:
    """Take the middles of sharp images that are large enough; spectra are of the others."""
    found = [middle for file in list_images(folder) if (middle := _middle(file, side)) is not None]
    chosen = set(range(0, len(found), every)[:count])
    fields, others = (
        [f for n, f in enumerate(found) if (n in chosen) is so] for so in (True, False)
    )
    if not fields or not others:
        raise RefocusError(
            f"{folder}: {len(found)} images of {side}² pixels or more are too few; give a "
            "folder of more, or a smaller --side"
        )
    return Kind(fields, others[:count])


def _middle(file: Path, side: int) -> Plane | None:
    pixels = read_image(file).astype(np.float32)
    top, left = ((n - side) // 2 for n in pixels.shape)
    if min(top, left) < 0:
        return None
    low, high = np.percentile(pixels, (1, 99.9))
    scaled = (pixels - low) / max(high - low, 1.0)
    return np.asarray(scaled[top : top + side, left : left + side])


def cell(engine: OpenVinoEngine, kind: Kind, defocus_um: float) -> str:
    """Give mean PSNR and SSIM of each way at one distance."""
    card = engine.info.card
    assert card is not None
    in_focus = card.seen_in_focus
    refocuser = Refocuser(engine, on_distrust="refocused")  # all that the network makes
    known = LightPath(OPTICS.pixel_size_um)
    told = LightPath(**{**vars(known), "believed": (blur_of(OPTICS, defocus_um),)})
    wiener = Wiener(
        [CAMERA.digitise(_truth(field, in_focus)) for field in kind.alike],
        OPTICS,
        defocus_um,
        CAMERA,
        seen_in_focus=in_focus,
    )
    rng = np.random.default_rng(1)
    scores = []
    for number, field in enumerate(kind.fields):
        frame = CAMERA.expose(defocus(_light(field), OPTICS, defocus_um), rng)
        truth = CAMERA.digitise(_truth(field, in_focus))

        def quality(found: Plane, truth: Plane = truth) -> float:
            return psnr(*gtn(truth, found))

        ways: list[Callable[[], Plane]] = [
            lambda f=frame: f,  # type: ignore[misc]
            partial(best_richardson_lucy, frame, OPTICS, defocus_um, quality),
            lambda f=frame: wiener(f),  # type: ignore[misc]
            lambda f=frame, n=number: refocuser.refocus(f, f"{n}", known).pixels,  # type: ignore[misc]
        ]
        if engine.sight:
            ways.append(lambda f=frame: refocuser.refocus(f, "told", told).pixels)  # type: ignore[misc]
        wanted, *given = gtn(truth, *(way() for way in ways))
        scores.append([[f(wanted, x) for x in given] for f in (psnr, ssim)])
    decibels, likeness = np.mean(scores, axis=0)
    shown = " · ".join(f"{likeness[place]:.2f}" for place in WITH_SSIM)
    return " · ".join(f"{d:.1f}" for d in decibels) + f"; {shown}"


def _light(field: Plane) -> Plane:
    """Bring a field to electrons."""
    return np.asarray(np.clip(field, 0, None) * PEAK_ELECTRONS + BACKGROUND_ELECTRONS)


def _truth(field: Plane, in_focus: bool) -> Plane:
    return convolve(_light(field), psf(OPTICS, 0.0)) if in_focus else _light(field)


if __name__ == "__main__":
    run_report(main)
