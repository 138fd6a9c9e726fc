"""Attach to a core: its acquisitions are refocused as they run.

```python
with attach(core, engine="auto", publish="tcp://127.0.0.1:5555") as live:
    core.run_mda(sequence)
print(live.stats)
```

``Hook`` listens to the acquisition engine, on its own thread: per frame it makes a note of two
clocks and leaves a reference in the queue, whatever the size of the frame. Nothing here ever
raises into the acquisition.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymmcore_plus.mda import RunState

from refocus.acquisition.live import Live
from refocus.acquisition.live_mode import LiveMode
from refocus.acquisition.pipeline.arrival import MDAArrival, RunContext
from refocus.acquisition.pipeline.layout import cameras
from refocus.acquisition.pipeline.pipeline import PATIENCE_SECONDS, Pipeline, Run
from refocus.acquisition.pipeline.plan import Plan, is_planned
from refocus.acquisition.pipeline.processing import Processing, Processor
from refocus.acquisition.pipeline.queue import Task
from refocus.acquisition.pipeline.raw_data import RawFrames, RawZarr
from refocus.acquisition.pipeline.sink import RunInfo, Sink, Steering
from refocus.acquisition.raw_guard import guarded
from refocus.acquisition.raw_lines import RawLines
from refocus.acquisition.selection import Chooser, Selection
from refocus.acquisition.signals import FIRST, connect_direct
from refocus.acquisition.unheard import UNSEEN, Unheard
from refocus.acquisition.whole_sequences import whole_sequences
from refocus.configs import RefocusError
from refocus.configs.light_path import KnownOptics
from refocus.configs.live_config import DEFAULTS, RefocusOptions
from refocus.configs.loading import check
from refocus.engine.by_channel import open_models
from refocus.engine.open import open_engine
from refocus.engine.protocol import UNKNOWN, Engine, EngineError, Frame, LightPath

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent, MDASequence

    from refocus.acquisition.sinks.publisher import Publisher
    from refocus.engine.region import Region

__all__ = ["FIRST", "Hook", "Live", "attach"]

logger = logging.getLogger("refocus.acquisition")

Choose = Callable[[str, Mapping[str, int]], tuple[Task, str]]

SHARED = tuple(name for name in RefocusOptions.model_fields if name != "engine")
"""Options of a run that :func:`attach` has, too; its engine may be one that is open already."""

RUNNING = (RunState.PREPARING, RunState.WAITING, RunState.ACQUIRING, RunState.PAUSED)


class Hook:
    """Feeds a pipeline from the events of a core's acquisition engine.

    Parameters
    ----------
    core
        Whose ``core.mda.events`` to listen to, from now until ``disconnect``.
    pipeline
        Takes the frames.
    engine
        Its description is part of every run's.
    selection
        Which frames are refocused.
    raw
        Where the acquisitions are saved; None where that is not known.
    planned
        What an acquisition of a mere iterable of events carries out; None where nobody knows.
    tell
        Is told what is handed on as captured, see :class:`refocus.acquisition.selection.Chooser`.
    """

    def __init__(
        self,
        core: "CMMCorePlus",
        pipeline: Pipeline,
        engine: Engine,
        selection: Selection | None = None,
        raw: Path | None = None,
        *,
        planned: "MDASequence | None" = None,
        tell: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._planned = planned
        self._core = core
        self._pipeline = pipeline
        self._engine = engine
        self._selection = selection or Selection()
        self._choose: Choose | None = None  # all frames are refocused
        self._run: Run | None = None
        self._raw_lines = RawLines(core, raw) if raw is not None else None
        self._context = RunContext({})
        self._frame = 0
        self._thread: threading.Thread | None = None
        self._tell = tell
        events = core.mda.events
        self._slots: list[tuple[Any, Callable[..., None]]] = [
            (events.sequenceStarted, self._on_started),
            (events.eventStarted, self._on_event),
            (events.frameReady, self._on_frame),
            (events.sequenceFinished, self._on_finished),
        ]
        for signal, slot in self._slots:
            connect_direct(signal, slot)
        self._unheard = Unheard(core)

    def acquiring(self) -> bool:
        """Whether an acquisition is under way, or about to be.

        The engine's own status says so only once its thread has come that far, and may say
        "finishing" for ever after an error; so its threads are looked at, too.
        """
        phase = self._core.mda.status.phase
        run = self._core.mda.run
        about_to = any(getattr(t, "_target", None) == run for t in threading.enumerate())
        alive = self._thread is not None and self._thread.is_alive()
        if phase is RunState.FINISHING:
            return about_to or (alive and self._thread is not threading.current_thread())
        return about_to or phase in RUNNING

    def finish(self) -> None:
        """End the run in progress, if ``sequenceFinished`` never came."""
        self._on_finished()

    def disconnect(self) -> None:
        """Stop listening. May be called twice."""
        for signal, slot in self._slots:
            signal.disconnect(slot)
        self._slots.clear()
        self._unheard.disconnect()
        if self._raw_lines is not None:
            self._raw_lines.let_go()
        self.finish()

    # -- on the acquisition thread

    def _on_started(self, sequence: "MDASequence | None", summary: Mapping[str, Any]) -> None:
        try:
            self._thread = threading.current_thread()
            if self._raw_lines is not None:
                self._raw_lines.begin()
            run = self._begin(sequence, summary)
            if self._raw_lines is not None and self._raw_lines.elsewhere:
                run.raw_elsewhere, path = True, self._raw_lines.path
                run.problem(f"{path}: this run is not saved there; give run_mda output={path}")
            run.plan = Plan(run.info.planned or sequence, cameras(run.info))
        except Exception:
            logger.exception("this acquisition is not refocused")

    def _on_event(self, event: "MDAEvent") -> None:
        if self._run is not None:
            self._run.plan.begun(event)

    def _on_frame(self, pixels: Frame, event: "MDAEvent", meta: Mapping[str, Any]) -> None:
        now = time.perf_counter_ns()
        try:
            run = self._run or self._begin(event.sequence, {})  # attached in mid-run: no plan
            frame = self._frame
            self._frame = frame + 1
            run.plan.came(event)
            arrival = MDAArrival(self._context, frame, pixels, event, meta, now)
            if self._choose is None:
                run.queue.put(arrival)
            else:
                channel = event.channel.config if event.channel else ""
                run.queue.put(arrival, *self._choose(channel, event.index))
            run.callback_us.add((time.perf_counter_ns() - now) / 1e3)
        except Exception:
            logger.exception("a frame was not refocused")

    def _on_finished(self, sequence: "MDASequence | None" = None) -> None:
        run, self._run = self._run, None
        if sequence is not None and self._raw_lines is not None:
            self._raw_lines.end()
        if run is None:  # what is under way, if anything, is a live view
            return
        run.raw_closed = sequence is not None
        run.queue.finish()

    def _begin(self, sequence: "MDASequence | None", summary: Mapping[str, Any]) -> Run:
        context = self._context = RunContext(summary)
        self._frame = 0
        planned = None if sequence is None or is_planned(sequence) else self._planned
        chooser = Chooser(self._selection, planned or sequence, self._tell)
        self._choose = None if chooser.everything else chooser.choose
        self._run = self._pipeline.start(
            RunInfo(
                run=str(uuid.uuid4()),
                sequence=sequence,
                camera=context.camera(),
                engine=self._engine.info.describe_fully(),
                policy=self._pipeline.policy,
                selection=vars(self._selection),
                summary_meta=summary or None,
                planned=planned,
            )
        )
        self._run.camera_gaps = lambda: context.camera_gaps
        self._run.passed = chooser.passed
        return self._run


def attach(
    core: "CMMCorePlus",
    *,
    engine: str | Path | Engine = DEFAULTS.engine,
    policy: str | None = DEFAULTS.policy,
    queue: int = DEFAULTS.queue,
    refocus_z: bool = DEFAULTS.refocus_z,
    channels: Mapping[str, str] | None = DEFAULTS.channels,
    every_nth: int = DEFAULTS.every_nth,
    region: "Region | None" = DEFAULTS.region,
    on_distrust: str = DEFAULTS.on_distrust,
    optics: Mapping[str, Any] | KnownOptics = DEFAULTS.optics,
    light_path: str | Path | None = DEFAULTS.light_path,
    publish: str | None = DEFAULTS.publish,
    publish_raw: bool = DEFAULTS.publish_raw,
    insecure: bool = DEFAULTS.insecure,
    keys: str | Path | None = DEFAULTS.keys,
    shared_memory: bool = DEFAULTS.shared_memory,
    processor: str | Processor | None = None,
    selection: Selection | None = None,
    sinks: Sequence[Sink] = (),
    raw: str | Path | RawFrames | None = None,
    throttle: bool = False,
    live_mode: bool = True,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Live:
    """Refocus every frame that a core acquires from now on, by ``run_mda`` or in its live view.

    Planes of z-stacks are handed on as captured unless ``refocus_z`` says otherwise, and so are
    channels without a model once ``channels`` names any; snaps, and sequences started on the
    camera itself, are not seen. With ``live_mode`` the log says so in a line at once; and of each
    sequence, before its first frame, what will not be refocused.

    Parameters
    ----------
    core
        A ``CMMCorePlus`` or ``UniMMCore``; its acquisitions are neither changed nor held up, and
        the last frame of a hardware sequence is fetched however busy the machine is.
    engine
        ``"auto"``, the name or address of an engine, a model file, or an engine (which stays the
        caller's to close). Where no model is named, it is the one that ships for what ``optics``
        says, and the core's pixel size does now.
    policy, queue, publish, publish_raw, insecure, keys, shared_memory, light_path
        The options of ``refocus-live run``, whose ``--help`` explains them. The policy ``"every"``
        needs ``raw``, and is the default where it is given.
    refocus_z, channels, every_nth, region, on_distrust
        Likewise; ``channels`` is a mapping, ``region`` four numbers.
    selection
        Instead of those five.
    optics
        What is known of the light path, as the section ``optics`` of a run's settings says it:
        ``{"na": 0.75, "channels": {"DAPI": {"emission_um": 0.46}}}``.
    processor
        What every frame goes through behind the refocusing: a function, ``package:name`` or an
        entry point; see :mod:`refocus.acquisition.pipeline.processing`.
    sinks
        Further sinks, called after the publisher.
    raw
        Where the acquisition saves its frames, ``core.run_mda(sequence, output=raw)``: an OME-Zarr,
        or whatever can give them back. In an OME-Zarr a frame that the camera fails to give leaves
        its place empty, and one of another size is kept in ``raw-unfit`` beside it.
    throttle
        Hold the acquisition up instead of dropping frames: only for a simulated or replayed
        camera.
    live_mode
        Refocus what the live view shows, too.
    patience_seconds
        An engine that has not returned by then is given up, and the run with it. The acquisition
        goes on.

    Returns
    -------
    Live
        Use it as a context manager, or call its ``detach``.

    Raises
    ------
    RefocusError
        The model, the endpoint or a setting is unusable; nothing is attached then.
    """
    given = locals()
    options = check(RefocusOptions, {name: given[name] for name in SHARED})
    chosen = Selection.of(options)
    if selection is not None and chosen != Selection():
        raise RefocusError(
            "attach: selection says which frames are refocused, and so do refocus_z, channels, "
            "every_nth, region and on_distrust; leave one or the other out"
        )
    selection = selection or chosen
    processing = None if processor is None else Processing(processor)
    publisher: Publisher | None = None
    with ExitStack() as stack:
        shape, dtype, stated = _frames_of(core)
        opened = _open(engine, options.insecure, options.optics.of_all(stated))
        if opened is not engine:
            stack.callback(opened.close)
        models = stack.enter_context(open_models(selection.channels, opened, options.insecure))
        if options.publish is not None:
            publisher = _publisher(
                selection,
                options.publish,
                raw=options.publish_raw,
                insecure=options.insecure,
                shared_memory=options.shared_memory,
                keys=options.keys,
                frame_bytes=int(dtype.itemsize * shape[0] * shape[1]) if len(shape) == 2 else 0,
            )
            stack.callback(publisher.release)
        first = (publisher,) if publisher else ()
        saved = RawZarr(Path(raw)) if isinstance(raw, str | Path) else raw
        pipeline = Pipeline(
            opened,
            (*first, *sinks),
            policy=options.policy,
            capacity=options.queue,
            throttle=throttle,
            raw=saved,
            channels=models,
            region=selection.region,
            on_distrust=selection.on_distrust,
            patience_seconds=patience_seconds,
            optics=options.optics,
            processing=processing,
            light_path=options.light_path,
        )
        try:
            pipeline.warm_up(shape, dtype, stated)
        except BaseException:
            pipeline.close()
            raise
        stack.enter_context(whole_sequences(core))
        zarr = saved.path if isinstance(saved, RawZarr) else None
        guard = stack.enter_context(guarded(core, zarr)) if zarr is not None else None
        tell = partial(logger.warning, "%s")
        if live_mode:  # whoever works by hand may do anything; else the sequence says what comes
            tell(f"attached, and refocuses {selection}; {UNSEEN}")
        planned = next((one.planned for one in sinks if isinstance(one, Steering)), None)
        hook = Hook(core, pipeline, opened, selection, zarr, planned=planned, tell=tell)
        live = LiveMode(core, pipeline, opened, selection, cache(tell)) if live_mode else None
        return Live(
            core,
            pipeline,
            opened,
            hooks=(hook, live) if live else (hook,),
            publisher=publisher,
            guard=guard,
            release=stack.pop_all().close,
        )


def _publisher(selection: Selection, *args: Any, **settings: Any) -> "Publisher":
    from refocus.acquisition.sinks.headers import Made
    from refocus.acquisition.sinks.publisher import Publisher

    made = Made(selection.region is not None, selection.on_distrust == "captured")
    return Publisher(*args, made=made, **settings)


def _open(engine: str | Path | Engine, insecure: bool, light_paths: Sequence[LightPath]) -> Engine:
    if isinstance(engine, Engine):
        return engine
    if not isinstance(engine, str | Path):
        raise EngineError(
            f"engine of type {type(engine).__name__}: not one; make it a subclass of "
            "refocus.engine.Engine"
        )
    return open_engine(engine, light_paths=light_paths, insecure=insecure)


def _frames_of(core: "CMMCorePlus") -> tuple[tuple[int, ...], Any, LightPath]:
    """Say what frames the core's camera gives now: ``(), uint8`` where it has none."""
    import numpy as np
    from pymmcore_plus.metadata.functions import image_info

    try:
        info = image_info(core)
        return tuple(info["plane_shape"]), np.dtype(info["dtype"]), LightPath(info["pixel_size_um"])
    except (RuntimeError, LookupError, TypeError, ValueError):
        return (), np.dtype(np.uint8), UNKNOWN
