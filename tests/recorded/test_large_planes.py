"""Planes too large for one pass: the same bits as one pass, in every format, at every edge."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from refocus.engine.fake import FakeEngine
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.protocol import UNKNOWN, Engine, Frame, LightPath, Refocused, Ticket
from refocus.engine.refocuser import Refocuser
from refocus.engine.tiling import HALO, tiled
from refocus.engine.trust.judgement import TILE, UNRATED, blend
from refocus.optics.normalise import brightness
from refocus.recorded import regions
from refocus.recorded.planes import About, RecordedPlane
from refocus.recorded.process import process
from refocus.recorded.refocusing import Options
from refocus.recorded.regions import cut
from refocus.recorded.selection import Selection
from refocus.recorded.survey import survey

Pixels = np.ndarray[Any, Any]
SIDE = 2 * HALO + 256
ODD = (665, 801)


@pytest.fixture(autouse=True)
def small_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let planes of some hundred pixels have several regions."""
    monkeypatch.setattr(regions, "LARGEST", 0)
    monkeypatch.setattr(regions, "SIDE", SIDE)


def cells(shape: tuple[int, int], seed: int = 0, top: int = 4000) -> Pixels:
    rng = np.random.default_rng(seed)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    light = 0.3 + np.sin(rows / 9) * np.cos(columns / 13) + rows / shape[0]
    return rng.poisson(np.clip(light, 0.05, None) * top / 3).astype(np.uint16)


def in_memory(pixels: Pixels) -> RecordedPlane:
    return RecordedPlane(
        About("plane"), pixels.shape, pixels.dtype, lambda rows, columns: pixels[rows, columns]
    )


def refocused(engine: Engine, pixels: Pixels, folder: Path, **options: Any) -> Pixels:
    source, target = folder / "in.tif", folder / "out.tif"
    tifffile.imwrite(source, pixels, tile=(64, 96), photometric="minisblack", metadata=None)
    process(source, target, engine, lambda done: None, Options(**options))
    return tifffile.imread(target)


@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (256, 256), (257, 255), (1000, 300), ODD])
def test_regions_cover_each_pixel_once_with_what_lies_around(shape: tuple[int, int]) -> None:
    grid = cut(shape)
    covered = np.zeros(shape, int)
    for number in range(len(grid)):
        region = grid[number]
        covered[region.core] += 1
        for core, read, length in zip(region.core, region.read, shape, strict=True):
            assert read.start <= max(0, core.start - HALO)
            assert read.stop >= min(length, core.stop + HALO)
            assert read.start % TILE == 0
            assert read.stop - read.start <= SIDE
    assert (covered == 1).all()


@pytest.mark.parametrize("shape", [(64, 64), ODD, (1100, 700)])
def test_a_first_pass_finds_the_brightness_of_the_whole(shape: tuple[int, int]) -> None:
    pixels = cells(shape)
    found = survey(in_memory(pixels))
    assert found[:2] == brightness(pixels)
    assert found.top == pixels.max()


@pytest.fixture(scope="module")
def network(model_file: Path) -> Iterator[OpenVinoEngine]:
    """Give an engine that runs large frames in the same tiles as those that are tested."""
    engine = OpenVinoEngine(model_file, threads=1)
    engine._network = tiled(engine._infer, 0, SIDE)
    yield engine
    engine.close()


@pytest.mark.parametrize("shape", [ODD, (700, 256)])
def test_block_by_block_is_one_pass_bit_by_bit(
    tmp_path: Path, network: OpenVinoEngine, shape: tuple[int, int]
) -> None:
    pixels = cells(shape)
    pixels[300, 250:260] = 60_000  # what is over the network's limit goes around it
    whole = network.refocus(pixels)
    assert (whole != pixels).mean() > 0.5
    np.testing.assert_array_equal(refocused(network, pixels, tmp_path), whole)


