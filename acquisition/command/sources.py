"""Where the frames of ``refocus-live run`` come from: a core with its camera, and a sequence."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import useq
from pydantic import ValidationError
from pymmcore_plus import CMMCorePlus

from refocus.acquisition.command.report import Witness
from refocus.acquisition.microscopes.scene import Truth
from refocus.acquisition.microscopes.virtual import VirtualMicroscope
from refocus.acquisition.pipeline.plan import count_frames
from refocus.configs import BBBC006, Optics, RefocusError, first_fault, one_line
from refocus.configs.light_path import STATED, UNKNOWN, KnownOptics, LightPath
from refocus.configs.live_config import DEFAULTS, LiveConfig
from refocus.configs.loading import read_yaml

if TYPE_CHECKING:
    from refocus.acquisition.sinks.focus_keeper import FocusKeeper
    from refocus.acquisition.sinks.reimaging import Reimaging

log = logging.getLogger("refocus.run")

DEMO_FRAMES = 40
FIELDS = 4
"""Fields of view of the demo, each at its own distance from focus."""
SPREAD_UM = 4.0
"""Between the nearest and the farthest of them, µm."""


@dataclass(frozen=True, eq=False)
class Source:
    """A microscope that is ready to acquire.

    Attributes
    ----------
    core
        Its core.
    sequence
        What to acquire.
    frames
        How many frames that makes, or None where nobody knows beforehand.
    throttle
        The camera waits for the engine: only ever a simulated one without a rate of its own.
    witness
        Tells what is known of a captured frame.
    optics
        What is known of the light path.
    events
        What carries the sequence out, where more than its own events do; else None.
    """

    core: CMMCorePlus
    sequence: useq.MDASequence
    frames: int | None
    throttle: bool
    witness: Witness
    optics: KnownOptics = DEFAULTS.optics
    events: Iterable[useq.MDAEvent] | None = None


@contextmanager
def open_source(config: LiveConfig) -> Iterator[Source]:
    """Open the microscope that the settings name, and release its devices at the end.

    Raises
    ------
    RefocusError
        A file or folder they name is missing or cannot be used.
    """
    if config.mm_config:
        with _micro_manager(config) as source:
            yield source
        return
    stated = _stated(config)
    with _virtual(config, stated) as microscope:
        if config.exposure:
            microscope.core.setExposure(config.exposure)
        sequence = _sequence(config, microscope)
        microscope.look_ahead(sequence)
        if config.fps:
            microscope.warm_up()
        yield Source(
            core=microscope.core,
            sequence=sequence,
            frames=count_frames(sequence),
            throttle=config.fps is None,
            witness=_witness(microscope),
            optics=config.optics.filled(stated),
        )


def read_sequence(path: Path) -> useq.MDASequence:
    """Read a useq sequence, YAML or JSON, and refuse keys that useq would pass over in silence.

    Raises
    ------
    RefocusError
        The file cannot be read, or is not a sequence.
    """
    _, content = read_yaml(path, "a useq sequence")  # JSON is YAML
    if not isinstance(content, dict):
        raise RefocusError(f"{path}: not a useq sequence; expected keys such as 'time_plan:'")
    allowed = list(useq.MDASequence.model_fields)
    for key in content:
        if key not in allowed:
            raise RefocusError(f"{path}: unknown key '{key}'; allowed: {', '.join(allowed)}")
    try:
        return useq.MDASequence.model_validate(content)
    except ValidationError as error:
        where, said = first_fault(error)
        where = where.partition(".")[0] or "sequence"
        raise RefocusError(f"{path}: {where}: {said}; see the useq documentation") from error


def demo_sequence(frames: int, defocus_um: float, field_um: float) -> useq.MDASequence:
    """Visit up to four fields side by side, each at another distance from focus, in bursts.

    Parameters
    ----------
    frames
        How many in all.
    defocus_um
        Mean distance of the fields from focus, µm.
    field_um
        Width of a field, µm.
    """
    fields = max(n for n in range(1, FIELDS + 1) if frames % n == 0)
    step = SPREAD_UM / max(fields - 1, 1)
    first = defocus_um - step * (fields - 1) / 2
    return useq.MDASequence(
        axis_order=tuple("ptcz"),
        stage_positions=tuple(
            useq.Position(x=i * field_um, y=0.0, z=first + i * step, name=f"field{i}")
            for i in range(fields)
        ),
        time_plan=_bursts(frames // fields),
    )


def keep_in_focus(source: Source, limit_um: float, **belief: float) -> "tuple[Source, FocusKeeper]":
    """Give the same source with a sequence that follows focus, and the sink that makes it do so.

    Events are taken one at a time: in a hardware sequence the stage is told all of its positions
    before the first frame.

    Raises
    ------
    RefocusError
        There is no focus stage, the sequence has z-stacks or an autofocus, or the microscope's
        continuous focus is on.
    """
    from refocus.acquisition.sinks.focus_keeper import FocusKeeper, require_stage

    require_stage(source.core, "--act")
    stage_um = source.core.getZPosition()
    keeper = FocusKeeper(source.sequence, stage_um, limit_um, **belief)
    if source.core.mda.engine is not None:
        source.core.mda.engine.use_hardware_sequencing = False
    return replace(source, sequence=keeper.sequence), keeper


def reimage(source: Source, config: LiveConfig) -> "tuple[Source, Reimaging]":
    """Give the same source with a sequence that is added to, and the sink that decides.

    Raises
    ------
    RefocusError
        See :class:`~refocus.acquisition.sinks.reimaging.Reimaging`.
    """
    from refocus.acquisition.sinks.reimaging import Reimaging

    steering = Reimaging(
        source.sequence,
        source.core,
        seconds=config.reimage_seconds,
        frames=config.reimage_frames,
        limit_um=config.act_limit_um,
    )
    return replace(source, events=steering), steering


def _stated(config: LiveConfig) -> LightPath:
    """Give what the first file of a replay that can says of its light path: a PNG cannot."""
    if not config.replay:
        return UNKNOWN
    from refocus.optics.images import list_images
    from refocus.optics.tiff_metadata import file_light_path

    first = min(list_images(config.replay), key=lambda file: file.suffix.lower() == ".png")
    stated = file_light_path(first)
    config.optics.check_pixel_size(stated.pixel_size_um)
    return stated


def _virtual(config: LiveConfig, stated: LightPath) -> VirtualMicroscope:
    # heavy, and not needed for a real microscope
    if config.replay:
        from refocus.acquisition.microscopes.replayed import ReplayMicroscope

        optics = Optics()
        if size_um := stated.pixel_size_um or config.optics.pixel_size_um:
            optics = optics.model_copy(update={"pixel_size_um": size_um})
        return ReplayMicroscope(config.replay, config.reference, fps=config.fps, optics=optics)
    from refocus.acquisition.microscopes.simulated import SimulatedMicroscope

    return SimulatedMicroscope(
        frame_shape=(config.size, config.size),
        specimen=config.specimen,
        optics=_simulated(config.optics),
        z_um=config.defocus,
        drift_um_per_min=config.drift,
        tilt_um_per_mm=config.tilt,
        fps=config.fps,
    )


def _simulated(told: KnownOptics) -> Optics:
    """Give the objective that the demo has: that of BBBC006, but for what is told of another."""
    from refocus.optics.transfer import light_path_of

    usual = light_path_of(BBBC006)
    known = told.of(stated=usual)
    own = {name: getattr(known, name) for name in STATED if getattr(known, name)}
    if known.na != usual.na:  # and another objective has not its aberration
        own["spherical_waves"] = 0.0
    return BBBC006.model_copy(update=own)


def _sequence(config: LiveConfig, microscope: VirtualMicroscope) -> useq.MDASequence:
    if config.sequence:
        return read_sequence(config.sequence)
    if not config.demo:
        images = len(getattr(microscope, "sources", ()))
        return microscope.sequence(config.frames or images)
    field_um = config.size * microscope.core.getPixelSizeUm()
    return demo_sequence(config.frames or DEMO_FRAMES, config.defocus, field_um)


def _witness(microscope: VirtualMicroscope) -> Witness:
    def tell(frame: int) -> Truth | None:
        try:
            return microscope.truth(frame)
        except RefocusError:  # too long ago
            return None

    return tell


@contextmanager
def _micro_manager(config: LiveConfig) -> Iterator[Source]:
    from refocus.acquisition.microscopes.devices import quiet_exit

    sequence = (
        read_sequence(config.sequence)
        if config.sequence
        else useq.MDASequence(time_plan=_bursts(config.frames or DEMO_FRAMES))
    )
    core = CMMCorePlus()
    quiet_exit(core)
    try:
        try:
            core.loadSystemConfiguration(str(config.mm_config))
        except FileNotFoundError as error:
            raise RefocusError(
                f"{config.mm_config}: cannot be loaded: no such file; give the path of a "
                "configuration as Micro-Manager saves it (.cfg)"
            ) from error
        except (OSError, RuntimeError, ValueError) as error:
            raise RefocusError(
                f"{config.mm_config}: cannot be loaded: {one_line(error)}"
            ) from error
        if not core.getCameraDevice():
            raise RefocusError(f"{config.mm_config}: names no camera; add one (Core, Camera)")
        if config.exposure:
            core.setExposure(config.exposure)
        check_camera(core)
        frames = count_frames(sequence)
        yield Source(
            core, sequence, frames, throttle=False, witness=lambda frame: None, optics=config.optics
        )
    finally:
        super(CMMCorePlus, core).registerCallback(None)
        if not core.mda.is_running():  # else whatever is called would wait for the camera's frame
            _release(core)


def _release(core: CMMCorePlus) -> None:
    with suppress(RuntimeError):  # a run that broke off may have left it running
        core.stopSequenceAcquisition()
    try:
        core.unloadAllDevices()
    except RuntimeError as error:  # what ended the run is told, and not this
        log.warning("devices not released: %s", one_line(error))


def check_camera(core: CMMCorePlus, where: str = "") -> None:
    """Refuse, before the first frame, a camera whose frames nobody could refocus."""
    from pymmcore_plus.metadata.functions import image_info

    try:
        info = image_info(core)
    except (RuntimeError, LookupError, TypeError, ValueError):
        return  # the first frame will tell
    if len(info["plane_shape"]) != 2 or info["dtype"] not in ("uint8", "uint16"):
        raise RefocusError(
            f"{where}camera {info['camera_label']}: gives {info['pixel_format']}, "
            f"{info['dtype']} of shape {tuple(info['plane_shape'])}; set it to one channel of 8 or "
            "16 bits (its property PixelType, in the configuration's System, Startup preset)"
        )


def _bursts(frames: int) -> useq.TIntervalLoops:
    """As fast as the camera gives them."""
    return useq.TIntervalLoops(interval=timedelta(0), loops=frames)
