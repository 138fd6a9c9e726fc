"""What becomes of frames where focus jumps inside a run."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from refocus.configs.light_path import LightPath
from refocus.engine.light_path.belief import EVERY_FRAME, Beliefs, sharpness
from refocus.engine.light_path.estimate import (
    ABERRATIONS,
    PRIOR,
    RADII,
    Posterior,
    log_softmax,
)
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.protocol import UNKNOWN, EngineError
from refocus.engine.refocuser import Refocuser
from refocus.engine.shipped import shipped_models
from refocus.optics.transfer import light_path_of, paraxial
from refocus.training.judging import objectives
from refocus.training.judging.objectives import KINDS, OBJECTIVES, examples, quality

SILENT = Posterior(log_softmax(PRIOR), 0.7, 0.5)


def at(row: int, part: float = 0.99) -> Posterior:
    """Say that a frame is blurred by a radius of the grid; the rest, that it may be any."""
    chances = np.full(PRIOR.shape, (1 - part) / PRIOR.size)
    chances[row, ABERRATIONS.size // 2] += part
    return Posterior(log_softmax(np.log(chances)), 0.7, 0.5)


@pytest.fixture
def beliefs() -> Beliefs:
    """Give what is believed after many frames alike, whose sharpness was 1."""
    beliefs = Beliefs()
    for _ in range(EVERY_FRAME + 2):
        beliefs.after("DAPI", "p0", at(18), sharp=1.0)
    return beliefs


@pytest.mark.parametrize(
    ("sharp", "looked_at"), [(1.0, False), (1.15, False), (1.3, True), (0.7, True)]
)
def test_a_frame_that_is_not_as_sharp_is_looked_at(
    beliefs: Beliefs, sharp: float, looked_at: bool
) -> None:
    assert (beliefs.known("DAPI", "p0", sharp=sharp) == ()) is looked_at


def test_such_a_frame_is_believed_where_it_says_that_focus_jumped(beliefs: Beliefs) -> None:
    assert beliefs.known("DAPI", "p0", sharp=3.0) == ()
    first, _ = beliefs.after("DAPI", "p0", at(2), sharp=3.0)
    assert first.radius == pytest.approx(RADII[2] / paraxial(0.5), rel=0.1)


@pytest.mark.parametrize(("part", "most"), [(0.99, 1), (0.9, 2), (0.5, 3), (0.3, 4)])
def test_frames_are_looked_at_until_it_is_decided(beliefs: Beliefs, part: float, most: int) -> None:
    looked = 0
    while beliefs.known("DAPI", "p0", sharp=3.0) == ():
        first, _ = beliefs.after("DAPI", "p0", at(2, part), sharp=3.0)
        looked += 1
    assert looked <= most
    assert first.radius == pytest.approx(RADII[2] / paraxial(0.5), rel=0.1)


def test_one_that_does_not_say_how_it_is_blurred_is_in_doubt_until_one_does(
    beliefs: Beliefs,
) -> None:
    for _ in range(3):
        assert beliefs.known("DAPI", "p0", sharp=3.0) == ()
        first, _ = beliefs.after("DAPI", "p0", SILENT, sharp=3.0)
        assert first.chance == 0.0
        assert first.radius == pytest.approx(RADII[18] / paraxial(0.5), rel=0.1)
    first, _ = beliefs.after("DAPI", "p0", at(18), sharp=3.0)
    assert first.chance > 0.5


def test_and_changes_nothing_where_it_says_what_was_believed(beliefs: Beliefs) -> None:
    before, said = beliefs.seen()["DAPI"], at(19)
    assert beliefs.known("DAPI", "p0", sharp=3.0) == ()
    assert beliefs.after("DAPI", "p0", said, sharp=3.0) == before.likely
    np.testing.assert_array_equal(beliefs.seen()["DAPI"].chances, before.chances)
    # and the next one of that specimen need not be looked at
    assert beliefs.known("DAPI", "p0", sharp=3.0) == before.likely


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_sharpness_is_that_of_the_specimen(dtype: type) -> None:
    sharp = np.random.default_rng(0).uniform(0, 200, (300, 200))
    soft = np.mean([np.roll(sharp, by, 1) for by in range(8)], 0)
    first = sharpness(sharp.astype(dtype))
    assert sharpness((0.5 * sharp + 20).astype(dtype)) == pytest.approx(first, rel=0.03)
    assert sharpness(soft.astype(dtype)) < 0.7 * first
    assert sharpness(np.full((64, 64), 7, dtype)) == 0.0


@pytest.fixture(scope="module")
def engine() -> Iterator[OpenVinoEngine]:
    """Give the model that ships for any objective."""
    engine = OpenVinoEngine(shipped_models()["any-objective"], precision="f32")
    yield engine
    engine.close()


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize(("number", "kinds"), [(2, KINDS), (4, KINDS), (1, ("tissue",))])
def test_no_frame_is_made_worse_where_focus_is_found_again(
    engine: OpenVinoEngine,
    number: int,
    kinds: tuple[str, ...],
    told: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(objectives, "KINDS", kinds)
    case = OBJECTIVES[number]
    known = light_path_of(case.optics) if told else LightPath()
    run = Refocuser(engine)
    for example in examples(case, EVERY_FRAME + 2):
        run.believe(example.frame, "DAPI", known, "p0")
    for example in examples(case._replace(defocus_um=0.0), 5, seed=33):
        found = run.refocus(example.frame, "DAPI", known, position="p0")
        assert quality(example, found.pixels) > quality(example, example.frame) - 0.3
    assert found.judgement.verdict in {"in-focus", "unfamiliar"}


def test_what_a_frame_doubts_is_not_trusted(engine: OpenVinoEngine) -> None:
    case = OBJECTIVES[1]
    told = light_path_of(case.optics, case.defocus_um)
    doubted = tuple(blur._replace(chance=0.0) for blur in told.believed)
    (example,) = examples(case, 1)
    trusted = engine.submit(example.frame, told)().judgement
    found = engine.submit(example.frame, replace(told, believed=doubted))().judgement
    assert (trusted.verdict, found.verdict) == ("refocused", "unfamiliar")
    assert found.share.max() == 0


@pytest.mark.parametrize("empty", [1, 30])
@pytest.mark.parametrize("position", ["p0", "p{}"])
def test_empty_frames_teach_nothing(engine: OpenVinoEngine, empty: int, position: str) -> None:
    case, rng = OBJECTIVES[4], np.random.default_rng(0)
    between, without = Refocuser(engine), Refocuser(engine)
    for number, example in enumerate(examples(case, 3)):
        for dark in range(empty):
            frame = rng.normal(100, 3, (320, 320)).round().astype(np.uint16)
            between.believe(frame, "", UNKNOWN, position.format(f"{number}-{dark}"))
        given, wanted = (
            refocuser.refocus(example.frame, position=f"w{number}").pixels
            for refocuser in (between, without)
        )
        np.testing.assert_array_equal(given, wanted)


@pytest.mark.parametrize("frames", [20, 400])
def test_an_aberration_that_was_changed_is_believed_however_long_the_run(frames: int) -> None:
    def turned(column: int) -> Posterior:
        chances = np.full(PRIOR.shape, 0.01 / PRIOR.size)
        chances[18, column] += 0.99
        return Posterior(log_softmax(np.log(chances)), 0.7, 0.5)

    beliefs = Beliefs()
    for number in range(frames):
        beliefs.after("DAPI", f"p{number}", turned(2))
    for number in range(4):
        first, _ = beliefs.after("DAPI", f"q{number}", turned(5))
    assert first.spherical == pytest.approx(ABERRATIONS[5], abs=0.05)


@pytest.mark.parametrize("nowhere", [float("nan"), float("inf")])
def test_a_stage_that_does_not_know_where_it_is_harms_no_frame(
    engine: OpenVinoEngine, nowhere: float
) -> None:
    example = next(iter(examples(OBJECTIVES[1], 1)))
    path = light_path_of(OBJECTIVES[1].optics)
    lost, none = Refocuser(engine), Refocuser(engine)
    for z_um in (0.0, nowhere, 1.0):
        lost.refocus(example.frame, "", path, position="p0", z_um=z_um)
    for z_um in (0.0, None, 1.0):
        none.refocus(example.frame, "", path, position="p0", z_um=z_um)
    wanted, given = (
        r.refocus(example.frame, "", path, position="p0", z_um=2.0).pixels for r in (none, lost)
    )
    np.testing.assert_array_equal(given, wanted)


@pytest.mark.parametrize("shape", [(0, 64), (16, 16), (1, 400)])
def test_a_frame_that_is_refused_teaches_nothing(
    engine: OpenVinoEngine, shape: tuple[int, int]
) -> None:
    refocuser = Refocuser(engine)
    with pytest.raises(EngineError, match="smallest"):
        refocuser.refocus(np.zeros(shape, np.uint16))
    assert refocuser.believe(np.zeros((256, 256), np.uint16), "", UNKNOWN, "").believed == ()
