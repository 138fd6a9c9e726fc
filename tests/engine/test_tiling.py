"""Frames cut into tiles."""

import numpy as np
import pytest

from refocus.engine.tiling import HALO, tiled, tiles


@pytest.mark.parametrize("shape", [(64, 64), (320, 96), (512, 768), (544, 1056)])
@pytest.mark.parametrize("side", [2 * HALO + 32, 512])
def test_tiles_cover_each_pixel_once(shape: tuple[int, int], side: int) -> None:
    covered = np.zeros(shape, int)
    for tile in tiles(shape, side):
        covered[tile.write] += 1
        height, width = (s.stop - s.start for s in tile.read)
        assert max(height, width) <= side
        assert height % 32 == 0
        assert width % 32 == 0
    assert (covered == 1).all()


def test_no_seams_where_the_network_looks_no_further_than_the_halo() -> None:
    from scipy import ndimage

    def blur(pixels: np.ndarray) -> tuple[np.ndarray]:
        return (ndimage.uniform_filter(pixels, 2 * HALO - 1, mode="constant"),)

    frame = np.random.default_rng(1).normal(size=(640, 800)).astype(np.float32)
    np.testing.assert_allclose(tiled(blur, 0, side=448)(frame)[0], blur(frame)[0], atol=1e-6)


def test_small_frames_are_run_whole() -> None:
    seen = []

    def note(pixels: np.ndarray) -> tuple[np.ndarray]:
        seen.append(pixels.shape)
        return (pixels,)

    frame = np.zeros((128, 128), np.float32)
    tiled(note, 128 * 128)(frame)
    assert seen == [(128, 128)]
