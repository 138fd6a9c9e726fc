"""What our pictures share: contrast, labels, tiles."""

import numpy as np
import pytest

from refocus.optics.drawing import (
    DARK,
    WHITE,
    canvas,
    contrast,
    shorten,
    text_width,
    tiles,
    to_8_bit,
    write,
)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pixels_are_scaled_between_black_and_white(dtype: type) -> None:
    pixels = np.array([[0, 50, 100, 150, 200]], dtype)
    assert to_8_bit(pixels, 50, 150).tolist() == [[0, 0, 128, 255, 255]]


def test_a_flat_frame_is_black_and_no_error() -> None:
    flat = np.full((8, 8), 7, np.uint16)
    assert not to_8_bit(flat, *contrast(flat)).any()


def test_contrast_passes_over_a_hot_pixel() -> None:
    pixels = np.tile(np.arange(100, dtype=np.uint16), (100, 1))
    pixels[0, 0] = 60_000
    assert contrast(pixels)[1] < 100


@pytest.mark.parametrize("anchor", ["la", "ma", "rm"])
def test_a_micro_has_a_stem_below_the_line(anchor: str) -> None:
    drawn = []
    for text in ("uu", "µu"):
        picture, pen = canvas((120, 60), DARK)
        write(pen, (60, 20), text, 20, WHITE, anchor)
        drawn.append(np.asarray(picture.convert("L")) > 128)
    more = drawn[1] & ~drawn[0]
    rows, columns = np.nonzero(more)
    ink_rows, ink_columns = np.nonzero(drawn[0])
    assert rows.min() > ink_rows.max() - 4  # it only adds a foot
    assert columns.max() < ink_columns.mean()  # under the first letter


def test_a_line_that_is_too_wide_ends_with_dots() -> None:
    long = "a_field_with_a_long_name.tif"
    short = shorten(long, 13, 80)
    assert short.endswith("...")
    assert text_width(short, 13) <= 80
    assert shorten(long, 13, 1000) == long


def test_tiles_of_a_row_share_the_contrast_of_the_last() -> None:
    dim, bright = np.full((4, 6), 50, np.uint16), np.full((4, 6), 0, np.uint16)
    bright[:, 3:] = 100
    grid = tiles([(dim, bright), (bright, dim)])
    assert grid.shape == (8, 12)
    assert grid[0, 0] == 128
    assert grid[4, 3] == 255
