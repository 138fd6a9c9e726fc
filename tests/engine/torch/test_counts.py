"""Normalisation on tensors is that of NumPy."""

import numpy as np
import pytest

from refocus.engine.parity import adversarial_frames
from refocus.engine.prepare import prepare
from refocus.engine.torch.counts import as_frame, as_tensor, refocus_counts

FRAMES = adversarial_frames()


@pytest.mark.parametrize("name", FRAMES)
def test_counts_equal_those_of_numpy(name: str) -> None:
    frame = FRAMES[name]
    prepared = prepare(frame)
    wanted = prepared.counts(prepared.seen * np.float32(0.75) + np.float32(0.01))
    given, finite, *_ = refocus_counts(as_tensor(frame), lambda pixels: (pixels * 0.75 + 0.01,))
    assert bool(finite)
    apart = as_frame(given).astype(int) - wanted
    assert np.abs(apart).max() <= 1  # a sum in FP32 may fall on the other side of one half
    assert (apart != 0).mean() < 1e-3


@pytest.mark.parametrize("shape", [(700, 900), (1030, 517)])
def test_large_frames_are_sampled_alike(shape: tuple[int, int]) -> None:
    frame = np.random.default_rng(2).poisson(500, shape).astype(np.uint16)
    given = refocus_counts(as_tensor(frame), lambda pixels: (pixels,)).counts
    np.testing.assert_array_equal(as_frame(given), frame)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_told(value: float) -> None:
    frame = FRAMES["cells"]
    assert not refocus_counts(as_tensor(frame), lambda pixels: (pixels * value,)).finite
