"""What a model for any objective is shown, and in whose µm it speaks."""

import numpy as np
import onnx
import pytest

from refocus.configs.light_path import UNKNOWN, Blur, LightPath
from refocus.engine import EngineError
from refocus.engine.light_path.filters import CHANNELS, show, tables
from refocus.engine.light_path.sight import Sight, open_sight, told
from refocus.engine.model_file import ESTIMATOR_KEY, embed_estimator, read_model
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.refocuser import Refocuser
from refocus.engine.resample import ResamplingEngine, match_sampling
from refocus.engine.shipped import default_model, shipped_models
from refocus.optics.specimens import nuclei

FRAME = (4000 * nuclei((96, 128), np.random.default_rng(0))).astype(np.uint16) + 100
BLUR = Blur(0.4, 0.6, 6.0, 0.1)


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """Give the model for any objective."""
    return read_model(shipped_models()["any-objective"])[0]


@pytest.fixture(scope="module")
def sight(model: onnx.ModelProto) -> Sight:
    """Give what shows frames to it."""
    opened = open_sight(model, read_model(shipped_models()["any-objective"])[1], "it")
    assert opened is not None
    return opened


def test_a_model_that_sees_the_frame_alone_has_none() -> None:
    assert open_sight(*read_model(default_model()), "it") is None


@pytest.mark.parametrize("weights", ["no JSON", '{"shapes": [[100, 3]], "data": "AAAA"}'])
def test_an_estimator_that_was_altered_is_refused(weights: str) -> None:
    model, card = read_model(shipped_models()["any-objective"])
    assert [p.key for p in model.metadata_props].count(ESTIMATOR_KEY) == 1
    embed_estimator(model, weights)
    with pytest.raises(EngineError, match=r"it: its estimator .* export it again"):
        open_sight(model, card, "it")


def test_what_is_believed_is_not_estimated(sight: Sight) -> None:
    assert sight.likely(FRAME, LightPath(believed=(BLUR,))) == (BLUR, BLUR)
    assert sight.likely(FRAME, UNKNOWN).first.radius >= 0.0
    shown = show(FRAME.astype(np.float32), sight.likely(FRAME, LightPath(believed=(BLUR,))))
    assert shown.shape == (CHANNELS, *FRAME.shape)
    assert np.isfinite(shown).all()


@pytest.mark.parametrize(
    ("path", "factor"),
    [
        (UNKNOWN, 1.0),
        (LightPath(pixel_size_um=0.328), 0.5),  # the same cone of light on smaller pixels
        (LightPath(0.656, 0.5), 1.0),
        (LightPath(0.328, 0.75), 0.5 * 0.57735 / 1.13389),
        (LightPath(0.108, 1.4, 1.515, 0.52), 0.108 / 0.656 * 0.57735 / 2.41884),
    ],
)
def test_distances_are_of_the_users_own_objective(
    sight: Sight, path: LightPath, factor: float
) -> None:
    assert sight.um_per_unit(path) == pytest.approx(factor, rel=1e-3)


@pytest.mark.parametrize(
    ("path", "sampling", "aperture"),
    [
        (UNKNOWN, 0.0, 0.0),
        (LightPath(0.5, 0.4, 1.0, 0.5), 0.4, 0.4),
        (LightPath(0.1, 1.2, 0.0, 0.6), 0.2, 1.2 / 1.515),  # no dry one has that
        (LightPath(0.0, 0.4), 0.0, 0.4),
    ],
)
def test_what_is_told_of_the_optics(path: LightPath, sampling: float, aperture: float) -> None:
    assert told(path) == pytest.approx((sampling, aperture))


@pytest.mark.parametrize(
    "path",
    [
        LightPath(50.0, 1.4, 1.515, 0.25),  # sampling 280
        LightPath(13.0, 0.9, 1.0, 0.5),
        LightPath(0.02, 0.05, 1.0, 2.0),  # sampling 0.0005
    ],
)
def test_optics_far_outside_the_range_cost_no_more_than_others(
    sight: Sight, path: LightPath
) -> None:
    first = sight.likely(FRAME, path).first
    assert 0.1 <= first.sampling <= 1.2
    assert np.isfinite(tables(sight.likely(FRAME, path))).all()


def test_what_is_outside_the_range_is_said_once_and_resampled_where_that_helps(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = OpenVinoEngine(shipped_models()["any-objective"], precision="f32")
    try:
        refocuser = Refocuser(engine)
        fine, coarse = LightPath(0.05, 0.4, 1.0, 0.5), LightPath(2.0, 0.5, 1.0, 0.5)
        for _ in range(2):
            assert refocuser.refocus(FRAME, light_path=coarse).pixels.shape == FRAME.shape
        assert caplog.text.count("so its results may be unfamiliar") == 1
        assert match_sampling(engine, coarse) is engine
        assert isinstance(match_sampling(engine, fine), ResamplingEngine)
        with pytest.raises(EngineError, match=r"sampling 0.002 .* check"):
            match_sampling(engine, LightPath(0.05, 0.02, 1.0, 0.5))
    finally:
        engine.close()


def test_frames_of_a_run_are_refocused_with_what_those_before_them_told() -> None:
    engine = OpenVinoEngine(shipped_models()["any-objective"], precision="f32")
    heard: list[LightPath] = []
    submit = engine.submit

    def listening(frame: np.ndarray, light_path: LightPath = UNKNOWN):
        heard.append(light_path)
        return submit(frame, light_path)

    engine.submit = listening  # type: ignore[method-assign]
    try:
        refocuser = Refocuser(engine)
        for _ in range(2):
            refocuser.refocus(FRAME, "DAPI", position="p0")
        refocuser.refocus(FRAME, "FITC", position="p0")
        refocuser.refocus(FRAME, "FITC", LightPath(believed=(BLUR,)))
    finally:
        engine.close()
    assert all(len(path.believed) == 2 for path in heard[:3])
    assert heard[2].believed == heard[0].believed  # a channel has a belief of its own
    assert heard[3].believed == (BLUR,)
