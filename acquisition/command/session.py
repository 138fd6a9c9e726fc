"""One ``refocus-live run``, from its settings to its report; no terminal in here."""

import logging
import threading
from collections.abc import Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from refocus.acquisition.command.accounts import settle, why_nothing
from refocus.acquisition.command.disk import (
    LOOK_SECONDS,
    RAW,
    REFOCUSED,
    Room,
    alone_in,
    check_outputs,
    explained,
)
from refocus.acquisition.command.fit import check_channels, check_presets
from refocus.acquisition.command.report import (
    STATES,
    Album,
    FrameQuality,
    build_report,
    judge,
    mean_quality,
    write_report,
)
from refocus.acquisition.command.sources import Source, keep_in_focus, open_source, reimage
from refocus.acquisition.command.upstream import Upstream
from refocus.acquisition.hook import SHARED, attach
from refocus.acquisition.live import Live
from refocus.acquisition.pipeline.stats import Stats
from refocus.configs import Incomplete, RefocusError, one_line, reason_of
from refocus.configs.live_config import LiveConfig
from refocus.configs.terminal import leaving_on_ctrl_c
from refocus.engine.protocol import Engine

if TYPE_CHECKING:
    from refocus.acquisition.pipeline.sink import Sink
    from refocus.acquisition.sinks.recorder import Recorder

log = logging.getLogger("refocus.run")

SETTLE_SECONDS = 30.0
"""How long the frames already taken may still need once a run was interrupted."""

CAMERA_SECONDS = 2.0
"""How long a run that ends waits for the camera's frame before it says so."""


@dataclass(frozen=True)
class SessionResult:
    """What a run leaves.

    Attributes
    ----------
    report
        Content of ``report.json``.
    files
        What was written, in the order a reader wants it.
    error
        What the run lacks; None where all is well.
    """

    report: dict[str, Any]
    files: tuple[Path, ...]
    error: RefocusError | None = None


class Watcher(Protocol):
    """Is told how a run is getting on."""

    def waiting(self, subscribers: int, endpoint: str) -> None:
        """Say that the run waits for so many subscribers to join."""
        ...

    def publishing(self, endpoint: str) -> None:
        """Say which endpoint was chosen."""
        ...

    def begin(self, source: Source, engine: Engine) -> None:
        """Say that the microscope and the engine are ready."""
        ...

    def progress(self, stats: Stats) -> None:
        """Show how many frames there are, about ten times a second."""
        ...

    def cancelling(self) -> None:
        """Say that the run ends, but for a frame that the camera has not given yet."""
        ...

    def judging(self) -> None:
        """Say that the frames are over, and are being compared with their references."""
        ...


def run(config: LiveConfig, watcher: Watcher, typed: Container[str] = ()) -> SessionResult:
    """Acquire, refocus, publish, save, report.

    Parameters
    ----------
    config
        What to do.
    watcher
        Is told how it is getting on.
    typed
        Those of the settings that are meant for this run alone, and not for a rig.

    Raises
    ------
    RefocusError
        Something the user can mend. What was captured until then is kept and reported.
    KeyboardInterrupt, Stopped
        The run was interrupted; likewise.
    """
    report_path = config.report or (config.save / "report.json" if config.save else None)
    with ExitStack() as stack:
        stack.enter_context(alone_in(config.save))
        check_outputs(config.save, report_path)
        upstream = stack.enter_context(Upstream())
        try:
            begun = _open(config, stack, typed)
        except BaseException as error:
            _report_refusal(report_path, error)
            raise
        return _run(config, begun, watcher, report_path, upstream)


@dataclass(frozen=True)
class _Begun:
    """What a run has opened."""

    source: Source
    live: Live
    recorder: "Recorder | None"
    album: Album
    decided: Mapping[str, int]
    """How often what was decided of a frame, with --reimage."""


