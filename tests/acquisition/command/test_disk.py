"""What cannot be written is found out before the first frame."""

import os
import sys
from pathlib import Path

import pytest

from refocus.acquisition.command.disk import check_outputs
from refocus.configs import RefocusError


@pytest.mark.parametrize(
    "name", ["folder", "folder.json", "r.png", ".", "pipe.json", "beside.json"]
)
def test_a_report_that_is_no_file_is_refused_and_stays(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.png").mkdir()
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe.json")
        os.mkfifo(tmp_path / "beside.png")
    elif name in ("pipe.json", "beside.json"):
        pytest.skip("Windows has no such files")
    there = sorted(tmp_path.iterdir())
    with pytest.raises(RefocusError, match="cannot be the report"):
        check_outputs(None, tmp_path / name)
    assert sorted(tmp_path.iterdir()) == there
