"""What ``watch`` prints of what strangers send."""

import errno
import json
from pathlib import Path

import pytest

from refocus.acquisition.command.disk import explained
from refocus.acquisition.command.terminal import describe, describe_json
from refocus.stream.messages import EndHeader, RunHeader

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