def _open(config: LiveConfig, stack: ExitStack, typed: Container[str]) -> _Begun:
    sinks: list[Sink] = []
    decided: Mapping[str, int] = {}
    if config.metrics:
        from refocus.acquisition.sinks.prometheus import Metrics

        sinks.append(stack.enter_context(Metrics(config.metrics, insecure=config.insecure)))
    source = stack.enter_context(open_source(config))
    if "channels" in typed:
        check_channels(source.sequence, config.channels or ())
    check_presets(source.core, source.sequence, saved=config.save is not None)
    album = Album(frames=source.frames or 0)
    sinks.insert(0, album)
    recorder = _recorder(config.save) if config.save else None
    if recorder is not None:
        sinks.append(recorder)
    _check_told_channels(source)
    if config.act:
        source, keeper = keep_in_focus(source, config.act_limit_um)
        sinks.append(keeper)
    if config.reimage:
        source, steering = reimage(source, config)
        sinks.append(steering)
        decided = steering.counts
    live = attach(
        source.core,
        engine=config.engine,
        **{name: getattr(config, name) for name in SHARED if name not in ("queue", "optics")},
        optics=source.optics,
        processor=config.processor,
        queue=_queue(config, source),
        sinks=sinks,
        raw=config.save / RAW if config.save else None,
        throttle=source.throttle,
        live_mode=False,
    )
    return _Begun(source, live, recorder, album, decided)


def _recorder(folder: Path) -> "Recorder":
    from refocus.acquisition.sinks.recorder import Recorder

    return Recorder(folder / REFOCUSED)


def _report_refusal(path: Path | None, error: BaseException) -> None:
    """Leave a report of a run that never began."""
    if path is None:
        return
    frames = dict.fromkeys(STATES, 0)
    with _or_say(path):
        write_report(path, {"frames": frames, "error": one_line(error)})


@contextmanager
def _or_say(path: Path) -> Iterator[None]:
    """Write, or say why not: it must not hide how the run went."""
    try:
        yield
    except OSError as error:
        log.error("%s: not written: %s", path, reason_of(error))


def _run(
    config: LiveConfig,
    begun: _Begun,
    watcher: Watcher,
    report_path: Path | None,
    upstream: Upstream,
) -> SessionResult:
    source, live, album = begun.source, begun.live, begun.album
    broken: BaseException | None = None
    try:
        _tell_chosen(live, config, watcher)
        _wait_for_subscribers(live, config, watcher)
        watcher.begin(source, live.engine)
        _acquire(begun, config.save / RAW if config.save else None, watcher, upstream)
    except BaseException as error:  # reported first, raised again below
        broken = error
    try:
        live.detach(SETTLE_SECONDS if broken else None)
    except Exception as error:  # an engine, as it was closed
        broken = broken or error
    stats = live.stats
    watcher.progress(stats)
    watcher.judging()
    judged = judge(album.results, source.witness)
    report = _describe(begun, stats, upstream, judged, broken)
    files = [config.save / name for name in (RAW, REFOCUSED)] if config.save else []
    if report_path is not None:
        with _or_say(report_path):
            from refocus.acquisition.command.picture import picture_run  # SciPy: only where needed

            write_report(report_path, report)
            files.append(report_path)
            picture = report_path.with_suffix(".png")
            if picture_run(picture, album.results, source.witness, judged):
                files.append(picture)
    if broken:
        raise broken
    lacking = _check_sinks(live, config) or settle(stats, live.plan, live.problems)
    if config.strict and not lacking and (upstream.warnings or live.problems):
        told = sum(upstream.warnings.values()) + sum(live.problems.values())
        lacking = Incomplete(f"--strict: {told} warnings, told above; the frames are kept")
    return SessionResult(report, tuple(files), lacking)


def _describe(
    begun: _Begun,
    stats: Stats,
    upstream: Upstream,
    judged: Mapping[int, FrameQuality],
    broken: BaseException | None,
) -> dict[str, Any]:
    """Give the report of a run that is over."""
    live, engine = begun.live, begun.live.engine.info.describe()
    nothing = why_nothing(stats, live.passed)
    report = build_report(stats, engine, mean_quality(judged), live.plan, nothing)
    if begun.decided:
        report["decided"] = dict(begun.decided)
    if upstream.warnings:
        report["warnings"] = dict(upstream.warnings)
    if broken:
        report["error"] = one_line(broken)
    return report


