"""What is trained on and what is held out stays so, whatever becomes of the folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from refocus.configs import RefocusError
from refocus.configs.training import MeasuredConfig, StacksConfig, TrainConfig
from refocus.training.pairs.data import folder_fields, with_split
from refocus.training.pairs.split import dealt_as
from refocus.training.pairs.stacks import held_out_files, list_stacks


@pytest.fixture
def run(tmp_path: Path) -> TrainConfig:
    """Deal four files of the folder, of which the first is held out."""
    for name in "abcd":
        (tmp_path / f"{name}.tif").write_bytes(b"a stack")
    stacks = StacksConfig(folder=tmp_path, fraction=0.5, held_out=0)
    measured = MeasuredConfig(out_of_focus=tmp_path, in_focus=tmp_path, fraction=0.5, held_out=0)
    return TrainConfig(name="s", training_data="s", stacks=[stacks], measured=[measured])


def trained(run: TrainConfig) -> list[str]:
    return [Path(field.name).name for field in folder_fields(run.measured[0])]


def held_out(run: TrainConfig) -> list[str]:
    return [file.name for file in held_out_files(run.stacks[0])]


def test_files_that_come_later_are_neither_and_move_none(
    run: TrainConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begun = with_split(run)
    (tmp_path / "0.tif").write_bytes(b"new")
    for known in (begun, with_split(begun), dealt_as(run, begun)):
        assert trained(known) == ["b.tif", "c.tif", "d.tif"]
        assert held_out(known) == ["a.tif"]
    assert f"{tmp_path}: not of the run, and left out: 0.tif" in caplog.messages
    assert held_out(run) == ["0.tif", "d.tif"]  # where nobody noted how they were dealt
    other = run.model_copy(update={"stacks": [run.stacks[0].model_copy(update={"folds": 2})]})
    assert dealt_as(other, begun).stacks[0].dealt is None


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("b.tif", Path.unlink, "b.tif, which the run trained on, is missing; put it back"),
        ("b.tif", lambda p: p.write_bytes(b"other"), "b.tif, .* is another file by now"),
        ("a.tif", Path.unlink, "a.tif, which the run held out, is missing; put it back"),
    ],
)
def test_files_that_are_gone_are_named_where_they_are_wanted(
    run: TrainConfig, tmp_path: Path, name: str, change: Callable[[Path], object], expected: str
) -> None:
    begun = with_split(run)
    change(tmp_path / name)
    asked, other = (trained, held_out) if name == "b.tif" else (held_out, trained)
    with pytest.raises(RefocusError, match=expected):
        asked(begun)
    assert other(begun)


def test_hidden_files_are_no_stacks(run: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "._a.tif").write_bytes(b"what macOS lays beside it")
    assert [file.name for file in list_stacks(tmp_path)] == ["a.tif", "b.tif", "c.tif", "d.tif"]
