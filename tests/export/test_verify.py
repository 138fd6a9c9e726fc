"""Comparing forms of a model, and refusing those that differ."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from refocus.configs import RefocusError
from refocus.engine.model_file import embed_card, read_model
from refocus.engine.parity import LARGEST, MEAN, adversarial_frames, difference, passed
from refocus.export.to_onnx import save_verified
from refocus.export.verify import verify


def test_checkpoint_onnx_and_fp16_agree(
    checkpoint_file: Path, model_file: Path, half_model_file: Path
) -> None:
    exported = verify(checkpoint_file, model_file)
    assert passed(exported)
    assert max(d.mean for d in exported) < 1e-6
    halved = verify(model_file, half_model_file)
    assert [d.frame for d in halved] == list(adversarial_frames())
    assert passed(halved)
    assert max(d.mean for d in halved) > 1e-7  # FP16 arithmetic was really done


def _scaled(values: np.ndarray) -> np.ndarray:
    return values * np.float32(1.2)


def _one_kernel(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[0] += 0.5
    return values


def _nan(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.flat[0] = np.nan
    return values


@pytest.mark.parametrize(
    ("damage", "problem"),
    [(_scaled, "over"), (_one_kernel, "over"), (_nan, "NaN or infinity")],
)
def test_damaged_model_fails(
    model_file: Path,
    tmp_path: Path,
    damage: Callable[[np.ndarray], np.ndarray],
    problem: str,
) -> None:
    """A model that is damaged, and signed so that only its output tells."""
    model, card = read_model(model_file)
    weight = next(t for t in model.graph.initializer if t.name.endswith("correction.weight"))
    values = damage(onnx.numpy_helper.to_array(weight))
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    embed_card(model, card)
    with pytest.raises(RefocusError, match=f"{problem}.*it was not written"):
        save_verified(model, tmp_path / "new.onnx", model_file)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("apart", "fine"),
    [
        (np.zeros(10_000), True),
        (np.r_[LARGEST * 9_000, np.zeros(9_999)], True),
        (np.r_[LARGEST * 11_000, np.zeros(9_999)], False),
        (np.full(10_000, 0.9 * MEAN * 10_000), True),
        (np.full(10_000, 1.1 * MEAN * 10_000), False),
        (np.r_[np.nan, np.zeros(9_999)], False),
    ],
)
def test_bound(apart: np.ndarray, fine: bool) -> None:
    wanted = np.linspace(0, 10_000, 10_000)
    assert passed([difference("ramp", wanted, wanted + apart)]) is fine


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.onnx", "no such file"),
        ("none.safetensors", "no such file"),
        ("notes.txt", "not a form of a model"),
        ("bad.safetensors", "not a readable safetensors file"),
        ("bad.plan", "without a readable bad.plan.json is not loaded"),
    ],
)
def test_files_that_are_no_model(model_file: Path, tmp_path: Path, name: str, words: str) -> None:
    if not name.startswith("none"):
        (tmp_path / name).write_bytes(b"x" * 64)
    with pytest.raises(RefocusError, match=words):
        verify(model_file, tmp_path / name)
