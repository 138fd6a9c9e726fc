"""One suite that every engine passes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from refocus.configs import Optics
from refocus.configs.light_path import Blur
from refocus.configs.trust import Verdict
from refocus.engine import Engine, EngineError, open_engine
from refocus.engine.nvidia import find_gpu
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.parity import adversarial_frames, compare, difference
from refocus.engine.protocol import UNKNOWN, LightPath, refocus_all
from refocus.engine.shipped import shipped_models
from refocus.engine.torch.engine import TorchEngine
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import defocus
from refocus.optics.specimens import nuclei
from refocus.training.network.checkpoint_engine import CheckpointEngine

WITH_NETWORK = [
    "openvino",
    "torch-cpu",
    "torch-cpu-fp16",
    "triton",
    pytest.param("torch", marks=pytest.mark.gpu),
    pytest.param("tensorrt", marks=pytest.mark.gpu),
    pytest.param("tensorrt-rtx", marks=pytest.mark.gpu),
]
TELLING = ("odd size", "nearly empty", "one hot pixel", "black")
"""Of the adversarial frames, those that engines differ on first."""
GPU_ENGINES = ("torch", "tensorrt", "tensorrt-rtx")


def opened(name: str, model: Path, request: pytest.FixtureRequest) -> Engine:
    if name in GPU_ENGINES and find_gpu() is None:
        pytest.skip("needs an NVIDIA GPU and its driver")
    if name == "triton":
        server = request.getfixturevalue("server")
        return open_engine(f"{server.address}/{model.stem}?model={model}")
    if name.startswith("torch-cpu"):
        return TorchEngine(model, "cpu", half=name.endswith("fp16"))
    try:
        return open_engine(name, model)
    except EngineError as error:
        if name in GPU_ENGINES:
            pytest.skip(f"not installed or not for this GPU: {error}")
        raise


@pytest.fixture(scope="module", params=WITH_NETWORK)
def network(request: pytest.FixtureRequest, model_file: Path) -> Iterator[Engine]:
    """Give an engine that has a network."""
    engine = opened(request.param, model_file, request)
    yield engine
    engine.close()


@pytest.fixture(scope="module", params=["fake", *WITH_NETWORK])
def engine(request: pytest.FixtureRequest, model_file: Path) -> Iterator[Engine]:
    """Give any engine."""
    engine = opened(request.param, model_file, request)
    yield engine
    engine.close()


def cells(shape: tuple[int, int] = (64, 96), dtype: type = np.uint16) -> np.ndarray:
    rng = np.random.default_rng(shape[0] * shape[1])
    ramp = np.add.outer(np.sin(np.arange(shape[0]) / 5), np.cos(np.arange(shape[1]) / 7))
    top = 200 if dtype == np.uint8 else 9000
    return rng.poisson(top * (ramp + 2.2) / 5).clip(0, np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(32, 32), (33, 47), (64, 96), (95, 128)])
def test_same_shape_and_dtype_in_new_memory(
    engine: Engine, shape: tuple[int, int], dtype: type
) -> None:
    frame = cells(shape, dtype)
    before = frame.copy()
    frame.flags.writeable = False
    refocused = engine.refocus(frame)
    assert refocused.shape == shape
    assert refocused.dtype == dtype
    assert not np.shares_memory(refocused, frame)
    assert refocused.flags.writeable
    np.testing.assert_array_equal(frame, before)


def test_frame_that_is_a_view_of_a_larger_one(engine: Engine) -> None:
    sensor = cells((128, 192))
    region = sensor[::2, ::2]
    np.testing.assert_array_equal(engine.refocus(region), engine.refocus(region.copy()))


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (np.zeros((64, 64, 3), np.uint8), "one channel"),
        (np.zeros((64, 64), np.float32), "uint8 or uint16"),
        (np.zeros((64, 64), np.int16), "uint8 or uint16"),
        (np.zeros((31, 64), np.uint16), "32×32 is the smallest"),
        (np.zeros((0, 64), np.uint16), "32×32 is the smallest"),
    ],
)
def test_what_is_no_frame_is_refused(network: Engine, frame: np.ndarray, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        network.refocus(frame)


def test_network_does_something(network: Engine) -> None:
    frame = cells()
    changed = np.abs(network.refocus(frame).astype(float) - frame)
    assert changed.mean() > 10


@pytest.mark.parametrize(("gain", "offset"), [(2, 0), (1, 5000), (3, 1500)])
def test_equivariant_to_intensity(network: Engine, gain: int, offset: int) -> None:
    frame = cells() + np.uint16(1000)
    plain = network.refocus(frame).astype(float)
    scaled = network.refocus(frame * np.uint16(gain) + np.uint16(offset)).astype(float)
    span = np.ptp(plain) * gain
    apart = np.abs(scaled - (plain * gain + offset))
    # the rounding of `plain` is multiplied; FP16 rounds the same units either way
    assert apart.max() <= gain / 2 + 0.5 + 1e-3 * span


def test_same_frame_gives_same_result(network: Engine) -> None:
    frame = cells()
    np.testing.assert_array_equal(network.refocus(frame), network.refocus(frame))


def test_stream_equals_one_by_one(engine: Engine) -> None:
    frames = [cells() + np.uint16(17 * n) for n in range(7)]
    streamed = list(refocus_all(engine, iter(frames)))
    for frame, refocused in zip(frames, streamed, strict=True):
        np.testing.assert_array_equal(refocused.pixels, engine.refocus(frame))


def test_as_many_frames_as_it_says_are_under_way_and_each_gets_its_own(engine: Engine) -> None:
    frames = [cells() + np.uint16(17 * n) for n in range(engine.overlap)]
    tickets = [engine.submit(frame) for frame in frames]
    results = [ticket() for ticket in tickets]
    for frame, refocused in zip(frames, results, strict=True):
        np.testing.assert_array_equal(refocused.pixels, engine.refocus(frame))
        assert refocused.engine == engine.info
        assert refocused.judgement.verdict in get_args(Verdict)


def test_a_frame_that_fails_costs_the_next_one_nothing(network: Engine) -> None:
    with pytest.raises(EngineError):
        network.refocus(np.zeros((64, 64), np.float32))
    for _ in range(2 * network.overlap):
        network.refocus(cells())


def test_concurrent_callers_get_their_own_frames(engine: Engine) -> None:
    frames = [cells((64, 64 + 32 * (n % 2))) + np.uint16(31 * n) for n in range(12)]
    wanted = [engine.refocus(frame) for frame in frames]
    with ThreadPoolExecutor(4) as callers:
        given = list(callers.map(engine.refocus, frames))
    for a, b in zip(wanted, given, strict=True):
        np.testing.assert_array_equal(a, b)


def test_warm_up_changes_nothing(engine: Engine) -> None:
    frame = cells((40, 72))
    engine.warm_up((40, 72), np.dtype(np.uint16))
    np.testing.assert_array_equal(engine.refocus(frame), engine.refocus(frame))


def test_parity_with_the_checkpoint(network: Engine, checkpoint_file: Path) -> None:
    frames = {name: adversarial_frames()[name] for name in TELLING}
    differences = compare(CheckpointEngine(checkpoint_file), network, frames)
    assert [d.problem for d in differences] == [""] * len(frames)


@pytest.mark.parametrize("name", WITH_NETWORK)
def test_close_and_open_again(name: str, model_file: Path, request: pytest.FixtureRequest) -> None:
    frame = cells((32, 32))
    first = opened(name, model_file, request)
    wanted = first.refocus(frame)
    first.close()
    first.close()
    with pytest.raises(EngineError, match="closed"):
        first.refocus(frame)
    second = opened(name, model_file, request)
    np.testing.assert_array_equal(second.refocus(frame), wanted)
    second.close()


def test_info_names_the_model(network: Engine) -> None:
    described = network.info.describe()
    assert described["model"] == "random"
    assert len(described["sha256"]) == 64
    assert described["precision"] in {"f32", "bf16", "fp16"}
    assert described["device"]


def test_a_hot_pixel_stays_where_it_is(network: Engine) -> None:
    frame = np.random.default_rng(0).poisson(100, (64, 64)).astype(np.uint16)
    frame[20, 30] = 65535
    refocused = network.refocus(frame)
    assert refocused[20, 30] > 60000
    assert refocused[50:, :].max() < 1000


OIL = LightPath(0.108, 1.4, 1.515, 0.52, (Blur(0.29, 0.924, 9.0),))
"""An oil objective, and how far it is from focus."""


@pytest.fixture(scope="module")
def judged_frames() -> dict[str, np.ndarray]:
    """Give a frame out of focus, one in focus, and one without a specimen."""
    rng = np.random.default_rng(4)
    light = nuclei((288, 352), rng) * 3000 + 200
    camera = CameraModel()
    return {
        "out of focus": camera.expose(defocus(light, Optics(spherical_waves=-0.5), 8.0), rng),
        "in focus": camera.expose(light, rng),
        "nothing": camera.expose(np.full((288, 352), 2.0), rng),
    }


@pytest.mark.parametrize("told", [UNKNOWN, OIL], ids=["blind", "told"])
@pytest.mark.parametrize("name", [n for n in WITH_NETWORK if n != "openvino"])
def test_engines_agree_on_frames_of_any_objective(
    name: str,
    told: LightPath,
    judged_frames: dict[str, np.ndarray],
    request: pytest.FixtureRequest,
) -> None:
    model = shipped_models()["any-objective"]
    reference, engine = OpenVinoEngine(model, precision="f32"), opened(name, model, request)
    try:
        telling = {name: adversarial_frames()[name] for name in TELLING}
        for kind, frame in (judged_frames | telling).items():
            wanted, given = (e.submit(frame, told)().pixels for e in (reference, engine))
            found = difference(kind, wanted.astype(np.float64), given.astype(np.float64))
            assert not found.problem, found
    finally:
        reference.close()
        engine.close()


@pytest.mark.parametrize("model", sorted(shipped_models()))
@pytest.mark.parametrize("name", [n for n in WITH_NETWORK if n != "openvino"])
def test_engines_agree_on_how_far_to_trust(
    name: str,
    model: str,
    judged_frames: dict[str, np.ndarray],
    request: pytest.FixtureRequest,
) -> None:
    reference = OpenVinoEngine(shipped_models()[model], precision="f32")
    engine = opened(name, shipped_models()[model], request)
    try:
        for frame in judged_frames.values():
            wanted = reference.submit(frame)().judgement
            found = engine.submit(frame)().judgement
            assert wanted.verdict != "unrated"
            assert found.verdict == wanted.verdict
            if wanted.verdict == "blank":
                assert found is wanted
                continue
            assert found.score == pytest.approx(wanted.score, abs=0.05)
            assert found.distance_um == pytest.approx(wanted.distance_um, abs=0.2)
            assert found.consistency == pytest.approx(wanted.consistency, rel=0.05)
            np.testing.assert_allclose(found.share, wanted.share, atol=0.2)
    finally:
        reference.close()
        engine.close()
