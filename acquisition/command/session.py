"""One ``refocus-live run``, from its settings to its report; no terminal in here."""

import errno
import logging
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from refocus.acquisition.command.accounts import settle, why_nothing
from refocus.acquisition.command.fit import check_presets, guarded
from refocus.acquisition.command.report import (
    Album,
    build_report,
    judge,
    mean_quality,
    picture_run,
    write_report,
)
from refocus.acquisition.command.sources import Source, check_camera, keep_in_focus, open_source
from refocus.acquisition.command.upstream import Upstream
from refocus.acquisition.hook import SHARED, attach
from refocus.acquisition.live import Live
from refocus.acquisition.pipeline.stats import Stats
from refocus.configs import Incomplete, RefocusError
from refocus.configs.live_config import LiveConfig
from refocus.engine.protocol import Engine

if TYPE_CHECKING:
    from refocus.acquisition.pipeline.sink import Sink

log = logging.getLogger("refocus.run")

RAW, REFOCUSED = "raw.ome.zarr", "refocused.ome.zarr"
SETTLE_SECONDS = 30.0
"""How long the frames already taken may still need once a run was interrupted."""


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
    nothing
        Why nothing was refocused; empty where something was.
    """

    report: dict[str, Any]
    files: tuple[Path, ...]
    error: RefocusError | None = None
    nothing: str = ""


class Watcher(Protocol):
    """Is told how a run is getting on."""

    def waiting(self, subscribers: int, endpoint: str) -> None:
        """Say that the run waits for so many subscribers to join."""
        ...

    def begin(self, source: Source, engine: Engine) -> None:
        """Say that the microscope and the engine are ready."""
        ...

    def progress(self, stats: Stats) -> None:
        """Show how many frames there are, about ten times a second."""
        ...

    def judging(self) -> None:
        """Say that the frames are over, and are being compared with their references."""
        ...


def run(config: LiveConfig, watcher: Watcher) -> SessionResult:
    """Acquire, refocus, publish, save, report.

    Raises
    ------
    RefocusError
        Something the user can mend. What was captured until then is kept and reported.
    KeyboardInterrupt, Stopped
        The run was interrupted; likewise.
    """
    from refocus.engine import open_engine

    report_path = config.report or (config.save / "report.json" if config.save else None)
    _check_outputs(config.save, report_path)
    with ExitStack() as stack:
        also: list[Sink] = []
        if config.metrics:
            from refocus.acquisition.sinks.prometheus import Metrics

            also.append(stack.enter_context(Metrics(config.metrics, insecure=config.insecure)))
        upstream = stack.enter_context(Upstream())
        engine = open_engine(config.engine)
        stack.callback(engine.close)
        source = stack.enter_context(open_source(config))
        return _run(config, source, engine, watcher, report_path, also, upstream)


def _run(  # noqa: PLR0917
    config: LiveConfig,
    source: Source,
    engine: Engine,
    watcher: Watcher,
    report_path: Path | None,
    also: Sequence["Sink"],
    upstream: Upstream,
) -> SessionResult:
    album = Album()
    sinks: list[Sink] = [album, *also]
    if config.save:
        from refocus.acquisition.sinks.recorder import Recorder

        check_presets(source.core, source.sequence)
        check_camera(source.core)  # as the presets have set it
        config.save.mkdir(parents=True, exist_ok=True)
        sinks.append(Recorder(config.save / REFOCUSED))
    _check_channels(source)
    if config.act:
        source, keeper = keep_in_focus(source, config.act_limit_um)
        sinks.append(keeper)
    live = attach(
        source.core,
        engine=engine,
        **{name: getattr(config, name) for name in SHARED if name not in ("queue", "optics")},
        optics=source.optics,
        queue=_queue(config, source),
        sinks=sinks,
        raw=config.save / RAW if config.save else None,
        throttle=source.throttle,
        live_mode=False,
    )
    broken: BaseException | None = None
    try:
        _wait_for_subscribers(live, config, watcher)
        watcher.begin(source, engine)
        _acquire(source, live, config.save / RAW if config.save else None, watcher, upstream)
    except BaseException as error:  # reported first, raised again below
        broken = error
    finally:
        live.detach(SETTLE_SECONDS if broken else None)
    stats = live.stats
    watcher.progress(stats)
    if broken and not stats.received + stats.skipped:
        raise broken
    watcher.judging()
    judged = judge(album.results, source.witness)
    report = build_report(stats, engine.info.describe(), mean_quality(judged), live.plan)
    if upstream.warnings:
        report["warnings"] = dict(upstream.warnings)
    files = [config.save / name for name in (RAW, REFOCUSED)] if config.save else []
    if report_path is not None:
        picture = report_path.with_suffix(".png")
        try:
            write_report(report_path, report)
            files.append(report_path)
            if picture_run(picture, album.results, source.witness, judged):
                files.append(picture)
        except OSError as error:
            log.error("%s: not written: %s", report_path, error.strerror or error)
    if broken:
        raise broken
    lacking = _check_sinks(live, config) or settle(stats, live.plan, live.problems)
    if config.strict and not lacking and (upstream.warnings or live.problems):
        told = sum(upstream.warnings.values()) + sum(live.problems.values())
        lacking = Incomplete(f"--strict: {told} warnings, told above; the frames are kept")
    return SessionResult(report, tuple(files), lacking, why_nothing(stats, config))


def _check_channels(source: Source) -> None:
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


def _wait_for_subscribers(live: Live, config: LiveConfig, watcher: Watcher) -> None:
    if config.wait_subscribers:
        watcher.waiting(config.wait_subscribers, live.endpoint or "")
        while not live.wait_subscribers(config.wait_subscribers, timeout=0.2):
            pass  # in short steps, so that Ctrl-C gets through


def _acquire(
    source: Source, live: Live, raw: Path | None, watcher: Watcher, upstream: Upstream
) -> None:
    """Run the sequence on a thread of its own, and wait for it and for every frame of it."""
    problems: list[Exception] = []
    # Not Thread.join: interrupted by a signal, it takes a running thread for one that has ended
    # (Python 3.11), and the acquisition would go on unseen.
    over = threading.Event()

    def acquire() -> None:
        try:
            source.core.mda.run(source.sequence, output=raw)
        except Exception as error:
            problems.append(error)
        finally:
            over.set()

    thread = threading.Thread(target=acquire, name="acquisition")
    room = _Room(raw, source.core.getImageBufferSize() if raw else 0)
    with ExitStack() as stack:
        guard = stack.enter_context(guarded(source.core, raw)) if raw else None
        thread.start()
        try:
            for look in count():
                if over.wait(LOOK_SECONDS):
                    break
                stats = live.stats
                room.check(stats.received)
                if look % 5 == 0:
                    watcher.progress(stats)
            while not live.wait(timeout=0.1):
                watcher.progress(live.stats)
        except BaseException:
            while not over.is_set():  # again and again: before it has begun, a cancel is lost
                source.core.mda.cancel()
                over.wait(0.1)
            raise
    if guard is not None and guard.error is not None:
        raise guard.error
    for error in (*problems, *map(OSError, upstream.unsaved)):
        raise _explained(error, raw) from error


LOOK_SECONDS = 0.02
"""How often the disk is looked at: a fast camera fills what is spared in a tenth of a second."""


class _Room:
    """Ends a run in good order before the disk is full.

    The raw data are written asynchronously, and a disk that is full is only told of when they
    are closed: by then frames are lost.
    """

    SPARE_BYTES = 16 << 20
    """For metadata, and for the report."""

    def __init__(self, raw: Path | None, frame_bytes: int) -> None:
        self._raw = raw
        self._frame_bytes = frame_bytes
        self._received = 0

    def check(self, received: int) -> None:
        """Look whether what comes until the next few looks still fits.

        Raises
        ------
        RefocusError
            It does not.
        """
        if self._raw is None:
            return
        since, self._received = received - self._received, received
        coming = 2 * self._frame_bytes * (5 * since + 16)  # raw and refocused
        if shutil.disk_usage(self._raw.parent).free < self.SPARE_BYTES + coming:
            raise _full(self._raw)


def _explained(error: Exception, raw: Path | None) -> RefocusError:
    """Say in one line why an acquisition ended early."""
    text = " ".join(str(error).split()) or type(error).__name__
    if _has_no_descriptors(error):
        where = f"{raw}: " if raw is not None else ""
        return RefocusError(
            f"{where}too many open files, and the last frames are missing; those saved before are "
            "kept: raise the limit (ulimit -n), or close what else this program has open"
        )
    if raw is not None and _is_full(raw, error):
        return RefocusError(
            f"{raw}: the disk is full, and the last frames are missing; those saved before are "
            "kept: free space, or save elsewhere"
        )
    return RefocusError(f"acquisition stopped early: {text[:300]}")


def _full(path: Path) -> RefocusError:
    return RefocusError(
        f"{path}: the disk is full: the run was stopped, and what was captured is kept; "
        "free space, or save elsewhere"
    )


def _has_no_descriptors(error: Exception) -> bool:
    code = error.errno if isinstance(error, OSError) else None
    return code in (errno.EMFILE, errno.ENFILE) or "Too many open files" in str(error)


def _is_full(path: Path, error: Exception) -> bool:
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, OSError) and error.errno in full:
        return True
    said = ("No space left", "RESOURCE_EXHAUSTED", "File too large", "quota exceeded")
    if any(text in str(error) for text in said):
        return True
    return shutil.disk_usage(path.parent).free < 2**16


def _check_sinks(live: Live, config: LiveConfig) -> RefocusError | None:
    """Refuse to call a run good whose refocused frames are not all on the disk."""
    for problem in live.problems:
        if config.save and problem.startswith("Recorder"):
            return RefocusError(
                f"{config.save / REFOCUSED}: incomplete, the raw frames are kept: {problem}"
            )
    return None


def _check_outputs(save: Path | None, report: Path | None) -> None:
    """Find out before the first frame whether the results can be written."""
    if save is not None:
        for name in (RAW, REFOCUSED):
            if (save / name).exists():
                raise RefocusError(
                    f"{save / name}: exists already, and is not overwritten; "
                    "name another folder with --save"
                )
    if report is not None and (report.is_dir() or report.suffix.lower() == ".png"):
        raise RefocusError(
            f"{report}: not a file name for the report; name one that ends in .json "
            "(the picture gets the same name with .png)"
        )
    for folder in (save, report.parent if report else None):
        if folder is None:
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".refocus-{time.monotonic_ns()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise RefocusError(
                f"{folder}: cannot be written: {error.strerror}; name another folder"
            ) from error
