"""When the stage is left where it is, and what is said of it."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import useq
from scipy import ndimage

from refocus.acquisition.command.sources import Source, keep_in_focus
from refocus.acquisition.microscopes.field import Light, SpecimenField
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.acquisition.microscopes.virtual import VirtualMicroscope
from refocus.acquisition.pipeline.frame import CapturedFrame, FrameResult
from refocus.acquisition.sinks.focus_keeper import AGREEING, FocusKeeper
from refocus.configs import BBBC006, RefocusError
from refocus.engine import open_engine
from refocus.engine.protocol import Engine
from refocus.engine.trust.judgement import BLANK, DISTRUSTED, UNRATED, Judgement
from refocus.optics.camera import CameraModel

PLAN = useq.MDASequence(time_plan=useq.TIntervalLoops(interval=1, loops=20))
PIXELS = np.zeros((32, 32), np.uint16)


def judgement(distance_um: float, sigma_um: float) -> Judgement:
    share = np.ones((1, 1), np.float32)
    return Judgement("refocused", 1.0, distance_um, sigma_um, 1.0, 0.5, share)


def stage_of(
    keeper: FocusKeeper, judge: Callable[[int, float], Judgement], astray_um: float = 0.0
) -> list[float]:
    """Give where the stage was put for each event, every frame being judged before the next."""
    places = []
    for number, event in enumerate(keeper.sequence):
        assert event.z_pos is not None
        places.append(event.z_pos)
        position = {"z": event.z_pos + astray_um}
        index = dict(event.index)
        frame = CapturedFrame(PIXELS, number, "", number * 10**9, index, position_um=position)
        judged = judge(number, event.z_pos)
        keeper.put(FrameResult(frame, PIXELS, True, number, 0.0, 0.0, judgement=judged))
    return places


def rarely(often: Judgement, once: Judgement, at: int) -> Callable[[int, float], Judgement]:
    return lambda number, z_um: once if number == at else often


ALONE = rarely(judgement(0.3, 0.5), judgement(9.0, 1.0), at=10)


@pytest.mark.parametrize(
    ("judge", "astray_um", "words"),
    [
        (lambda number, z_um: BLANK, 0.0, "nothing but noise"),
        (lambda number, z_um: DISTRUSTED, 0.0, "is unfamiliar"),
        (lambda number, z_um: UNRATED, 0.0, "is unrated"),
        (lambda number, z_um: judgement(8.1, 7.1), 0.0, "8.1 ± 7.1 µm from focus is a guess"),
        (lambda number, z_um: judgement(3.0, 1.8), 0.0, "not far enough to be sure"),
        (lambda number, z_um: judgement(8.0, 1.0), 3.0, "something else moves it"),
    ],
)
def test_the_stage_stays_and_the_reason_is_told_once(
    judge: Callable[[int, float], Judgement],
    astray_um: float,
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keeper = FocusKeeper(PLAN, 5.0, 10.0)

    with caplog.at_level(logging.INFO, "refocus.focus"):
        places = stage_of(keeper, judge, astray_um)

    assert places == [5.0] * 20
    assert keeper.moves == 0
    assert [words in r.getMessage() for r in caplog.records] == [True]


def test_the_stage_moves_once_several_frames_agree(caplog: pytest.LogCaptureFixture) -> None:
    keeper = FocusKeeper(PLAN, 0.0, 10.0)

    with caplog.at_level(logging.INFO, "refocus.focus"):
        places = stage_of(keeper, lambda number, z_um: judgement(abs(z_um - 6.0), 1.0))

    assert places[:AGREEING] == [0.0] * AGREEING
    assert places[AGREEING] != 0.0
    assert places[-1] == pytest.approx(6.0, abs=1.5)
    assert "is not yet said by 3 frames" in caplog.records[0].getMessage()


def test_frames_from_before_a_move_do_not_call_for_another() -> None:
    keeper = FocusKeeper(PLAN, 0.0, 10.0)
    events = list(keeper.sequence)  # all of them on their way before the first is judged
    for number, event in enumerate(events):
        frame = CapturedFrame(
            PIXELS, number, "", number * 10**9, dict(event.index), position_um={"z": 0.0}
        )
        judged = judgement(4.0, 1.0)
        keeper.put(FrameResult(frame, PIXELS, True, number, 0.0, 0.0, judgement=judged))

    assert keeper.moves == 1


def test_one_frame_alone_moves_nothing() -> None:
    keeper = FocusKeeper(PLAN, 0.0, 10.0)

    assert stage_of(keeper, ALONE) == [0.0] * 20


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    opened = open_engine("openvino")
    yield opened
    opened.close()


def _noise(rng: np.random.Generator, level: float, sigma: float, dtype: Any) -> Any:
    return np.rint(rng.normal(level, sigma, (128, 128))).astype(dtype)


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda rng: np.zeros((128, 128), np.uint8), id="closed shutter"),
        pytest.param(lambda rng: _noise(rng, 10, 0.3, np.uint8), id="closed shutter, 8 bit"),
        pytest.param(lambda rng: _noise(rng, 100, 2, np.uint16), id="lamp off"),
        pytest.param(lambda rng: np.full((128, 128), 100, np.uint16), id="constant"),
        pytest.param(lambda rng: np.full((128, 128), 4095, np.uint16), id="saturated"),
    ],
)
def test_blank_frames_never_move_the_stage(engine: Engine, draw: Callable[[Any], Any]) -> None:
    rng = np.random.default_rng(0)
    keeper = FocusKeeper(PLAN, 0.0, 10.0)

    places = stage_of(keeper, lambda number, z_um: engine.submit(draw(rng))().judgement)

    assert places == [0.0] * 20
    assert keeper.unmoved == {"blank": 20}


def dust(seed: int, softness_px: float) -> Light:
    """Shadows of twenty specks: light that reaches each pixel of a camera."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:128, :128]
    light = np.ones((128, 128), np.float32)
    for _ in range(20):
        row, column = rng.uniform(0, 128, 2)
        light *= 1 - 0.5 * (np.hypot(rows - row, columns - column) < rng.uniform(2, 8))
    return ndimage.gaussian_filter(light, softness_px)


