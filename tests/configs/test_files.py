"""A file is there when it is whole."""

import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from refocus.configs.files import replacing


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    file = tmp_path / "deeper" / "file.json"
    for content in ("first", "second"):
        with replacing(file) as part:
            before = file.read_text() if file.exists() else None
            part.write_text(content)
            assert before == (None if content == "first" else "first")
        assert file.read_text() == content
        assert list(file.parent.iterdir()) == [file]


def test_what_a_kill_left_is_taken_over_by_the_next_writer(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    (tmp_path / ".file.json.part").write_text("half, and then the kill")
    with replacing(file) as part:
        part.write_text("whole")
    assert file.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_regular_file_is_not_replaced(linked: bool, tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    with pytest.raises(OSError, match="no regular file"), replacing(link if linked else pipe):
        pytest.fail("nothing may be written")
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert sorted(tmp_path.iterdir()) == [link, pipe]


@pytest.mark.parametrize("fails", [False, True])
def test_writers_at_once_of_a_shared_file_leave_one_that_is_whole(
    fails: bool, tmp_path: Path
) -> None:
    file = tmp_path / "file.json"
    with replacing(file, shared=True) as part:
        part.write_text("first")
        with suppress(OSError), replacing(file, shared=True) as other:
            other.write_text("second")
            if fails:
                raise OSError(28, "No space left on device")
        assert file.exists() != fails
    assert file.read_text() == "first"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("begun", [True, False])
def test_what_went_wrong_leaves_the_file_as_it_was(begun: bool, tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text("before")

    def fail() -> None:
        with replacing(file) as part:
            if begun:
                part.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail()
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]
