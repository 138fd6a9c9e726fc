"""What ``watch`` prints of what strangers send."""

import errno
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from refocus.acquisition.command.disk import explained
from refocus.acquisition.command.terminal import Terminal, describe, describe_json
from refocus.configs.terminal import progress_bar
from refocus.engine import open_engine
from refocus.stream.messages import EndHeader, Focus, FrameHeader, RunHeader, TimesMs, Trust
from refocus.stream.subscriber import ReceivedFrame

ODD = "a\x1b]0;owned\x07\x9b31m\u202eb\n"


@pytest.mark.parametrize(
    "message",
    [
        RunHeader(run=ODD, next_number=0, sequence={}, camera={}, engine={"name": ODD}, policy=ODD),
        EndHeader(
            run=ODD,
            next_number=0,
            frames={ODD: 1},
            queued=0,
            capacity=8,
            fps=0.0,
            latency_ms={},
            engine_ms={},
        ),
    ],
)
def test_a_terminal_is_given_nothing_to_obey(message):
    line, content = describe(message), describe_json(message)
    assert line
    assert line.isprintable()
    assert content.isprintable()
    assert json.loads(content)["run"] == ODD


def test_a_frame_is_a_line_with_its_verdict():
    header = FrameHeader(
        run="r",
        number=3,
        frame=3,
        refocused=True,
        source="",
        index={"t": 3},
        channel="DAPI",
        position_um={},
        pixel_size_um=0.5,
        exposure_ms=1.0,
        camera="",
        shape=(4, 6),
        dtype="uint8",
        bit_depth=8,
        captured_utc="2026-01-02T03:04:05+00:00",
        times_ms=TimesMs(queued=0.0, engine=4.25, published=20.0),
        focus=Focus(distance_um=7.04, sigma_um=1.0),
        trust=Trust(verdict="refocused", share=1.0),
    )
    told = describe(ReceivedFrame(header, np.zeros((4, 6), np.uint8), None, 2))
    assert told == (
        "LOST 2 before       3  6×4 uint8  t=3  DAPI  20.0 ms (4.2 in the engine)  refocused"
        "  7.0 µm from focus"
    )
    untold = header.model_copy(update={"focus": None, "trust": None})
    assert describe(ReceivedFrame(untold, np.zeros((4, 6), np.uint8), None, 0)).endswith("engine)")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "too many open files"),
        (RuntimeError("RESOURCE_EXHAUSTED: [OS error 24: Too many open files]"), "too many open"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (RuntimeError("RESOURCE_EXHAUSTED: No space left on device"), "the disk is full"),
    ],
)
def test_why_frames_were_not_written_is_told_truly(tmp_path: Path, error, says):
    assert says in str(explained(error, tmp_path / "raw.ome.zarr"))


@pytest.mark.parametrize("terminal", [True, False])
def test_a_run_on_a_terminal_says_which_model_it_has(terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal)
    engine = open_engine("openvino")
    source = SimpleNamespace(frames=3)
    with progress_bar(console) as bar:
        Terminal(bar, console).begin(source, engine)
    engine.close()
    assert ("refocus-compact 4 by openvino" in console.file.getvalue()) is terminal
