"""All that resuming a run of training needs, without pickles: tensors in safetensors, and JSON."""

import json
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from refocus.configs import RefocusError, reason_of
from refocus.training.network.checkpoint import write_tensors


class SafeCheckpointIO(CheckpointIO):
    """Lightning's run state as a folder with one file, ``run.safetensors``."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write the state; the old one is replaced only once the new one is whole."""
        tensors: dict[str, torch.Tensor] = {}
        state = _flatten(checkpoint, "", tensors)
        # one file holds both, so that a kill leaves the old state or the new one
        write_tensors(Path(path) / "run.safetensors", tensors, {"state": json.dumps(state)})

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read the state back."""
        file = Path(path) / "run.safetensors"
        try:
            with safe_open(file, framework="pt") as opened:
                state = json.loads((opened.metadata() or {})["state"])
            tensors = load_file(file)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise RefocusError(
                f"{file}: cannot resume from it ({reason_of(error)}); remove it to begin anew"
            ) from error
        restored: dict[str, Any] = _restore(state, tensors)
        return restored

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a state."""
        (Path(path) / "run.safetensors").unlink(missing_ok=True)
        Path(path).rmdir()


def _flatten(value: Any, where: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Take the tensors out of a nested state, leaving JSON that names them."""
    if isinstance(value, torch.Tensor):
        tensors[where] = value.detach().cpu().contiguous().clone()
        return {"$tensor": where}
    if isinstance(value, dict):
        pairs = [
            [_flatten(k, "", tensors), _flatten(v, f"{where}/{k}", tensors)]
            for k, v in value.items()
        ]
        return {"$dict": pairs}
    if isinstance(value, list | tuple):
        items = [_flatten(v, f"{where}/{i}", tensors) for i, v in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _restore(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_restore(v, tensors) for v in value]
    if isinstance(value, dict):
        if "$tensor" in value:
            return tensors[value["$tensor"]]
        if "$tuple" in value:
            return tuple(_restore(v, tensors) for v in value["$tuple"])
        return {_restore(k, tensors): _restore(v, tensors) for k, v in value["$dict"]}
    return value
