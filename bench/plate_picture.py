"""Draw a plate for docs/recorded.md: 96 wells that lie askew under the objective, refocused.

Nuclei through the optics of BBBC006, at the distances of a plate that is tilted and bowed; a column
without cells, and two wells that were not acquired. All is drawn from one seed.

    python -m refocus.bench.plate_picture docs/images/plate.png
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refocus.bench.plates import write_plate
from refocus.bench.report_command import run_report
from refocus.configs import BBBC006
from refocus.engine import open_engine
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import defocus
from refocus.optics.specimens import nuclei
from refocus.recorded.process import process

CAMERA = CameraModel(electrons_per_count=1.0)
SHAPE, SEED = (192, 192), 7
FIELDS = 2
ELECTRONS, BACKGROUND = 1500.0, 20.0
TILT_UM, BOW_UM = (1.6, 1.1), 0.35
"""From column to column and from row to row, and of the square of the distance from the middle."""
WITHOUT_CELLS, NOT_ACQUIRED = "12", ("D/7", "G/3")


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--wells", type=int, choices=(6, 96), default=96)
    given = parser.parse_args()
    rng = np.random.default_rng(SEED)

    def look(row: str, column: str, field: int) -> NDArray[Any]:
        down, along = ord(row) - ord("D"), int(column) - 6
        um = TILT_UM[0] * along + TILT_UM[1] * down - BOW_UM * (down**2 + along**2)
        light = np.zeros(SHAPE) if column == WITHOUT_CELLS else nuclei(SHAPE, rng, count=12)
        blurred = defocus(light, BBBC006, um + rng.normal(0.0, 0.7))
        return CAMERA.expose(ELECTRONS * blurred + BACKGROUND, rng)[None]

    engine = open_engine("auto")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "plate.ome.zarr", Path(folder) / "out.ome.zarr"
        write_plate(source, given.wells, FIELDS, look)
        for well in NOT_ACQUIRED:
            shutil.rmtree(source / well, ignore_errors=True)
        process(source, target, engine, lambda done: None)
        shutil.copy(Path(folder) / "out.ome.zarr.refocus.png", given.picture)
    engine.close()


if __name__ == "__main__":
    run_report(main)
