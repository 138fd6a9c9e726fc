"""The picture of a run: one contrast, a scale bar of round length, and a telling detail."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from refocus.acquisition.command.picture import (
    HEADER,
    MARGIN,
    PANEL,
    Panel,
    draw_picture,
    find_detail,
    nice_length,
    picture_run,
    save_picture,
)
from refocus.acquisition.command.report import judge
from refocus.acquisition.microscopes.scene import Truth
from refocus.acquisition.pipeline.frame import CapturedFrame, FrameResult


def field(shape: tuple[int, int], low: int = 100, high: int = 1100) -> NDArray[np.uint16]:
    """Draw a dark field with one square full of structure in its lower right quarter."""
    image = np.full(shape, low, np.uint16)
    rows, columns = shape[0] * 5 // 8, shape[1] * 5 // 8
    image[rows : rows + shape[0] // 4 : 8, columns : columns + shape[1] // 4] = high
    return image


@pytest.mark.parametrize(
    ("longest", "expected"),
    [(1.0, 1.0), (1.99, 1.0), (2.0, 2.0), (49.9, 20.0), (78.0, 50.0), (0.3, 0.2), (1234.0, 1000.0)],
)
def test_a_scale_bar_is_of_a_round_length(longest: float, expected: float) -> None:
    assert nice_length(longest) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(256, 256), (200, 400), (32, 32), (520, 696)])
def test_the_detail_is_where_the_structure_is(shape: tuple[int, int]) -> None:
    left, top, right, bottom = find_detail(field(shape))
    assert right - left == bottom - top
    assert 0 <= left < right <= shape[1]
    assert 0 <= top < bottom <= shape[0]
    if min(shape) > 64:
        middle = ((top + bottom) / 2 / shape[0], (left + right) / 2 / shape[1])
        assert middle == pytest.approx((0.75, 0.75), abs=0.13)


def grey_of(picture: Image.Image, panel: int, row: float, column: float) -> int:
    x = MARGIN + panel * (PANEL + MARGIN) + int(column * PANEL)
    return int(np.asarray(picture)[HEADER + int(row * PANEL), x, 0])


def test_all_panels_share_the_contrast_of_the_last() -> None:
    sharp = np.full((64, 64), 100, np.uint16)
    sharp[:, 32:] = 200
    dim = (sharp // 2).astype(np.uint16)
    picture = draw_picture([Panel(dim, "captured"), Panel(sharp, "reference")])
    # left half, right half; above the scale bar and outside the detail's frame
    bright = [grey_of(picture, panel, 0.03, 0.97) for panel in (0, 1)]
    assert bright == [0, 255]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", [(64, 64), (64, 4096), (4096, 64), (32, 33)])
def test_every_shape_of_frame_makes_a_picture(
    tmp_path: Path, shape: tuple[int, int], dtype: Any
) -> None:
    image = field(shape, 10, 200).astype(dtype)
    path = tmp_path / "p.png"
    panels = [Panel(image, title, "SSIM 0.9") for title in ("captured", "refocused", "reference")]
    save_picture(path, panels, pixel_size_um=0.656, caption="frame 3 · 9.5 µm from focus")
    with Image.open(path) as picture:
        assert picture.width == MARGIN + 3 * (PANEL + MARGIN)
        assert picture.height < 3.2 * PANEL


def test_a_flat_frame_and_an_unknown_pixel_size_are_no_trouble() -> None:
    flat = np.zeros((64, 64), np.uint8)
    without = draw_picture([Panel(flat, "captured"), Panel(flat, "refocused")])
    with_bar = draw_picture([Panel(flat, "a"), Panel(flat, "b")], pixel_size_um=0.5)
    assert without.size == with_bar.size
    assert (np.asarray(with_bar) == 240).any()


def result(frame: int) -> FrameResult:
    pixels = field((64, 64), high=1000 + frame)
    captured = CapturedFrame(pixels, frame, "2025-01-01T00:00:00.000000+00:00", 0)
    return FrameResult(captured, pixels, True, frame, 0.0, 0.0)


@pytest.mark.parametrize("known", [True, False])
def test_a_run_leaves_a_picture(tmp_path: Path, known: bool) -> None:
    results = [result(frame) for frame in range(5)]
    truth = {frame: Truth(frame, 3.0, field((64, 64))) for frame in range(5)} if known else {}
    path = tmp_path / "r.png"
    assert picture_run(path, results, truth.get, judge(results, truth.get))
    with Image.open(path) as picture:
        assert (picture.width > 1400) is known  # three panels, or two


def test_no_frames_no_picture(tmp_path: Path) -> None:
    assert not picture_run(tmp_path / "r.png", [], lambda frame: None, {})
    assert not list(tmp_path.iterdir())
