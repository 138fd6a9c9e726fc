"""How a model does on kinds of specimen and distances from focus, as a Markdown table.

Fields are imaged through the measured optics of BBBC006, a little off those that training drew
most (NA 0.52, -0.4 waves), by a camera with shot and read noise. A cell is: as captured ·
Richardson-Lucy, told the very optics and distance · refocused.

    python -m refocus.bench.specimens_report MODEL.onnx --specimens sharp_images/
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refocus.configs import Optics
from refocus.configs.light_path import LightPath
from refocus.engine import open_engine
from refocus.engine.refocuser import Refocuser
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import defocus
from refocus.optics.images import list_images, read_image
from refocus.optics.metrics import gtn, psnr, ssim
from refocus.optics.specimens import GENERATORS
from refocus.training.judging.restore import richardson_lucy

OPTICS = Optics(na=0.52, spherical_waves=-0.4)
CAMERA = CameraModel(electrons_per_count=1.0)
DISTANCES_UM = (4.0, 8.0, 16.0, 32.0, -4.0, -8.0, -32.0)
KINDS = ("nuclei", "filaments", "membranes", "beads", "tissue")
FIELDS, SIDE = 6, 384


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--specimens", type=Path, help="folder of sharp images")
    parser.add_argument("--every", type=int, default=6, help="take one in so many of the folder")
    parser.add_argument("--fields", type=int, default=FIELDS, help="of each kind")
    parser.add_argument("--side", type=int, default=SIDE, help="of the synthetic ones, pixels")
    options = parser.parse_args()
    kinds = {name: grown(name, options.fields, options.side) for name in KINDS}
    if options.specimens:
        sharp = pictured(options.specimens, options.every, options.fields)
        kinds = {options.specimens.name: sharp, **kinds}
    engine = open_engine(options.model)
    refocuser = Refocuser(engine, on_distrust="refocused")  # all that the network makes
    print("| specimen | " + " | ".join(f"{z:+g} µm" for z in DISTANCES_UM) + " |")
    print("|---" * (len(DISTANCES_UM) + 1) + "|")
    for name, fields in kinds.items():
        cells = [cell(refocuser, fields, z) for z in DISTANCES_UM]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    engine.close()


def grown(kind: str, fields: int, side: int) -> list[NDArray[Any]]:
    """Draw fields of one kind, from seeds that no training uses."""
    rngs = (np.random.default_rng([99, i]) for i in range(fields))
    return [GENERATORS[kind]((side, side), rng) for rng in rngs]


def pictured(folder: Path, every: int, count: int) -> list[NDArray[Any]]:
    """Take sharp images as specimens, background 0 and brightest 1."""
    fields = []
    for file in list_images(folder)[::every][:count]:
        pixels = read_image(file).astype(np.float32)
        low, high = np.percentile(pixels, (1, 99.9))
        fields.append((pixels - low) / max(high - low, 1.0))
    return fields


def cell(refocuser: Refocuser, fields: list[NDArray[Any]], defocus_um: float) -> str:
    """Give mean PSNR and SSIM: as captured, deconvolved by the very PSF, refocused."""
    rng = np.random.default_rng(1)
    scores = []
    for field in fields:
        electrons = np.clip(field, 0, None) * 1500 + 20
        sharp = CAMERA.digitise(electrons)
        frame = CAMERA.expose(defocus(electrons, OPTICS, defocus_um), rng)
        refocused = refocuser.refocus(frame, light_path=LightPath(OPTICS.pixel_size_um)).pixels
        given = [frame, richardson_lucy(frame, OPTICS, defocus_um), refocused]
        truth, *given = gtn(sharp, *given)
        scores.append([[f(truth, x) for x in given] for f in (psnr, ssim)])
    decibels, likeness = np.mean(scores, axis=0)
    return (
        " · ".join(f"{d:.1f}" for d in decibels)
        + " dB, "
        + " · ".join(f"{s:.2f}" for s in likeness)
    )


if __name__ == "__main__":
    main()
