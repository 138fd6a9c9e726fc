"""Where the napari widget's pictures come from: a publisher, or a core in the same process.

A feed works on threads of its own and leaves its newest picture in a ``Handover``; the GUI takes it
when it has time. Nobody waits for anybody, and what nobody took in time is replaced. No Qt in here.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from refocus.acquisition.pipeline.frame import CapturedFrame, FrameResult
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.configs import RefocusError
from refocus.stream.messages import EndHeader, RunHeader
from refocus.stream.subscriber import ReceivedFrame, subscribe

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

    from refocus.engine.protocol import Engine, Frame

logger = logging.getLogger("refocus.view")

SILENCE_S = 3.0
"""After so long without a message a subscription is made anew: a run sends one every second."""


@dataclass(frozen=True, eq=False)
class Picture:
    """What the layers show of one frame.

    Attributes
    ----------
    refocused, captured
        ``(H, W)``, ``uint8`` or ``uint16``, read-only; captured is None where it is not sent.
    channel
        Name of the channel, or ``""``.
    pixel_size_um
        Size of a pixel at the specimen, µm; 0 where unknown.
    bit_depth
        Significant bits of a pixel.
    frame
        Capture number, from 0.
    latency_ms
        From capture to its result.
    was_refocused
        False for a frame that was handed on as captured.
    """

    refocused: "Frame"
    captured: "Frame | None"
    channel: str
    pixel_size_um: float
    bit_depth: int
    frame: int
    latency_ms: float
    was_refocused: bool


class Handover:
    """Holds one picture, the newest, between the thread that has it and the one that shows it.

    Attributes
    ----------
    channel
        The only channel to take, or None for all.
    passed
        Pictures put in so far.
    """

    def __init__(self) -> None:
        self.channel: str | None = None
        self.passed = 0
        self._lock = threading.Lock()
        self._picture: Picture | None = None
        self._channels: list[str] = []

    @property
    def channels(self) -> list[str]:
        """Names of the channels seen so far, in that order."""
        with self._lock:
            return list(self._channels)

    def put(self, picture: Picture) -> None:
        """Leave a picture, in place of the one before; never waits."""
        with self._lock:
            self.passed += 1
            if picture.channel not in self._channels:
                self._channels.append(picture.channel)
            if self.channel in (None, picture.channel):
                self._picture = picture

    def take(self) -> Picture | None:
        """Take the newest picture; None if there is none since the last."""
        with self._lock:
            picture, self._picture = self._picture, None
            return picture


class PictureSource(Protocol):
    """Brings pictures to a handover, from ``start`` to ``stop``; neither of them blocks."""

    @property
    def status(self) -> str:
        """How it stands, in one line."""
        ...

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> None:
        """End, soon. May be called twice."""
        ...


class EndpointFeed:
    """Follows a publisher, run after run; it may start later, and again.

    Parameters
    ----------
    endpoint
        Such as ``"tcp://127.0.0.1:5556"``.
    handover
        Where pictures are left.
    keys
        The reader's folder of keys, where the publisher asks for them.

    Raises
    ------
    RefocusError
        The endpoint is not one, or there are no such keys.
    """

    def __init__(self, endpoint: str, handover: Handover, keys: Path | None = None) -> None:
        subscribe(endpoint, keys=keys).close()  # refuses what can never work
        self.status = f"listening on {endpoint}"
        self._endpoint, self._handover, self._keys = endpoint, handover, keys
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="refocus-napari", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, with the next message or after a silence. May be called twice."""
        self._stopped.set()

    def _follow(self) -> None:
        while not self._stopped.is_set():
            try:
                with subscribe(
                    self._endpoint, SILENCE_S, runs=None, high_water=2, keys=self._keys
                ) as subscription:
                    for message in subscription.messages():
                        if self._stopped.is_set():
                            return
                        self._take(message)
            except RefocusError as error:  # silence, or another schema
                self.status = str(error)
            except Exception:
                logger.exception("a message could not be shown")
                self.status = "a message could not be shown; the log says why"
                self._stopped.wait(SILENCE_S)

    def _take(self, message: Any) -> None:
        if isinstance(message, ReceivedFrame):
            header = message.header
            self._handover.put(
                Picture(
                    refocused=message.pixels,
                    captured=message.raw if header.refocused else message.pixels,
                    channel=header.channel,
                    pixel_size_um=header.pixel_size_um,
                    bit_depth=header.bit_depth,
                    frame=header.frame,
                    latency_ms=header.times_ms.published,
                    was_refocused=header.refocused,
                )
            )
        elif isinstance(message, RunHeader):
            self.status = _engine(message.engine)
        elif isinstance(message, EndHeader):
            self.status = f"the run is over: {message.frames.get('published', 0)} frames"


class CoreFeed:
    """Refocuses what a core of this process acquires, live view included.

    Parameters
    ----------
    core
        Left alone but for listening to it, see :func:`refocus.acquisition.attach`.
    handover
        Where pictures are left.
    engine
        ``"auto"``, the name of an engine, a model file, or an engine.
    publish
        ZeroMQ endpoint to publish on, too; None for none.
    """

    def __init__(
        self,
        core: "CMMCorePlus",
        handover: Handover,
        engine: "str | Path | Engine" = "auto",
        publish: str | None = None,
    ) -> None:
        self.status = "opening the engine"
        self._core, self._handover = core, handover
        self._engine, self._publish = engine, publish
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="refocus-napari", daemon=True)

    def start(self) -> None:
        """Open the engine and attach, on a thread of its own: it takes seconds."""
        self._thread.start()

    def stop(self) -> None:
        """Detach once the frames already taken are done. May be called twice."""
        self._stopped.set()

    def _run(self) -> None:
        from refocus.acquisition.hook import attach

        try:
            live = attach(
                self._core,
                engine=self._engine,
                publish=self._publish,
                publish_raw=True,
                sinks=[_Show(self._handover, self._say)],
                queue=2,  # whoever looks wants the present
            )
        except RefocusError as error:
            self.status = str(error)
            return
        self.status = "attached: waiting for frames"
        self._stopped.wait()
        live.detach(timeout=30.0)

    def _say(self, text: str) -> None:
        self.status = text


class _Show:
    """A sink that leaves every result in a handover."""

    def __init__(self, handover: Handover, say: Callable[[str], None]) -> None:
        self._handover = handover
        self._say = say

    def start(self, run: RunInfo) -> None:
        self._say(_engine(run.engine))

    def put(self, result: FrameResult) -> None:
        captured = result.captured
        self._handover.put(
            Picture(
                refocused=_read_only(result.pixels),
                captured=_read_only(captured.pixels),
                channel=captured.channel,
                pixel_size_um=captured.pixel_size_um,
                bit_depth=captured.bit_depth,
                frame=captured.frame,
                latency_ms=result.queued_ms + result.engine_ms,
                was_refocused=result.refocused,
            )
        )

    def skip(self, frame: CapturedFrame, reason: str) -> None:
        """Leave out a frame that has no result."""

    def close(self, stats: Stats) -> None:
        self._say(f"the run is over: {stats.published} of {stats.received} frames")


def _read_only(pixels: "Frame") -> "Frame":
    """Look at pixels through a view that cannot change them: the acquisition still writes them."""
    view = pixels.view()
    view.flags.writeable = False
    return view


def _engine(described: Any) -> str:
    words = (described.get(key) for key in ("model", "name", "precision", "device"))
    return " ".join(str(word) for word in words if word)
