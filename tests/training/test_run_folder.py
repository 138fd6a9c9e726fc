"""The folder of a run: what is noted there, and what may be done in it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from refocus.configs import RefocusError
from refocus.configs.presets import load_train_config
from refocus.configs.training import StacksConfig, TrainConfig
from refocus.training.pairs.data import with_split
from refocus.training.run_folder import alone, begin, write_config

Small = Callable[..., TrainConfig]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Give the folder of a run that was stopped."""
    (tmp_path / "out" / "run").mkdir(parents=True)
    (tmp_path / "out" / "run" / "run.safetensors").write_bytes(b"a state")
    return tmp_path / "out"


def test_a_run_is_resumed_with_the_files_that_it_began_with(
    small: Small, output: Path, tmp_path: Path
) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.tif").touch()
    config = small(stacks=[StacksConfig(folder=tmp_path, fraction=0.5, held_out=0)])
    begun = with_split(config)
    write_config(begun, output)
    (tmp_path / "0.tif").touch()
    assert begin(config, output, resume=True) == begun
    assert with_split(config) != begun
    free = config.model_copy(update={"version": "9", "workers": 3})
    assert begin(free, output, resume=True).stacks == begun.stacks


def test_the_note_of_a_run_says_all_of_it(small: Small, output: Path) -> None:
    write_config(small(based_on="lab.yaml"), output)
    assert load_train_config(str(output / "config.json")) == small()


@pytest.mark.parametrize("text", ["", '{"name": "small', '{"name": 3}'])
def test_a_note_that_is_damaged_is_named(small: Small, output: Path, text: str) -> None:
    (output / "config.json").write_text(text)
    with pytest.raises(
        RefocusError, match=r"config\.json: is damaged \(.*\); remove it to"
    ) as caught:
        begin(small(), output, resume=True)
    assert "\n" not in str(caught.value)
    (output / "config.json").unlink()
    assert begin(small(), output, resume=True) == small()


def test_what_an_explorer_leaves_in_a_stack_is_not_of_it(
    small: Small, output: Path, tmp_path: Path
) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.zarr").mkdir()
        (tmp_path / f"{name}.zarr" / "zarr.json").write_text("{}")
    config = small(stacks=[StacksConfig(folder=tmp_path, fraction=0.5, held_out=0)])
    begun = with_split(config)
    (tmp_path / "a.zarr" / ".DS_Store").write_bytes(b"where windows were")
    assert with_split(begun) == begun
    assert with_split(config) == begun


def test_one_of_several_processes_begins_as_the_first_did(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert begin(small(), tmp_path, resume=False) == small()
    write_config(small(version="9"), tmp_path)
    assert begin(small(), tmp_path, resume=False) == small()


def test_a_run_has_its_folder_alone(small: Small, tmp_path: Path) -> None:
    output = tmp_path / "new" / "out"
    with (
        alone(small(), output, resume=False),
        pytest.raises(RefocusError, match="out: another process trains there; wait"),
        alone(small(), output, resume=False),
    ):
        pass
    with alone(small(), output, resume=False):
        (output / "model.safetensors").touch()
    with (
        pytest.raises(RefocusError, match=r"model\.safetensors: is there already"),
        alone(small(), output, resume=False),
    ):
        pass