REGIONS = [
    (0, 0, 256, 256),  # one block, at the corner
    (256, 256, 256, 256),  # one block, and what lies around it in its neighbours
    (250, 200, 300, 37),  # over a border, no block of its own
    (512, 256, 289, 409),  # to the far corner
    (0, 632, 801, 33),  # the last rows
    (0, 0, 801, 665),
]


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_is_refocused_as_if_it_were_cut_out_first(
    tmp_path: Path, network: OpenVinoEngine, region: tuple[int, int, int, int]
) -> None:
    pixels = cells(ODD)
    wanted = Refocuser(network, region=region, on_distrust="refocused").refocus(pixels).pixels
    x, y, width, height = region
    inner = np.zeros(ODD, bool)
    inner[y : y + height, x : x + width] = True
    assert (wanted != pixels)[inner].mean() > 0.5
    np.testing.assert_array_equal(wanted[~inner], pixels[~inner])
    found = refocused(
        network, pixels, tmp_path, selection=Selection(region=region), on_distrust="refocused"
    )
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("region", REGIONS)
def test_what_is_trusted_of_a_region_is_that_of_what_is_cut_out(
    tmp_path: Path, region: tuple[int, int, int, int]
) -> None:
    pixels = cells(ODD)
    wanted = Refocuser(Doubtful(), region=region).refocus(pixels).pixels
    found = refocused(Doubtful(), pixels, tmp_path, selection=Selection(region=region))
    np.testing.assert_array_equal(found, wanted)


class Doubtful(FakeEngine):
    """Trusts each tile by how bright it is, for itself or with the rest of its frame."""

    def submit(self, frame: Frame, light_path: LightPath = UNKNOWN) -> Ticket:
        return lambda: Refocused(
            np.invert(frame),
            replace(UNRATED, verdict="refocused", share=share_of(frame)),
            self.info,
        )


def share_of(pixels: Pixels) -> np.ndarray[Any, np.dtype[np.float32]]:
    tall, wide = (-(-n // TILE) for n in pixels.shape)
    share = np.zeros((tall, wide), np.float32)
    for y in range(tall):
        for x in range(wide):
            mean = pixels[y * TILE : (y + 1) * TILE, x * TILE : (x + 1) * TILE].mean()
            share[y, x] = np.clip(mean / 1000 - 0.5, 0, 1)
    return share


def test_what_is_trusted_fades_across_the_border_of_regions_as_within(tmp_path: Path) -> None:
    pixels = cells(ODD)
    judgement = replace(UNRATED, verdict="refocused", share=share_of(pixels))
    assert 0.2 < (judgement.share == 0).mean() + (judgement.share == 1).mean() < 0.8
    wanted = blend(pixels, np.invert(pixels), judgement)
    np.testing.assert_array_equal(refocused(Doubtful(), pixels, tmp_path), wanted)


@pytest.mark.parametrize(("bits", "clipped"), [(12, True), (10, False)])
def test_pixels_stay_within_the_bit_depth_of_the_plane(
    tmp_path: Path, bits: int, clipped: bool
) -> None:
    pixels = cells(ODD, top=900)
    pixels[600, 700] = 2000  # in one region
    source, target = tmp_path / "in.ome.tif", tmp_path / "out.ome.tif"
    tifffile.imwrite(source, pixels, ome=True, metadata={"axes": "YX", "SignificantBits": bits})
    process(source, target, FakeEngine(), lambda done: None)
    wanted = np.minimum(np.invert(pixels), 4095) if clipped else np.invert(pixels)
    np.testing.assert_array_equal(tifffile.imread(target), wanted)


class Uneven(FakeEngine):
    """Brightens each frame by another amount, as where each region sees filters of its own."""

    sight = object()  # type: ignore[assignment]

    def submit(self, frame: Frame, light_path: LightPath = UNKNOWN) -> Ticket:
        more = np.uint16(1000 * (int(frame[0, 0]) % 2))
        return lambda: Refocused(frame + more, UNRATED, self.info)


def test_regions_with_filters_of_their_own_fade_into_one_another(tmp_path: Path) -> None:
    pixels = np.full(ODD, 1000, np.uint16)
    pixels[::SIDE, ::2] = 1001
    pixels[64:, 64:] = 1001
    out = refocused(Uneven(), pixels, tmp_path).astype(int) - pixels
    assert out.min() == 0
    assert out.max() == 1000
    for axis in (0, 1):
        assert np.abs(np.diff(out, axis=axis)).max() <= 1000 / (2 * regions.FADE) + 2