def _check_told_channels(source: Source) -> None:
    """Warn of optics told of a channel that is none, where a channel is left for which they may be.

    Settings of a rig may name more channels than a sequence has.
    """
    told, taken = source.optics.channels.keys(), {c.config for c in source.sequence.channels}
    strange, untold = sorted(told - taken), sorted(taken - told)
    if strange and untold:
        log.warning(
            "optics: channels: no channel %s in this sequence, and nothing is told of %s; "
            "name it as the sequence does, or tell of it",
            " or ".join(strange),
            " and ".join(untold),
        )


def _queue(config: LiveConfig, source: Source) -> int:
    # where the camera waits, a longer queue only makes every frame older
    return 1 if source.throttle and "queue" not in config.model_fields_set else config.queue


def _tell_chosen(live: Live, config: LiveConfig, watcher: Watcher) -> None:
    """Say where readers connect, if that was left open."""
    endpoint, asked = live.endpoint, config.publish or ""
    if endpoint and endpoint.rpartition(":")[2] != asked.rpartition(":")[2]:
        watcher.publishing(endpoint)


def _wait_for_subscribers(live: Live, config: LiveConfig, watcher: Watcher) -> None:
    if config.wait_subscribers:
        watcher.waiting(config.wait_subscribers, live.endpoint or "")
        while not live.wait_subscribers(config.wait_subscribers, timeout=0.2):
            pass  # in short steps, so that Ctrl-C gets through


def _acquire(begun: _Begun, raw: Path | None, watcher: Watcher, upstream: Upstream) -> None:
    """Run the sequence on a thread of its own, and wait for it and for every frame of it."""
    source, live, room = begun.source, begun.live, _keep_room(begun, raw)
    problems: list[Exception] = []
    # Not Thread.join: interrupted by a signal, it takes a running thread for one that has ended
    # (Python 3.11), and the acquisition would go on unseen.
    over = threading.Event()

    def acquire() -> None:
        try:
            source.core.mda.run(source.events or source.sequence, output=raw)
        except Exception as error:
            problems.append(error)
        finally:
            over.set()

    # a daemon: who leaves a camera alone does not wait for it at the end of the process, either
    thread = threading.Thread(target=acquire, name="acquisition", daemon=True)
    thread.start()
    try:
        while not over.wait(LOOK_SECONDS):
            if room is not None:
                room.look()
            if live.gone:
                raise RefocusError(f"{live.gone}; the run was stopped")
            watcher.progress(live.stats)
        while not live.wait(timeout=0.1):
            watcher.progress(live.stats)
    except BaseException:
        _cancel(source, over, watcher)
        raise
    if live.guard is not None and live.guard.error is not None:
        raise live.guard.error
    for error in (*problems, *map(OSError, upstream.unsaved)):
        raise explained(error, raw) from error


def _keep_room(begun: _Begun, raw: Path | None) -> Room | None:
    """Have the acquisition stop at a frame that does not fit the file, or the disk."""
    core, guard, recorder = begun.source.core, begun.live.guard, begun.recorder
    if raw is None or guard is None or recorder is None:
        return None
    room = Room(
        raw,
        core.getImageBufferSize(),
        core.getNumberOfCameraChannels(),
        # in the order of a frame's way: one that goes on meanwhile is counted twice, not missed
        unwritten=lambda: guard.unwritten + begun.live.owed + recorder.unwritten,
    )
    guard.stops, guard.ask = True, room.check
    return room


def _cancel(source: Source, over: threading.Event, watcher: Watcher) -> None:
    """End the acquisition; that is not before the frame that the camera is taking."""
    for _ in range(round(CAMERA_SECONDS / 0.1)):
        source.core.mda.cancel()  # again and again: before it has begun, a cancel is lost
        if over.wait(0.1):
            return
    watcher.cancelling()
    with suppress(KeyboardInterrupt), leaving_on_ctrl_c():
        while not over.wait(0.1):
            source.core.mda.cancel()


def _check_sinks(live: Live, config: LiveConfig) -> RefocusError | None:
    """Refuse to call a run good whose refocused frames are not all on the disk."""
    for problem in live.problems:
        if config.save and problem.startswith("Recorder left out"):
            return RefocusError(
                f"{config.save / REFOCUSED}: incomplete, the raw frames are kept: {problem}"
            )
    return None
