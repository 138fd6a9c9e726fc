"""What a rig's runs keep of its light path: one begins where another ended, of the same model."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine
from refocus.engine.light_path.belief import Beliefs
from refocus.engine.light_path.belief_file import BeliefFile
from refocus.engine.light_path.estimate import ABERRATIONS, RADII, Posterior, log_softmax
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.refocuser import Refocuser
from refocus.engine.shipped import shipped_models
from refocus.optics.specimens import nuclei

FRAME = (4000 * nuclei((96, 96), np.random.default_rng(0))).astype(np.uint16) + 100


def seen(row: int, column: int) -> Posterior:
    """Give a frame that names one place of the grid."""
    chances = np.full((RADII.size, ABERRATIONS.size), 1e-3)
    chances[row, column] = 0.9
    return Posterior(log_softmax(np.log(chances)), 0.7, 0.5)


@pytest.fixture
def engine() -> Iterator[OpenVinoEngine]:
    opened = OpenVinoEngine(shipped_models()["any-objective"], precision="f32")
    yield opened
    opened.close()


def test_a_run_begins_with_the_aberration_of_the_one_before_at_any_distance(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rig.json"
    run = Beliefs()
    for _ in range(12):
        run.after("DAPI", "p0", seen(8, 2))
    BeliefFile(path, lambda channel: "a" * 64).write(run)

    file = BeliefFile(path, lambda channel: "a" * 64)
    doubtful = Posterior(np.logaddexp(seen(15, 2).log, seen(15, 5).log), 0.7, 0.5)
    fresh, told = Beliefs(), file.read()
    assert told.known("DAPI", "p0") == ()  # every frame is looked at
    by_itself = fresh.after("DAPI", "p0", doubtful)
    with_before = told.after("DAPI", "p0", doubtful)
    # the distance is another one, the aberration the same
    assert with_before[0].radius == pytest.approx(by_itself[0].radius, rel=0.1)
    assert with_before[0].spherical == pytest.approx(ABERRATIONS[2], abs=0.1)
    for _ in range(12):  # an instrument that was changed is believed in the end
        changed = told.after("DAPI", "p0", seen(15, 4))
    assert changed[0].spherical == pytest.approx(ABERRATIONS[4], abs=0.1)


def test_channels_that_a_run_did_not_see_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "made" / "rig.json"
    for channel in ("DAPI", "FITC"):
        file = BeliefFile(path, lambda channel: "a" * 64)
        run = file.read()
        run.after(channel, "p0", seen(8, 2))
        file.write(run)
    stored = json.loads(path.read_text())
    assert stored["schema"] == "refocus-light-path/1"
    assert set(stored["channels"]) == {"DAPI", "FITC"}
    assert stored["channels"]["DAPI"]["frames"] == 1
    assert [p.name for p in path.parent.iterdir()] == ["rig.json"]


def test_a_model_keeps_what_its_frames_told(engine: OpenVinoEngine, tmp_path: Path) -> None:
    path = tmp_path / "rig.json"
    for _ in range(2):
        refocuser = Refocuser(engine, light_path=path)
        refocuser.refocus(FRAME, "DAPI")
        refocuser.keep_light_path()
    kept = json.loads(path.read_text())["channels"]["DAPI"]
    assert engine.info.card is not None
    assert kept["estimator_sha256"] == engine.info.card.estimator_sha256
    assert kept["frames"] == 2
    assert np.sum(kept["chances"]) == pytest.approx(1.0, abs=1e-3)


def _change(text: str, **changes: Any) -> str:
    stored = json.loads(text)
    stored["channels"]["DAPI"] |= changes
    return json.dumps(stored)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_a_pipe_is_neither_read_nor_replaced(tmp_path: Path) -> None:
    path = tmp_path / "rig.json"
    os.mkfifo(path)
    with pytest.raises(RefocusError, match="is no file of light paths"):
        BeliefFile(path, lambda channel: "")
    assert path.is_fifo()


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda t: _change(t, estimator_sha256="b" * 64), "of channel DAPI was estimated by anoth"),
        (lambda t: _change(t, chances=[[0.0] * 9] * 27), "is no file of light paths"),
        (lambda t: _change(t, chances=[[1.0]]), "is no file of light paths"),
        (lambda t: _change(t, sampling=-1), "is no file of light paths"),
        (lambda t: t[:40], "is no file of light paths"),
        (lambda t: t.replace("light-path/1", "light-path/2"), "is no file of light paths"),
    ],
)
def test_another_models_belief_or_a_damaged_file_is_refused_in_one_line(
    tmp_path: Path, spoil: Callable[[str], str], expected: str
) -> None:
    path = tmp_path / "rig.json"
    run = Beliefs()
    run.after("DAPI", "p0", seen(8, 2))
    BeliefFile(path, lambda channel: "a" * 64).write(run)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(RefocusError, match=expected) as refused:
        BeliefFile(path, lambda channel: "a" * 64)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_where_nothing_is_estimated_nothing_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refocuser = Refocuser(FakeEngine(), light_path=tmp_path / "rig.json")
    refocuser.refocus(FRAME)
    refocuser.keep_light_path()
    assert "neither read nor kept" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_costs_no_frame(
    engine: OpenVinoEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "rig").write_text("a file, not a folder")
    refocuser = Refocuser(engine, light_path=tmp_path / "rig" / "belief.json")
    assert refocuser.refocus(FRAME).pixels.shape == FRAME.shape
    refocuser.keep_light_path()
    assert "the light path is not kept" in caplog.text
