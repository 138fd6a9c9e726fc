"""Frames of another pixel size."""

import logging

import numpy as np
import pytest
from scipy import ndimage

from refocus.configs import ModelCard, Optics
from refocus.engine import EngineError, EngineInfo, open_engine
from refocus.engine.fake import FakeEngine
from refocus.engine.protocol import Frame
from refocus.engine.resample import match_pixel_size
from refocus.optics.specimens import nuclei

CARD = ModelCard(
    name="for 0.65 µm",
    version="1",
    architecture="compact",
    optics=Optics(pixel_size_um=0.65),
    defocus_um=(-10, 10),
    training_data="",
    licence="",
)


class Identity(FakeEngine):
    """Changes nothing, or adds to every pixel; notes the shapes it sees."""

    def __init__(self, add: int = 0) -> None:
        super().__init__()
        self.add = add
        self.shapes: list[tuple[int, ...]] = []

    @property
    def info(self) -> EngineInfo:
        return EngineInfo("identity", "none", "exact", CARD)

    def refocus(self, frame: Frame) -> Frame:
        self.shapes.append(frame.shape)
        return frame + np.uint16(self.add)


@pytest.mark.parametrize("size", [0.0, 0.65, 0.60, 0.71])
def test_close_enough_is_left_alone(size: float, caplog: pytest.LogCaptureFixture) -> None:
    engine = Identity()
    assert match_pixel_size(engine, size) is engine
    assert not caplog.records


def test_engine_without_a_card_is_left_alone() -> None:
    engine = FakeEngine()
    assert match_pixel_size(engine, 0.1) is engine


@pytest.mark.parametrize("size", [-1.0, np.nan, np.inf, 50.0, 0.01])
def test_impossible_sizes(size: float) -> None:
    with pytest.raises(EngineError, match="pixel size"):
        match_pixel_size(Identity(), size)


@pytest.mark.parametrize("size", [0.1083, 0.325, 1.3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_nothing_of_the_frame_is_lost(
    size: float, dtype: type, caplog: pytest.LogCaptureFixture
) -> None:
    inner = Identity()
    with caplog.at_level(logging.WARNING, "refocus.engine"):
        engine = match_pixel_size(inner, size)
    assert len(caplog.records) == 1
    top = np.iinfo(dtype).max
    frame = np.random.default_rng(3).integers(0, top, (213, 330), dtype, endpoint=True)
    np.testing.assert_array_equal(engine.refocus(frame), frame)
    ratios = [n / m for n, m in zip(inner.shapes[0], frame.shape, strict=True)]
    assert ratios == pytest.approx([size / 0.65] * 2, abs=0.01)
    engine.close()
    assert inner.closed


def test_the_correction_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    engine = match_pixel_size(Identity(add=500), 0.325)
    frame = np.full((100, 120), 1000, np.uint16)
    np.testing.assert_array_equal(engine.refocus(frame), 1500)


def test_resampled_equals_native_sampling(caplog: pytest.LogCaptureFixture) -> None:
    """A camera with finer pixels sees the correction that one with the model's pixels does."""

    class Sharpening(Identity):
        def refocus(self, frame: Frame) -> Frame:
            pixels = frame.astype(float)
            return np.rint(2 * pixels - ndimage.gaussian_filter(pixels, 3)).astype(frame.dtype)

    fine = 9000 + 8000 * ndimage.gaussian_filter(nuclei((192, 192), np.random.default_rng(5)), 2)
    coarse = fine.reshape(96, 2, 96, 2).mean((1, 3)).astype(np.uint16)
    engine = match_pixel_size(Sharpening(), 0.325)
    matched = engine.refocus(fine.astype(np.uint16)).reshape(96, 2, 96, 2).mean((1, 3))
    native = Sharpening().refocus(coarse).astype(float)
    changed = np.abs(native - coarse).mean()
    assert np.abs(matched - native).mean() < 0.1 * changed


@pytest.mark.parametrize("size", [0.325, 1.3])
def test_noise_is_no_structure_for_being_resampled(size: float) -> None:
    frame = np.random.default_rng(0).normal(100, 2, (128, 128)).round().astype(np.uint16)
    engine = match_pixel_size(open_engine("openvino"), size)
    try:
        assert engine.submit(frame)().judgement.verdict == "blank"
    finally:
        engine.close()


@pytest.mark.parametrize("shape", [(32, 32), (64, 64), (40, 300), (33, 47)])
def test_a_small_frame_of_fine_pixels_is_brought_to_the_same_pixel_size(
    shape: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    inner = Identity(add=500)
    engine = match_pixel_size(inner, 0.108)
    frame = np.random.default_rng(3).integers(100, 4000, shape).astype(np.uint16)
    np.testing.assert_array_equal(engine.refocus(frame), frame + 500)
    (seen,) = inner.shapes
    for length, of in zip(seen, shape, strict=True):
        whole = max(of, np.ceil(32 * 0.65 / 0.108))
        assert length == pytest.approx(whole * 0.108 / 0.65, abs=0.6)
