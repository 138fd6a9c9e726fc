"""A trained model, checkpoint or ONNX, as a function from frame to frame."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refocus.configs import ModelCard, RefocusError
from refocus.optics.normalise import brightness

STRIDE = 32
Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""``(1, 1, H, W)`` network units in and out."""


class Refocuser:
    """Refocuses frames of counts, and keeps the time.

    Parameters
    ----------
    card
        The model's.
    network
        Its arithmetic.
    """

    def __init__(self, card: ModelCard, network: Network) -> None:
        self.card, self._network = card, network
        self._seconds = self._megapixels = 0.0
        self._seen: set[tuple[int, ...]] = set()

    def __call__(self, frame: NDArray[Any]) -> NDArray[Any]:
        """Refocus ``(H, W)``, ``uint8`` or ``uint16``, into the same."""
        started = time.perf_counter()
        level = brightness(frame)
        height, width = frame.shape
        margin = [(0, -n % STRIDE) for n in frame.shape]
        pixels = np.pad(level.apply(frame), margin, mode="reflect")
        refocused = self._network(pixels[None, None])[0, 0, :height, :width]
        if not np.isfinite(refocused).all():
            raise RefocusError(f"{self.card.name}: gave NaN or infinity; train it again")
        counts = level.undo(np.array(refocused, dtype=np.float32), frame.dtype)
        if frame.shape in self._seen:  # the first of a size warms up
            self._seconds += time.perf_counter() - started
            self._megapixels += frame.size / 1e6
        self._seen.add(frame.shape)
        return counts

    @property
    def seconds_per_megapixel(self) -> float | None:
        """Mean time of a megapixel; None before a second frame of one size."""
        return self._seconds / self._megapixels if self._megapixels else None


def open_refocuser(path: Path) -> Refocuser:
    """Open a ``.safetensors`` checkpoint or a ``.onnx`` model.

    Raises
    ------
    RefocusError
        It is missing, damaged, neither of both, or of another architecture than its card says.
    """
    if path.suffix == ".onnx":
        return _open_onnx(path)
    if path.suffix == ".safetensors":
        return _open_checkpoint(path)
    raise RefocusError(f"{path}: give a .safetensors checkpoint or a .onnx model")


def _open_checkpoint(path: Path) -> Refocuser:
    import torch

    from refocus.training.network.checkpoint import load_model

    network, card = load_model(path)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        frames = torch.from_numpy(pixels).to(device, memory_format=torch.channels_last)
        with torch.inference_mode():
            refocused: NDArray[np.float32] = network(frames).pixels.cpu().numpy()
        return refocused

    return Refocuser(card, run)


def _open_onnx(path: Path) -> Refocuser:
    import onnx
    import openvino as ov

    if not path.is_file():
        raise RefocusError(f"{path}: no such model")
    try:
        model = onnx.load(str(path))
        cards = [p.value for p in model.metadata_props if p.key == "refocus"]
        card = ModelCard.model_validate_json(cards[0]) if cards else None
        compiled = ov.Core().compile_model(
            ov.Core().read_model(model.SerializeToString()),
            "CPU",
            {"INFERENCE_PRECISION_HINT": "f32"},
        )
    except Exception as error:  # protobuf, onnx, pydantic and OpenVINO each raise their own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RefocusError(f"{path}: not a readable ONNX model ({reason})") from error
    if card is None:
        raise RefocusError(f"{path}: carries no model card; export it with 'refocus-export onnx'")

    def run(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(compiled([pixels])["refocused"])

    return Refocuser(card, run)
