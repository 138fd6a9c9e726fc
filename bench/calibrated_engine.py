"""Work of a known duration, and how much memory it took.

The engine of the benchmark computes: a sleep would leave the processor to the acquisition, which
no network does. It derives a key, again and again, without the GIL: one call per frame, as a
network is, that needs no memory of its own.
"""

import contextlib
import gc
import hashlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from refocus.engine.protocol import Engine, EngineInfo, Frame

TICK_S = 0.005  # an idle moment shorter than this would be lost in the time it takes to wake up


def work(rounds: int) -> None:
    """Compute, without the GIL, for so many rounds."""
    hashlib.pbkdf2_hmac("sha256", b"refocus", b"live", max(1, rounds))


def rounds_per_second(seconds: float = 0.5) -> float:
    """Measure how much work this machine does in a second: the best of what ``seconds`` allow."""
    rounds, best, until = 1000, 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        begun = time.perf_counter()
        work(rounds)
        took = time.perf_counter() - begun
        best = max(best, rounds / took)
        if took < 0.01:
            rounds *= 2
    return best


class CalibratedEngine(Engine):
    """Takes a stated time per frame, computing without the GIL, and gives back a grey frame.

    Parameters
    ----------
    seconds
        How long a frame takes on an otherwise idle core.
    speed
        What :func:`rounds_per_second` measured.
    """

    def __init__(self, seconds: float, speed: float) -> None:
        self.seconds = seconds
        self._rounds = round(seconds * speed)
        self._grey: Frame = np.zeros((0, 0), np.uint8)
        self._info = EngineInfo(name="calibrated", device="cpu", precision="exact", card=None)

    @property
    def info(self) -> EngineInfo:
        """Which engine runs which model."""
        return self._info

    def warm_up(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """Make the frame that is given back."""
        if self._grey.shape != shape or self._grey.dtype != dtype:
            self._grey = np.full(shape, 100, dtype)

    def refocus(self, frame: Frame) -> Frame:
        """Compute, and give back a grey frame: always the same, so that none is allocated."""
        if self._rounds:
            work(self._rounds)
        height, width = frame.shape
        self.warm_up((height, width), frame.dtype)
        return self._grey


class Unattached:
    """Runs an engine on a thread of its own that no acquisition knows of; a context manager.

    Parameters
    ----------
    engine
        What to run.
    period_s
        How often to begin, if the engine is faster than that; else it never rests.

    Attributes
    ----------
    took_ms
        How long each frame took.
    """

    def __init__(self, engine: CalibratedEngine, period_s: float) -> None:
        self.took_ms: list[float] = []
        self._engine = engine
        self._period_s = period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="unattached", daemon=True)

    def __enter__(self) -> "Unattached":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        frame = np.zeros((1, 1), np.uint8)
        batch = max(1, round(TICK_S / self._period_s))
        due = time.perf_counter()
        while not self._stop.is_set():
            for _ in range(batch):
                begun = time.perf_counter()
                self._engine.refocus(frame)
                self.took_ms.append((time.perf_counter() - begun) * 1e3)
            now = time.perf_counter()
            due = max(due + batch * self._period_s, now - self._period_s)
            if due > now:
                self._stop.wait(due - now)


class PeakMemory:
    """The most memory that this process took, ring of frames and all, while ``measured``.

    Attributes
    ----------
    mb
        In MB. Only Linux can forget an earlier peak; elsewhere it is that of the whole process.
    """

    def __init__(self) -> None:
        self.mb = 0.0

    @contextlib.contextmanager
    def measured(self) -> Iterator["PeakMemory"]:
        """Measure what runs inside."""
        gc.collect()
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "wb") as file:
            file.write(b"5")  # forget the peak so far
        try:
            yield self
        finally:
            self.mb = _peak_bytes() / 1e6


def _peak_bytes() -> float:
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return 1024.0 * int(line.split()[1])
    if sys.platform == "win32":
        return _windows_peak_bytes()
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else 1024 * peak)


def _windows_peak_bytes() -> float:
    import ctypes

    class Counters(ctypes.Structure):
        _fields_ = (
            ("size", ctypes.c_uint32),
            ("page_faults", ctypes.c_uint32),
            ("peak_working_set", ctypes.c_size_t),
            ("rest", ctypes.c_size_t * 7),
        )

    counters = Counters(size=ctypes.sizeof(Counters))
    library = ctypes.CDLL("psapi")
    process = ctypes.c_void_p(-1)  # this one
    if not library.GetProcessMemoryInfo(process, ctypes.byref(counters), counters.size):
        return 0.0
    return float(counters.peak_working_set)
