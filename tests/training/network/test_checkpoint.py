"""Checkpoints that cannot be read or written are told of in a line."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from refocus.configs import ModelCard, Optics, RefocusError
from refocus.export.to_onnx import onnx_from_checkpoint
from refocus.training.network.checkpoint import (
    ESTIMATOR,
    build,
    load_model,
    read_estimator_of,
    save_model,
)
from refocus.training.run_state import SafeCheckpointIO
from refocus.training.start import first_weights

CARD = ModelCard(
    name="mine",
    version="1",
    architecture="compact",
    optics=Optics(),
    defocus_um=(2.0, 6.0),
    training_data="none",
    licence="none",
)


def start_from(path: Path) -> object:
    return first_weights(path, build("compact"))


@pytest.mark.parametrize("read", [load_model, start_from])
@pytest.mark.parametrize("content", [b"", b"a text", b"\x40" + bytes(7) + b"{}"])
def test_a_damaged_one_is_named(
    tmp_path: Path, read: Callable[[Path], object], content: bytes
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(
        RefocusError, match=r"a\.safetensors: not a readable safetensors file"
    ) as told:
        read(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("read", "key", "expected"),
    [
        (load_model, "refocus", r"its model card is not valid \(gain: Extra inputs"),
        (read_estimator_of, ESTIMATOR, r"its estimator is not valid \("),
    ],
)
def test_what_another_version_wrote_is_named(
    tmp_path: Path, read: Callable[[Path], object], key: str, expected: str
) -> None:
    path = tmp_path / "a.safetensors"
    text = CARD.model_dump_json()[:-1] + ', "gain": 3}'
    save_file({"a": torch.zeros(1)}, path, metadata={key: text})
    with pytest.raises(
        RefocusError, match=rf"a\.safetensors: {expected}.*another version\?"
    ) as told:
        read(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: save_model(path, build("compact"), CARD),
        lambda path: SafeCheckpointIO().save_checkpoint({"a": torch.zeros(9999)}, path.parent),
    ],
)
def test_a_disk_that_takes_no_more_is_told_of(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    resource = pytest.importorskip("resource")
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most[1]))
    try:
        with pytest.raises(RefocusError, match=r"run\.safetensors: cannot be written \(") as told:
            write(tmp_path / "run.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert "\n" not in str(told.value)


def test_weights_that_are_no_numbers_are_not_exported(
    checkpoint_file: Path, tmp_path: Path
) -> None:
    state, (_, card) = load_file(checkpoint_file), load_model(checkpoint_file)
    state["output.correction.weight"][0] = float("nan")
    save_file(state, tmp_path / "a.safetensors", metadata={"refocus": card.model_dump_json()})
    with pytest.raises(
        RefocusError, match=r"output\.correction\.weight holds NaN or infinity; train"
    ):
        onnx_from_checkpoint(tmp_path / "a.safetensors", tmp_path / "a.onnx")
