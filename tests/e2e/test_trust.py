"""Verdicts, from files in a folder to files on the disk, as a user meets them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
from numpy.typing import NDArray
from PIL import Image

from refocus.configs import BBBC006
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import defocus
from refocus.optics.metrics import gtn, psnr
from refocus.optics.phase import phase_contrast
from refocus.optics.specimens import nuclei

COMMAND = str(Path(sys.executable).parent / "refocus-live")
FRAMES, SIDE = 4, 320


def replay(images: list[NDArray[Any]], folder: Path, *options: str) -> tuple[Any, NDArray[Any]]:
    """Run images through the live path; give the report and what was saved as refocused."""
    (folder / "in").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / "in" / f"{number:02d}.png")
    out = folder / "out"
    command = [COMMAND, "run", "--replay", str(folder / "in"), "--save", str(out), *options]
    subprocess.run(command, check=True, timeout=240, capture_output=True)
    report = json.loads((out / "report.json").read_text())
    stored = {"driver": "zarr3", "kvstore": f"file://{out}/refocused.ome.zarr/0"}
    saved = tensorstore.open(stored, open=True).result().read().result()
    return report, np.asarray(saved).reshape(len(images), SIDE, SIDE)


def phase() -> list[NDArray[Any]]:
    """Give frames of a kind that no PSF of the model describes."""
    rngs = (np.random.default_rng([5, i]) for i in range(FRAMES))
    return [
        CameraModel().expose(phase_contrast((SIDE, SIDE), rng, BBBC006, 12.0) * 4000, rng)
        for rng in rngs
    ]


def nothing() -> list[NDArray[Any]]:
    """Give the camera's noise, which the network takes for a blurred something."""
    dark = np.full((SIDE, SIDE), 2.0)
    return [CameraModel().expose(dark, np.random.default_rng([6, i])) for i in range(FRAMES)]


def test_nuclei_come_back_refocused_and_an_unfamiliar_specimen_as_captured(tmp_path: Path) -> None:
    camera, rng = CameraModel(), np.random.default_rng(3)
    light = [nuclei((SIDE, SIDE), rng, radius_um=(6.0, 9.0)) * 2000 + 100 for _ in range(FRAMES)]
    known = [camera.expose(defocus(x, BBBC006, 9.0), rng) for x in light]
    unfamiliar = phase() + nothing()

    report, saved = replay(known + unfamiliar, tmp_path)

    verdicts = report["verdicts"]
    assert verdicts["refocused"] == FRAMES
    assert sum(verdicts.values()) == len(saved)
    np.testing.assert_array_equal(saved[FRAMES:], unfamiliar)
    for sharp, frame, refocused in zip(light, known, saved[:FRAMES], strict=True):
        truth, before, after = gtn(camera.digitise(sharp), frame, refocused)
        assert psnr(truth, after) > psnr(truth, before) + 2


def test_the_network_is_published_all_the_same_where_it_is_asked_for(tmp_path: Path) -> None:
    captured = nothing()

    report, saved = replay(captured, tmp_path, "--on-distrust", "refocused")

    assert report["verdicts"] == {"blank": FRAMES}
    for frame, given in zip(captured, saved, strict=True):
        assert not np.array_equal(given, frame)
