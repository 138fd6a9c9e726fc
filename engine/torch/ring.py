"""Frames on CUDA, three in flight: copied in, computed and copied out on streams of their own.

::

    copy in    │ 1 │ 2 │ 3 │ 4 │
    compute        │ 1 │ 2 │ 3 │ 4 │
    copy out           │ 1 │ 2 │ 3 │ 4 │
    look               │ 1 │ 2 │ 3 │ 4 │

Each slot of the ring has pinned host memory at both ends and a CUDA graph between, which holds
conversion, normalisation, the network, and the way back to counts. What a verdict is made of is
measured by a graph of its own, beside the next frame's network: it is many small steps, which leave
most of the device idle. A ring serves one frame size and dtype; a few are kept.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from queue import Queue
from typing import Any

import torch
from torch import Tensor

from refocus.configs import reason_of
from refocus.engine.light_path.filters import Likely, tables
from refocus.engine.prepare import padded_shape
from refocus.engine.protocol import (
    DeviceError,
    EngineError,
    EngineInfo,
    Frame,
    NotFiniteError,
    Refocused,
    Ticket,
)
from refocus.engine.torch.counts import TensorNetwork, as_frame, as_tensor, refocus_counts
from refocus.engine.torch.filters import TensorFilters
from refocus.engine.trust.evidence import NetworkOutputs
from refocus.engine.trust.judge import NOT_JUDGED, Judge
from refocus.engine.trust.judgement import UNRATED, Judgement
from refocus.optics.transfer import STEPS

IN_FLIGHT = 3
"""Frames under way: one copied in, one computed, one copied out."""
SIZES_KEPT = 3
WARM_UP_RUNS = 3

NetworkOfShape = Callable[[tuple[int, int]], TensorNetwork]
"""Gives the network for padded frames of one shape."""


class CudaRing:
    """Runs frames of any size on one device; callable from any thread.

    Parameters
    ----------
    network
        Gives the network for a padded shape; it runs on the current stream.
    device
        A CUDA device.
    judge
        Judges every result; None for results without judgement.
    told
        The network is shown what filters make of the frame, too.
    """

    def __init__(
        self,
        network: NetworkOfShape,
        device: torch.device,
        judge: Judge | None,
        told: bool = False,
    ) -> None:
        self._network, self._device, self._judge = network, device, judge
        self._filters = TensorFilters(device) if told else None
        self._rings: OrderedDict[tuple[tuple[int, ...], Any], _SizeRing] = OrderedDict()
        self._lock = threading.Lock()
        self._streams = _Streams(device)
        self._closed = False

    def submit(
        self,
        frame: Frame,
        engine: EngineInfo,
        likely: Likely | None = None,
    ) -> Ticket:
        """Send a frame on its way; waits only while :data:`IN_FLIGHT` others are under way.

        Parameters
        ----------
        frame
            ``(H, W)``, ``uint8`` or ``uint16``.
        engine
            Whose result it is.
        likely
            The light paths that the frame is filtered for, if it is.

        Raises
        ------
        NotFiniteError
            From the ticket: the network gave NaN or infinity.
        DeviceError
            The device failed.
        MemoryError
            The device has no room for frames of this size.
        """
        ring = self._ring(frame)
        slot = ring.free.get()
        try:
            as_frame(slot.host_in)[:] = frame
            if likely is not None:
                slot.host_tables.numpy()[:] = tables(likely)
            with self._lock:
                if self._closed:
                    raise EngineError("the engine is closed; open it again")
                slot.send(self._streams)
        except RuntimeError as error:
            ring.free.put(slot)
            raise _device_error(error) from error
        except BaseException:
            ring.free.put(slot)
            raise

        def ticket() -> Refocused:
            try:
                slot.looked_at.synchronize()
                slot.copied_out.synchronize()
                if not bool(slot.finite_host):
                    raise NotFiniteError
                pixels = as_frame(slot.host_out).copy()
                return Refocused(pixels, slot.judgement(likely), engine)
            except RuntimeError as error:
                raise _device_error(error) from error
            finally:
                ring.free.put(slot)

        return ticket

    def stage_ms(self, frame: Frame, runs: int = 20) -> dict[str, float]:
        """Measure copy in, compute and copy out, each alone, in milliseconds per frame."""
        ring = self._ring(frame)
        slot = ring.free.get()
        try:
            with self._lock:
                return slot.stage_ms(self._streams, runs)
        finally:
            ring.free.put(slot)

    def close(self) -> None:
        """Wait for the frames under way, and free the device."""
        with self._lock:
            self._closed = True
            try:
                torch.cuda.synchronize(self._device)
            except RuntimeError as error:
                raise _device_error(error) from error
            finally:
                self._rings.clear()
                self._judge = None  # and what it keeps on the device

    def _ring(self, frame: Frame) -> "_SizeRing":
        key = (frame.shape, frame.dtype)
        with self._lock:
            if key not in self._rings:
                try:
                    network = self._network(padded_shape(frame.shape))
                    self._rings[key] = _SizeRing(
                        frame, network, self._device, self._streams, self._filters, self._judge
                    )
                except RuntimeError as error:
                    raise _device_error(error) from error
                while len(self._rings) > SIZES_KEPT:
                    self._rings.popitem(last=False)
            self._rings.move_to_end(key)
            return self._rings[key]


class _Streams:
    """The streams of a device."""

    def __init__(self, device: torch.device) -> None:
        self.copy_in, self.compute, self.copy_out = (torch.cuda.Stream(device) for _ in range(3))
        self.look = torch.cuda.Stream(device)


class _SizeRing:
    """The slots for one frame size and dtype."""

    def __init__(  # noqa: PLR0917
        self,
        frame: Frame,
        network: TensorNetwork,
        device: torch.device,
        streams: _Streams,
        filters: TensorFilters | None,
        judge: Judge | None,
    ) -> None:
        self.network = network  # a graph replays into its memory
        self.free: Queue[_Slot] = Queue()
        # graphs of one stream replay one after the other: they may share what they scribble on
        pools = torch.cuda.graph_pool_handle(), torch.cuda.graph_pool_handle()
        for _ in range(IN_FLIGHT):
            slot = _Slot(frame, network, device, streams, pools[0], filters)
            if judge is not None:
                slot.judge_with(judge, streams.look, pools[1])
            self.free.put(slot)


class _Slot:
    """Memory and graph for one frame under way."""

    def __init__(  # noqa: PLR0917
        self,
        frame: Frame,
        network: TensorNetwork,
        device: torch.device,
        streams: _Streams,
        pool: Any,
        filters: TensorFilters | None,
    ) -> None:
        example = as_tensor(frame.copy())
        self.host_in = torch.empty_like(example, pin_memory=True)
        self.host_out = torch.empty_like(example, pin_memory=True)
        self.finite_host = torch.ones((), dtype=torch.bool, pin_memory=True)
        self.host_tables = torch.ones((3, STEPS), pin_memory=True)
        self.tables = self.host_tables.to(device)
        self.filters = filters
        self.raw = example.to(device)
        self.counts = torch.empty_like(self.raw)
        self.finite = torch.ones((), dtype=torch.bool, device=device)
        self.copied_in, self.computed = (torch.cuda.Event() for _ in range(2))
        # blocking: a thread that waits must not spin on a core that the acquisition needs
        self.copied_out, self.looked_at = (torch.cuda.Event(blocking=True) for _ in range(2))
        self.seen = torch.empty(0, device=device)
        self.outputs: tuple[Tensor, ...] = ()
        self.graph = _captured(partial(self._compute, network), streams.compute, pool)
        self.look: torch.cuda.CUDAGraph | None = None
        self.looked = self.looked_host = torch.empty(0)
        self.judgement: Callable[[Likely | None], Judgement] = lambda _: UNRATED

    def judge_with(self, judge: Judge, stream: torch.cuda.Stream, pool: Any) -> None:
        """Have results judged from now on."""
        outputs = NetworkOutputs(*self.outputs)
        through = None if self.filters is None else self.tables[:2]

        def look() -> None:
            looked = judge.look(self.seen, outputs, through)
            if self.looked.shape != looked.shape:
                self.looked = torch.empty_like(looked)
            self.looked.copy_(looked)

        try:
            self.look = _captured(look, stream, pool)
        except NOT_JUDGED as error:
            failed = error  # the name ends with the clause
            self.judgement = lambda _: judge.distrusted(failed)
            return
        self.looked_host = torch.empty(self.looked.shape, dtype=self.looked.dtype, pin_memory=True)
        looked, shape = self.looked_host.numpy(), tuple(self.seen.shape)
        self.judgement = lambda likely: judge.verdict(looked.copy(), shape, likely)

    def send(self, streams: _Streams) -> None:
        """Enqueue copy in, graph, copy out."""
        with torch.cuda.stream(streams.copy_in):
            self.raw.copy_(self.host_in, non_blocking=True)
            if self.filters is not None:
                self.tables.copy_(self.host_tables, non_blocking=True)
            self.copied_in.record()
        with torch.cuda.stream(streams.compute):
            streams.compute.wait_event(self.copied_in)
            self.graph.replay()
            self.computed.record()
        if self.look is not None:
            with torch.cuda.stream(streams.look):
                streams.look.wait_event(self.computed)
                self.look.replay()
                self.looked_host.copy_(self.looked, non_blocking=True)
                self.looked_at.record()
        with torch.cuda.stream(streams.copy_out):
            streams.copy_out.wait_event(self.computed)
            self.host_out.copy_(self.counts, non_blocking=True)
            self.finite_host.copy_(self.finite, non_blocking=True)
            self.copied_out.record()

    def stage_ms(self, streams: "_Streams", runs: int) -> dict[str, float]:
        """Time each stage alone, by the device's own clock."""
        stages: dict[str, tuple[torch.cuda.Stream, Callable[[], Any]]] = {
            "copy_in": (
                streams.copy_in,
                lambda: self.raw.copy_(self.host_in, non_blocking=True),
            ),
            "compute": (streams.compute, self.graph.replay),
            "copy_out": (
                streams.copy_out,
                lambda: self.host_out.copy_(self.counts, non_blocking=True),
            ),
        }
        measured = {}
        for name, (stream, work) in stages.items():
            torch.cuda.synchronize()
            begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            with torch.cuda.stream(stream):
                work()
                begun.record()
                for _ in range(runs):
                    work()
                ended.record()
            ended.synchronize()
            measured[name] = begun.elapsed_time(ended) / runs
        return measured

    def _compute(self, network: TensorNetwork) -> None:
        show = None
        if self.filters is not None:
            show = partial(self.filters.show, tables=self.tables[None])
        counted = refocus_counts(self.raw, network, show)
        self.counts.copy_(counted.counts)
        self.finite.copy_(counted.finite)
        if len(counted.outputs) < 2:
            return  # there is no judge
        # kept apart: the graph's own memory is the next frame's, too
        if not self.outputs:
            self.seen = torch.empty_like(counted.seen)
            self.outputs = tuple(torch.empty_like(part) for part in counted.outputs)
        self.seen.copy_(counted.seen)
        for kept, part in zip(self.outputs, counted.outputs, strict=True):
            kept.copy_(part)


def _captured(
    work: Callable[[], None], stream: torch.cuda.Stream, pool: Any
) -> torch.cuda.CUDAGraph:
    """Capture what a function has a stream do."""
    torch.cuda.synchronize()
    with torch.inference_mode():
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_RUNS):  # libraries choose and allocate on the first runs
                work()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        mode = "thread_local"  # other threads may use the device meanwhile
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode=mode):
            work()
    return graph


def _device_error(error: RuntimeError) -> Exception:
    reason = reason_of(error)
    if isinstance(error, torch.OutOfMemoryError):
        return MemoryError(reason)
    return DeviceError(f"the GPU failed ({reason}); the engine must be opened again")