@pytest.mark.parametrize("softness_px", [3.0, 5.0, 7.0])
def test_the_shadows_of_dust_do_not_lead_the_stage_away(
    engine: Engine, softness_px: float, caplog: pytest.LogCaptureFixture
) -> None:
    shadow, nothing = dust(1, softness_px), np.zeros((128, 128), np.float32)
    scene = SpecimenField(
        lambda field: nothing,
        nothing.shape,
        optics=BBBC006,
        camera=CameraModel(),
        background=0.5,
        shadow=shadow,
    )
    keeper = FocusKeeper(PLAN, 0.0, 10.0)
    with VirtualMicroscope(scene, pixel_size_um=BBBC006.pixel_size_um) as microscope:

        def judge(number: int, z_um: float) -> Judgement:
            microscope.core.setZPosition(z_um)
            return engine.submit(microscope.core.snap())().judgement

        places = stage_of(keeper, judge)

    assert keeper.moves == 2  # one to see whether anything changes, and back
    assert places[-10:] == [0.0] * 10
    assert "does not move, such as dust" in caplog.text


def test_what_stood_still_at_one_position_is_not_believed_at_the_next() -> None:
    plan = PLAN.replace(axis_order="pt", stage_positions=[(0.0, 0.0, 0.0), (1.0, 0.0, 0.0)])
    keeper = FocusKeeper(plan, 0.0, 10.0)

    places = stage_of(keeper, lambda number, z_um: judgement(8.0, 1.0))

    assert max(map(abs, places[:20])) == pytest.approx(8.0, abs=1.0)
    assert places[20:] == [0.0] * 20


def test_a_specimen_that_comes_to_be_seen_is_followed_after_all() -> None:
    keeper = FocusKeeper(PLAN.replace(time_plan={"interval": 1, "loops": 40}), 0.0, 10.0)

    def first_dust(number: int, z_um: float) -> Judgement:
        return judgement(8.0 if number < 15 else abs(z_um - 4.0), 1.0)

    places = stage_of(keeper, first_dust)

    assert places[14] == 0.0
    assert places[-1] == pytest.approx(4.0, abs=1.5)


STACK = {"z_plan": {"range": 4, "step": 2}}
AUTOFOCUS = {"autofocus_plan": {"autofocus_motor_offset": 1.0, "axes": ("p",)}}


def positions(*inner: dict[str, Any] | None) -> list[useq.Position]:
    return [useq.Position(x=i, y=0, z=20.0, sequence=s) for i, s in enumerate(inner)]


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (STACK, "z-stacks"),
        ({"stage_positions": positions(STACK, STACK)}, "z-stacks"),
        (AUTOFOCUS | {"time_plan": {"interval": 1, "loops": 2}}, "autofocus_plan"),
        ({"stage_positions": positions(None, AUTOFOCUS)}, "autofocus_plan"),
        ({"stage_positions": positions(None, STACK | AUTOFOCUS)}, "autofocus_plan"),
    ],
)
def test_sequences_that_move_focus_themselves_are_refused(plan: dict[str, Any], words: str) -> None:
    with pytest.raises(RefocusError, match=words) as caught:
        FocusKeeper(useq.MDASequence(**plan), 0.0, 10.0)
    assert "\n" not in str(caught.value)


def test_stacks_of_sub_sequences_are_left_as_planned(caplog: pytest.LogCaptureFixture) -> None:
    plan = useq.MDASequence(
        axis_order="tpgcz",
        time_plan=useq.TIntervalLoops(interval=1, loops=8),
        stage_positions=positions(None, STACK),
    )
    planned = [event.z_pos for event in plan if "z" in event.index]
    keeper = FocusKeeper(plan, 0.0, 10.0)
    taken: list[tuple[bool, float]] = []

    def far(number: int, z_um: float) -> Judgement:
        taken.append(("z" in list(plan)[number].index, z_um))
        return judgement(abs(z_um - 26.0), 1.0)

    stage_of(keeper, far)

    assert [z for in_stack, z in taken if in_stack] == planned
    assert [z for in_stack, z in taken if not in_stack][-1] == pytest.approx(26.0, abs=1.5)
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert told == ["--act: the stage is not moved: the planes of a stack are left as planned"]


def test_a_continuous_focus_that_is_on_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with SimulatedMicroscope(frame_shape=(64, 64)) as microscope:
        monkeypatch.setattr(microscope.core, "getAutoFocusDevice", lambda: "PFS")
        monkeypatch.setattr(microscope.core, "isContinuousFocusEnabled", lambda: True)
        source = Source(microscope.core, PLAN, 20, False, microscope.truth)
        with pytest.raises(RefocusError, match="continuous focus PFS is on"):
            keep_in_focus(source, 10.0)
