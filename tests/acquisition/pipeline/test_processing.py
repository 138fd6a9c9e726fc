"""What frames go through behind the refocusing: a function of somebody's own."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refocus.acquisition import attach
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.acquisition.pipeline.processing import Processing
from refocus.acquisition.sinks.headers import frame_header, stats_fields
from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine
from refocus.stream.messages import StatsHeader

from ...conftest import loops


def invert(frame: Any) -> Any:
    return frame.max() - frame


def newest_less_oldest(first: Any, second: Any, third: Any, gain: int = 1) -> Any:
    return gain * np.maximum(third, first) - np.minimum(third, first)


def breaks(frame: Any) -> Any:
    raise KeyError("no such nucleus")


def half(frame: Any) -> Any:
    return frame[::2]


def writes(frame: Any) -> Any:
    frame[:] = 0
    return frame


class Odd(BaseException):
    """Of a processor's own kind."""


def breaks_oddly(frame: Any) -> Any:
    raise Odd("oddly")


def acquire(microscope: SimulatedMicroscope, keep: Any, processor: Any, sequence: Any) -> Any:
    with attach(
        microscope.core, engine=FakeEngine(), sinks=[keep], processor=processor, throttle=True
    ) as live:
        microscope.core.mda.run(sequence)
    live.stats.check()
    return live


@pytest.mark.parametrize("spec", [invert, f"{__name__}:invert"])
def test_what_it_gives_is_published_and_named(
    microscope: SimulatedMicroscope, keep: Any, spec: Any
) -> None:
    plain, made = type(keep)(), keep
    acquire(microscope, plain, None, loops(1))
    live = acquire(microscope, made, spec, loops(3))

    assert live.stats.published == 3
    assert live.stats.unprocessed == 0
    assert plain.results[0].processor == ""
    name = spec if isinstance(spec, str) else f"{__name__}:invert"
    for result in made.results:
        assert result.processor == name
        assert result.pixels.min() == 0  # nothing captured is that dark
        assert result.captured.pixels.min() > 0
        assert result.refocused
    assert frame_header("r", made.results[0], 1.0).processor == name
    assert made.runs[0].processor == name


def test_a_file_of_ones_own_will_do(tmp_path: Any) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def latest(before, now):\n    return now\n")

    assert Processing(f"{file}:latest").takes == 2


def test_it_is_given_as_many_frames_of_a_place_as_it_takes(
    microscope: SimulatedMicroscope, keep: Any
) -> None:
    sequence = loops(4, axis_order="tp", stage_positions=[(0, 0, 0), (500, 0, 0)])

    acquire(microscope, keep, newest_less_oldest, sequence)

    named = [(r.captured.index["t"], bool(r.processor)) for r in keep.results]
    assert named == [(t, t >= 2) for t in range(4) for _ in range(2)]
    for result in keep.results[4:]:  # of one place: the differences are noise, and no specimen
        assert np.median(result.pixels) < 100


@pytest.mark.parametrize(
    ("processor", "words"),
    [
        (breaks, "KeyError: 'no such nucleus'"),
        (half, "it gave uint16 (48, 96) for uint16 (96, 96)"),
        (lambda frame: None, "it gave <class 'NoneType'> for uint16"),
        (lambda frame: frame > 3, "it gave bool (96, 96) for uint16"),
        (writes, "read-only"),
        (breaks_oddly, "Odd: oddly"),
    ],
)
def test_where_it_fails_the_frame_is_as_captured_counted_and_said_once(
    microscope: SimulatedMicroscope,
    keep: Any,
    processor: Any,
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    live = acquire(microscope, keep, processor, loops(3))

    assert (live.stats.published, live.stats.failed, live.stats.unprocessed) == (3, 0, 3)
    assert StatsHeader(**stats_fields(live.stats, 3)).unprocessed == 3
    for result in keep.results:
        assert result.pixels is result.captured.pixels
        assert result.processor == ""
    first, *others = [
        r for r in caplog.records if r.levelno >= logging.ERROR and words in r.getMessage()
    ]
    assert "a frame is published as captured" in first.getMessage()
    assert all("3 times" in r.getMessage() for r in others)
    assert sum(live.problems.values()) == 3


def test_frames_that_are_passed_on_are_processed_too(
    microscope: SimulatedMicroscope, keep: Any
) -> None:
    acquire(microscope, keep, invert, loops(1, z_plan={"range": 2, "step": 1}))

    assert [(r.refocused, bool(r.processor)) for r in keep.results] == [(False, True)] * 3


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("no_such_package:denoise", "No module named 'no_such_package'; write file.py:name"),
        (f"{__name__}:nothing", "has no attribute 'nothing'"),
        ("nowhere.py:denoise", "No such file or directory"),
        ("denoise", "no installed package has one of that name"),
        (f"{__name__}:__doc__", "is no function of a frame"),
        (lambda: None, "takes no frame"),
    ],
)
def test_a_processor_that_is_none_is_refused_in_one_line(spec: Any, words: str) -> None:
    with pytest.raises(RefocusError, match=words) as caught:
        Processing(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [("def denoise(frame:", "never closed"), ("raise RuntimeError('no GPU')", "no GPU")],
)
def test_a_file_that_cannot_be_imported_is_refused_in_one_line(
    tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    with pytest.raises(RefocusError, match=words) as caught:
        Processing(f"{tmp_path / 'mine.py'}:denoise")
    assert "\n" not in str(caught.value)


def test_an_entry_point_is_found_by_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    about = tmp_path / "nuclei-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: nuclei\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text(f"[refocus.processors]\ninverted = {__name__}:invert\n")
    monkeypatch.syspath_prepend(tmp_path)

    assert Processing("inverted").takes == 1
    with pytest.raises(RefocusError, match="or one of inverted"):
        Processing("segmented")
