"""TIFFs as others write them: what is refocused of a page, what stays, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from refocus.engine.fake import FakeEngine
from refocus.recorded.process import process
from refocus.recorded.refocusing import Options
from refocus.recorded.selection import Selection
from refocus.recorded.work import Processed

Pixels = np.ndarray[Any, Any]
AS_USUAL = Options()
RED = Options(selection=Selection(channels={"red": "auto"}))
COLOURS = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)


def run(source: Path, target: Path, options: Options = AS_USUAL) -> Processed:
    return process(source, target, FakeEngine(), lambda done: None, options)


@pytest.mark.parametrize("layout", [{}, {"tile": (32, 32)}, {"rowsperstrip": 16}])
@pytest.mark.parametrize(
    ("photometric", "subsampling"),
    [("minisblack", None), ("rgb", None), ("ycbcr", (1, 1)), ("ycbcr", (2, 2))],
)
def test_jpeg_is_read_as_others_read_it(
    tmp_path: Path, photometric: str, subsampling: Any, layout: dict[str, Any]
) -> None:
    source, grey = tmp_path / "in.tif", photometric == "minisblack"
    about: dict[str, Any] = {"photometric": photometric, "subsampling": subsampling, **layout}
    pixels = COLOURS[..., 0] if grey else COLOURS
    tifffile.imwrite(source, pixels, compression="jpeg", metadata=None, **about)
    assert run(source, tmp_path / "out.tif", AS_USUAL if grey else RED).refocused == 1
    wanted = tifffile.imread(source)
    light = wanted if grey else wanted[..., 0]
    light[:] = np.invert(light)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), wanted)
