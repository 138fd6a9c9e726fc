"""What a CUDA graph has to hold neither waits for its device nor brings anything over to it.

Tensors that have a shape and no content stand in for those of a device: whoever asks them for a
number, or puts one of the host beside them, is told.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from refocus.engine.model_file import read_model
from refocus.engine.shipped import shipped_models
from refocus.engine.torch.counts import refocus_counts
from refocus.engine.torch.filters import TensorFilters
from refocus.engine.torch.graph import TorchGraph
from refocus.engine.trust.evidence import MAPS, NetworkOutputs
from refocus.engine.trust.judge import open_judge
from refocus.optics.transfer import STEPS

META = torch.device("meta")


class StaysThere(TorchDispatchMode):
    """Sees that no operation gives a tensor of the host."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor):
                assert leaf.device == META, f"{func} gave {leaf!r}"
        return made


@pytest.mark.parametrize("model", shipped_models().values(), ids=lambda path: path.stem)
def test_a_frame_is_refocused_and_looked_at_without_waiting(model: Path) -> None:
    shape = 130, 257
    proto, card = read_model(model)
    network = TorchGraph(proto, NetworkOutputs._fields).to(META).eval()
    judge = open_judge(proto, card, str(model))
    assert judge is not None
    filters = TensorFilters(META)
    tables = torch.ones((1, 3, STEPS), device=META)

    def compute() -> torch.Tensor:
        raw = torch.empty(shape, dtype=torch.int16, device=META)
        show, through = None, None
        if card.inputs > 1:
            show, through = partial(filters.show, tables=tables), tables[0, :2]
        counted = refocus_counts(raw, network, show)
        assert counted.counts.shape == shape
        return judge.look(counted.seen, NetworkOutputs(*counted.outputs), through)

    with torch.inference_mode():
        compute()  # what does not depend on a frame is brought over once
        with StaysThere():
            looked = compute()

    tiles = tuple(int(np.ceil(side / 64)) for side in shape)
    assert looked.dtype == torch.float32
    assert looked.shape[0] > len(MAPS)
    assert looked.shape[1:] == tiles
