"""A checkpoint behind the engines' seam: PyTorch in FP32, the reference for what is made of it."""

import threading
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from refocus.engine.light_path.estimate import Estimator
from refocus.engine.light_path.sight import Sight
from refocus.engine.prepare import check_frame
from refocus.engine.protocol import UNKNOWN, Engine, EngineInfo, Frame, LightPath, Ticket
from refocus.engine.tiling import tiled
from refocus.engine.trust.judge import refocus_and_judge
from refocus.training.network.checkpoint import load_model, read_estimator_of

LARGEST = 2560 * 2560
"""Pixels of a frame that is still run whole."""


class CheckpointEngine(Engine):
    """Runs a checkpoint; its results are unrated, as verdicts belong to the exported model.

    Parameters
    ----------
    checkpoint
        ``.safetensors`` with a card.
    device
        Of PyTorch.

    Raises
    ------
    RefocusError
        The checkpoint cannot be read.
    """

    def __init__(self, checkpoint: Path, device: str = "cpu") -> None:
        self._network, card = load_model(checkpoint)
        self._network.to(device)
        self._device = device
        self._info = EngineInfo("checkpoint", device.upper(), "f32", card)
        weights = read_estimator_of(checkpoint)
        aperture = card.optics.na / card.optics.immersion_index
        estimator = None if weights is None else Estimator(weights, aperture)
        self._sight = Sight(card, estimator) if card.inputs > 1 else None
        self._tiles = tiled(self._infer, LARGEST)
        self._lock = threading.Lock()

    @property
    def info(self) -> EngineInfo:
        """Which engine runs which model."""
        return self._info

    def submit(self, frame: Frame, light_path: LightPath = UNKNOWN) -> Ticket:
        """Take a frame: it is computed when its ticket is called."""
        check_frame(frame)
        return lambda: refocus_and_judge(
            frame, self._tiles, None, self._info, self._sight, light_path
        )

    def _infer(self, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        shown = np.ascontiguousarray(pixels).reshape(1, -1, *pixels.shape[-2:])
        batch = torch.from_numpy(shown).to(self._device)
        with self._lock, torch.inference_mode():
            return (self._network(batch).pixels[0, 0].cpu().numpy(),)
