"""Example pictures for TensorBoard: captured, refocused and in focus, after every epoch."""

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import Dataset

from refocus.optics.drawing import tiles

SHOWN = 4


class Pictures(L.Callback):
    """Draws the same few examples, which are not trained on, with the averaged weights.

    Parameters
    ----------
    pairs
        Where the examples come from: those past its end.
    writer
        A TensorBoard ``SummaryWriter``.
    """

    def __init__(self, pairs: Dataset[dict[str, Tensor]], writer: Any) -> None:
        end = len(pairs)  # type: ignore[arg-type]
        first = pairs[end]
        if first["frame"].ndim == 4:  # a batch
            self._frames, self._targets = (first[k][:SHOWN].cpu() for k in ("frame", "target"))
        else:
            examples = [first, *(pairs[end + i] for i in range(1, SHOWN))]
            self._frames = torch.stack([e["frame"] for e in examples])
            self._targets = torch.stack([e["target"] for e in examples])
        self._writer = writer

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Draw them: one row an example, at the contrast of its target."""
        if not trainer.is_global_zero:
            return
        network = pl_module.average.module.eval()
        with torch.inference_mode():
            refocused = network(self._frames.to(pl_module.device)).pixels.float().cpu()
        columns = (self._frames, refocused, self._targets)
        sheet = tiles(list(zip(*(c[:, 0].numpy() for c in columns), strict=True)))
        title = "captured, refocused, in focus"
        self._writer.add_image(title, sheet, trainer.global_step, dataformats="HW")
