"""Frames of an engine on CUDA: overlapped in a ring, and tile by tile where they do not fit."""

from collections.abc import Callable
from dataclasses import replace

import torch

from refocus.engine.light_path.sight import Sight
from refocus.engine.protocol import (
    UNKNOWN,
    EngineInfo,
    Frame,
    LightPath,
    Refocused,
    Ticket,
    log,
)
from refocus.engine.tiling import Outputs
from refocus.engine.torch.ring import IN_FLIGHT, CudaRing, NetworkOfShape
from refocus.engine.trust.judge import Judge, in_um, refocus_and_judge


class DeviceFrames:
    """What the PyTorch and the TensorRT engine do with a frame on CUDA.

    Parameters
    ----------
    network
        Gives the network for a padded shape; it runs on the current stream.
    tiles
        Runs a frame tile by tile, ``(H, W)`` network units on the host.
    judge
        Of every result, or None.
    info
        Which engine this is.
    device
        A CUDA device.
    sight
        What shows frames to the network; None where it sees the frame alone.
    """

    overlap = IN_FLIGHT

    def __init__(  # noqa: PLR0917
        self,
        network: NetworkOfShape,
        tiles: Outputs,
        judge: Judge | None,
        info: Callable[[], EngineInfo],
        device: torch.device,
        sight: Sight | None = None,
    ) -> None:
        self.ring = CudaRing(network, device, judge, sight is not None)
        self._sight = sight
        self._tiles, self._judge, self._info, self._device = tiles, judge, info, device
        self._too_large: set[tuple[int, ...]] = set()

    def submit(self, frame: Frame, light_path: LightPath = UNKNOWN) -> Ticket:
        """Send a frame on its way; see :class:`~refocus.engine.protocol.Engine`."""
        judge, info, sight = self._judge, self._info(), self._sight
        # a graph measures the brightness of what it is given
        if frame.shape not in self._too_large and not light_path.brightness:
            likely = None if sight is None else sight.likely(frame, light_path)
            try:
                ticket = self.ring.submit(frame, info, likely)
                return lambda: _in_um(ticket(), sight, light_path)
            except MemoryError as error:
                reason = str(error).split(". ", maxsplit=1)[0]
            # only here: the error's traceback kept what did not fit
            self._tile_from_now_on(frame, reason)
        return lambda: refocus_and_judge(frame, self._tiles, judge, info, sight, light_path)

    def close(self) -> None:
        """Wait for the frames under way, and free the device."""
        self._judge = None
        self.ring.close()
        torch.cuda.empty_cache()

    def _tile_from_now_on(self, frame: Frame, reason: str) -> None:
        free, total = torch.cuda.mem_get_info(self._device)
        log.warning(
            "frames of %d×%d do not fit the GPU (%.1f of %.1f GiB free; %s): tiled from now on",
            *frame.shape,
            free / 2**30,
            total / 2**30,
            reason,
        )
        self._too_large.add(frame.shape)
        torch.cuda.empty_cache()


def _in_um(done: Refocused, sight: Sight | None, light_path: LightPath) -> Refocused:
    return replace(done, judgement=in_um(done.judgement, sight, light_path))
