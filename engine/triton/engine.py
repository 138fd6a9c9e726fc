"""The engine behind a Triton server: its network is there, everything around it here."""

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refocus.engine.light_path.sight import open_sight
from refocus.engine.model_file import read_model
from refocus.engine.parity import adversarial_frames, compare
from refocus.engine.prepare import check_frame, warm_up_frame
from refocus.engine.protocol import (
    UNKNOWN,
    Engine,
    EngineError,
    EngineInfo,
    Frame,
    LightPath,
    Refocused,
    Ticket,
)
from refocus.engine.tiling import tiled
from refocus.engine.triton.address import Address
from refocus.engine.triton.connection import Connection
from refocus.engine.triton.signature import signature
from refocus.engine.trust.evidence import NetworkOutputs
from refocus.engine.trust.judge import open_judge, refocus_and_judge

OVERLAP = 3
"""Frames under way: one in the network, one on the way there, one being prepared or judged."""
LARGEST = 2560 * 2560
"""Pixels of a frame that is still sent whole."""
TELLING = ("cells", "odd size")
"""Frames that a server must make the same of as this host does, before it is believed."""


class TritonEngine(Engine):
    """Has frames run through a model by a Triton server.

    Parameters
    ----------
    address
        Of the server, and its name for the model.
    model
        The same model here: ONNX file with a card.

    Raises
    ------
    EngineError
        The model cannot be read, or the server has another one.
    DeviceError
        No server answers, or it does not serve the model.
    """

    def __init__(self, address: Address, model: Path) -> None:
        proto, self._card = read_model(model)
        self._judge = open_judge(proto, self._card, str(model))
        self._sight = open_sight(proto, self._card, str(model))
        self._connection = Connection(
            address,
            address.model or model.stem,
            signature(proto, self._card),
            inputs=self._card.inputs,
            outputs=NetworkOutputs._fields if self._judge else ("refocused",),
            at_once=OVERLAP,
        )
        there = self._connection
        device = f"{there.where}, {there.server}, {there.device}"
        self._info = EngineInfo("triton", device, there.precision, self._card)
        self._network = tiled(there.infer, LARGEST)
        self._lock = threading.Lock()
        self._closed = False
        self._threads = ThreadPoolExecutor(OVERLAP, "refocus-triton")

    @property
    def info(self) -> EngineInfo:
        """Which engine runs which model."""
        return self._info

    @property
    def overlap(self) -> int:
        """How many frames may be under way at once."""
        return OVERLAP

    def warm_up(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """Let the server prepare for frames of this shape, and share memory for them."""
        if self._judge is not None:
            self._judge.warm_up()
        frame = warm_up_frame(shape, dtype)
        for ticket in [self.submit(frame) for _ in range(OVERLAP)]:
            ticket()

    def submit(self, frame: Frame, light_path: LightPath = UNKNOWN) -> Ticket:
        """Send a frame on its way; see :class:`~refocus.engine.protocol.Engine`."""
        check_frame(frame)
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed; open it again")
            under_way = self._threads.submit(self._refocused, frame, light_path)

        def ticket() -> Refocused:
            try:
                return under_way.result()
            except CancelledError:
                raise EngineError("the engine is closed; open it again") from None

        return ticket

    def require_parity(self, reference: Engine) -> None:
        """Compare what the server makes of frames with what this host does.

        Raises
        ------
        EngineError
            They differ: whatever its repository says, the model there is another.
        """
        frames = {name: adversarial_frames()[name] for name in TELLING}
        for found in compare(reference, self, frames):
            if found.problem:
                raise EngineError(
                    f"{self._connection.where}: the model {self._connection.name} there does not "
                    f"compute what it does here ({found.problem}); write its repository again "
                    "with 'refocus-export triton'"
                )

    def close(self) -> None:
        """Leave the server; frames under way are waited for."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._threads.shutdown(cancel_futures=True)
        self._connection.close()

    def _refocused(self, frame: Frame, light_path: LightPath) -> Refocused:
        return refocus_and_judge(
            frame, self._infer, self._judge, self._info, self._sight, light_path
        )

    def _infer(self, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        refocused, *told = self._network(pixels)
        return refocused[0], *told
