"""What ``refocus-live run`` can be told: the one definition of its options, and files of them.

The command's options and their help, ``configs/live.yaml`` and the defaults of
:func:`refocus.acquisition.attach` are made from these models. Once one has changed, write the file
anew: ``python -m refocus.configs.live_config > configs/live.yaml``.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from refocus.configs.files import named
from refocus.configs.light_path import KnownOptics
from refocus.configs.loading import Place, Settings, check, read_settings
from refocus.configs.options import Option, named_option, option_name, section_of, write_preset

LONGEST_S = 3600.0
"""Of one field, with ``--reimage``."""


def _endpoint(publish: str | None) -> str | None:
    scheme, _, address = (publish or "").partition("://")
    if publish is not None and (scheme not in ("tcp", "ipc") or not address):
        raise ValueError(f"{publish!r} is not an endpoint; write for example tcp://127.0.0.1:5556")
    return publish


def _channels(given: object) -> object:
    """Read a list of ``NAME=MODEL``; leave a mapping, and what is neither, as it is."""
    if not isinstance(given, list):
        return given
    pairs = [str(text).partition("=") for text in given]
    for text, (name, _, model) in zip(given, pairs, strict=True):
        if not name or not model:
            raise ValueError(f"write NAME=MODEL, such as DAPI=auto, got {text!r}")
    models = {name: model for name, _, model in pairs}
    for text, (name, _, model) in zip(given, pairs, strict=True):
        if models[name] != model:
            raise ValueError(f"{text!r} and '{name}={models[name]}' are given; give one of them")
    return models


def _region(given: object, validate: ValidatorFunctionWrapHandler) -> object:
    """Read ``X,Y,W,H`` or four numbers, all in one complaint."""
    try:
        region = validate(given.split(",") if isinstance(given, str) else given)
    except ValidationError:
        region = (0, 0, 0, 0)
    if region is not None and (min(region) < 0 or min(region[2:]) < 32):
        said = ",".join(map(str, given)) if isinstance(given, list | tuple) else given
        raise ValueError(f"give X,Y,WIDTH,HEIGHT in pixels, at least 32 wide and high, got {said}")
    return region


def _duration(given: object) -> str | None:
    """Read ``0.5s``, ``500ms``, or a number of seconds, and write it in seconds."""
    if given is None:
        return None
    found = re.fullmatch(r"(\d*\.?\d+)\s*(ms|s)?", str(given).strip())
    seconds = float(found[1]) / (1000 if found[2] == "ms" else 1) if found else 0.0
    if not 0 < seconds <= LONGEST_S:
        raise ValueError(f"write a time such as 0.5s or 800ms, above 0, got {str(given)!r}")
    return f"{seconds:g}s"


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _named(cls, given: object, info: ValidationInfo) -> object:
        """Refuse an empty path, as of a variable that is not set: it would be the folder here."""
        if Path not in get_args(cls.model_fields[info.field_name or ""].annotation):
            return given
        if given == "":
            raise ValueError("name a file or a folder, or leave it out; got ''")
        return named(given) if isinstance(given, str | Path) else given


class SourceOptions(_Options):
    """Where frames come from: a demo, a replay or a microscope."""

    demo: bool = False
    """Acquire with the simulated microscope."""
    replay: Annotated[Path | None, Option("DIR", "images/")] = None
    """Feed a folder of images through a camera, in order."""
    mm_config: Annotated[Path | None, Option("FILE", "MMConfig.cfg")] = None
    """Acquire with this Micro-Manager hardware."""
    reference: Annotated[Path | None, Option("DIR", "infocus/")] = None
    """In-focus partners of the replay, under the same file names."""
    specimen: Annotated[Path | None, Option("DIR", "sharp/")] = None
    """In-focus images for the demo; else nuclei."""
    sequence: Annotated[Path | None, Option("FILE", "timelapse.yaml")] = None
    """The useq sequence to acquire, YAML or JSON."""
    frames: Annotated[int | None, Field(ge=1), Option("N", 40)] = None
    """How many frames; else 40, or the whole replay."""
    fps: Annotated[float | None, Field(ge=0.25, le=10_000.0), Option("F", 20)] = None
    """Rate of the simulated or replaying camera, at least 0.25; a slower run is a --sequence with
    an interval. Without it, the camera waits for room in the queue, and nothing is dropped."""
    size: Annotated[int, Field(ge=32, le=8192), Option("PX")] = 512
    """Side of the demo's frame, pixels."""
    defocus: Annotated[float, Field(ge=-60.0, le=60.0), Option("UM")] = 10.0
    """Mean distance from focus in the demo, µm."""
    drift: Annotated[float, Field(ge=-10_000.0, le=10_000.0), Option("UM")] = 0.0
    """Focus drift of the demo, µm per minute."""
    tilt: Annotated[float, Field(ge=-1000.0, le=1000.0), Option("UM")] = 0.0
    """How much the demo's slide rises along x, µm per mm."""
    exposure: Annotated[float | None, Field(gt=0.0, le=600_000.0), Option("MS", 10)] = None
    """Exposure, ms; else the camera's own, or the sequence's."""


class RefocusingOptions(_Options):
    """Which frames are refocused, and how."""

    engine: Annotated[str, Field(min_length=1), Option("ENGINE")] = "auto"
    """``auto``, ``tensorrt``, ``tensorrt-rtx``, ``torch``, ``openvino``, ``fake``; a model, else by
    NA: ``any-objective``, ``refocus-compact``, .onnx, .zip, plan; ``grpc://HOST:PORT``."""
    policy: Annotated[Literal["newest", "every"] | None, Option("WHICH", "every")] = None
    """When the queue is full: ``newest`` gives the oldest frame up, ``every`` comes back to it
    later. Else ``every`` with --save, which it needs, and ``newest`` without."""
    queue: Annotated[int, Field(ge=1, le=4096), Option("N")] = 8
    """Frames that may wait for the engine."""
    refocus_z: bool = False
    """Refocus the planes of z-stacks, too."""
    channels: Annotated[
        dict[str, str] | None,
        BeforeValidator(_channels),
        Option("NAME=MODEL", {"DAPI": "auto", "BF": "none"}, name="--channel"),
    ] = None
    """Refocus this channel with this model (a name, a path, ``auto`` or ``none``), and no channel
    that is not named."""
    every_nth: Annotated[int, Field(ge=1), Option("N")] = 1
    """Refocus one frame of N of each channel, position and plane."""
    region: Annotated[
        tuple[int, int, int, int] | None,
        WrapValidator(_region),
        Option("X,Y,W,H", [0, 0, 256, 256]),
    ] = None
    """Refocus only x, y, width, height of each frame, pixels; at least 32 by 32."""
    on_distrust: Annotated[Literal["captured", "refocused"], Option("WHICH")] = "captured"
    """What is published where a result is not trusted: ``captured`` or ``refocused``."""


class OpticsOptions(_Options):
    """What is known of the light path."""

    optics: Annotated[
        KnownOptics, BeforeValidator(lambda given: {} if given is None else given)
    ] = KnownOptics()
    """Of all channels, but for those that say otherwise."""
    light_path: Annotated[Path | None, Option("FILE", "rig.json")] = None
    """Begin with what earlier runs of this rig told of the light path, and keep it in this file."""


class ProcessingOptions(_Options):
    """What frames go through once they are refocused."""

    processor: Annotated[
        str | None, Field(min_length=1), Option("FILE:NAME", "mine.py:denoise")
    ] = None
    """A function from frame to frame, or from several of one place and channel: package:name,
    file.py:name, or the name of an entry point. What it gives is published."""


class FollowingOptions(_Options):
    """Whether the stage follows focus, and what is taken again."""

    act: bool = False
    """Move the focus stage to where focus is judged to be."""
    act_limit_um: Annotated[float, Field(gt=0.0, le=100.0), Option("UM", 10.0)] = 10.0
    """How far from its plan, with --act or --reimage, µm."""
    reimage: Annotated[str | None, BeforeValidator(_duration), Option("TIME", "0.5s")] = None
    """Take a field again where it is in focus, if refocusing will not do; spend at most this time
    on each, such as 0.5s."""
    reimage_frames: Annotated[int, Field(ge=1, le=20), Option("N", 2)] = 2
    """How many further frames of a field its light allows, with --reimage."""


class PublishingOptions(_Options):
    """Where the results are published, and who can read them."""

    publish: Annotated[
        str | None, AfterValidator(_endpoint), Option("ENDPOINT", "tcp://127.0.0.1:5556")
    ] = None
    """Publish on ZeroMQ, as tcp://127.0.0.1:5556."""
    publish_raw: bool = False
    """Send the captured pixels, too, as a viewer wants."""
    insecure: bool = False
    """Allow an endpoint that other hosts can reach, and a server of theirs without encryption."""
    keys: Annotated[Path | None, Option("DIR", "keys/publisher/")] = None
    """The publisher's keys: only readers with one can read."""
    shared_memory: bool = False
    """Offer readers on this host the pixels in shared memory, too."""


class OutcomeOptions(_Options):
    """What else comes of a run."""

    metrics: Annotated[str | None, Option("HOST:PORT", "127.0.0.1:9464")] = None
    """Let Prometheus read the counts there."""
    wait_subscribers: Annotated[int, Field(ge=0), Option("N")] = 0
    """Start once N subscribers have joined."""
    save: Annotated[Path | None, Option("DIR", "run1/")] = None
    """Save raw.ome.zarr and refocused.ome.zarr in this folder."""
    report: Annotated[Path | None, Option("FILE", "run1/report.json")] = None
    """Write the figures as JSON, and a picture beside it."""
    strict: bool = False
    """End with a status other than 0 if anything was warned of."""


class RefocusOptions(PublishingOptions, OpticsOptions, RefocusingOptions):
    """Those that :func:`refocus.acquisition.attach` takes as well, under the same names."""


DEFAULTS = RefocusOptions()


class LiveConfig(
    OutcomeOptions,
    PublishingOptions,
    FollowingOptions,
    ProcessingOptions,
    OpticsOptions,
    RefocusingOptions,
    SourceOptions,
):
    """One run: where frames come from, what refocuses them, where the results go.

    Every key is also an option of ``refocus-live run`` (``wait_subscribers`` is
    ``--wait-subscribers``). Paths in a file are relative to that file, but those of models and of a
    processor, which are relative to where the command runs.
    """

    @property
    def reimage_seconds(self) -> float:
        """Time for each field, s; 0 where nothing is taken again."""
        return float(self.reimage.removesuffix("s")) if self.reimage else 0.0

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        given = [k for k in ("demo", "replay", "mm_config") if getattr(self, k)]
        if len(given) != 1:
            raise ValueError(
                "name one source of frames: --demo, --replay DIR, or --mm-config FILE"
                + (f" (got {' and '.join(_option(k) for k in given)})" if given else "")
            )
        source = given[0]
        simulated = ("size", "defocus", "drift", "tilt", "specimen")
        allowed_with: tuple[tuple[Iterable[str], tuple[str, ...]], ...] = (
            (simulated, ("demo",)),
            (("reference",), ("replay",)),
            (("fps",), ("demo", "replay")),
            (("sequence", "act", "reimage"), ("demo", "mm_config")),
        )
        for keys, sources in allowed_with:
            for key in keys:
                if key in self.model_fields_set and getattr(self, key) and source not in sources:
                    needed = " or ".join(_option(s) for s in sources)
                    raise ValueError(f"{_option(key)} needs {needed}; leave it out")
        if self.frames and self.sequence:
            raise ValueError("--frames and --sequence both say how many frames; leave one out")
        if self.act and self.reimage:
            raise ValueError("--act and --reimage both move the stage; leave one of them out")
        if "act_limit_um" in self.model_fields_set and not (self.act or self.reimage):
            raise ValueError("--act-limit-um needs --act or --reimage; leave it out")
        if "reimage_frames" in self.model_fields_set and not self.reimage:
            raise ValueError("--reimage-frames needs --reimage TIME; leave it out")
        for key in ("wait_subscribers", "publish_raw", "keys", "shared_memory"):
            if getattr(self, key) and not self.publish:
                raise ValueError(f"{_option(key)} needs --publish ENDPOINT")
        if self.policy == "every" and not self.save:
            raise ValueError("--policy every needs --save DIR: it reads deferred frames from there")
        return self


def load_live_config(path: Path | None, options: Mapping[str, Any]) -> LiveConfig:
    """Read a run's settings: those of a file, with the options given laid over them.

    Parameters
    ----------
    path
        YAML file, or None for none.
    options
        What was given on the command line, by key.

    Raises
    ------
    RefocusError
        The file cannot be read, a key or a value is wrong, or they do not fit together; the
        message names the file and the line, or the option.
    """
    settings, found = _read(path) if path else ({}, None)
    if "demo" not in options and options.keys() & {"replay", "mm_config"}:
        settings.pop("demo", None)  # a source on the command line replaces the file's
    for other in {"replay", "mm_config"} - options.keys():
        if options.keys() & {"demo", "replay", "mm_config"}:
            settings.pop(other, None)

    def speak(place: Place) -> tuple[str, Place]:
        if not place:
            return (str(path) if path and not options else ""), place
        if place[0] in options or found is None:
            return "", named_option(LiveConfig, place)
        depth = 1 if section_of(LiveConfig, str(place[0])) is None else len(place)
        return found.where(place[:depth]), place[:depth]

    return check(LiveConfig, {**settings, **_laid_over(settings, options)}, speak)


def _laid_over(settings: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Give the options, with what the file says of the same section and they do not."""
    return {
        key: {**settings[key], **value}
        if section_of(LiveConfig, key) and isinstance(settings.get(key), dict)
        else value
        for key, value in options.items()
    }


def _option(key: str) -> str:
    return option_name(LiveConfig, key)


def _read(path: Path) -> tuple[dict[str, Any], Settings]:
    """Give the settings of a file, paths taken relative to it, and where each is."""
    found = read_settings(path, LiveConfig, example="fps: 20")
    values = dict(found.values)
    for key, field in LiveConfig.model_fields.items():
        if Path in get_args(field.annotation) and isinstance(values.get(key), str) and values[key]:
            values[key] = path.parent / named(values[key])
    return values, found


def preset() -> str:
    """Give ``live.yaml``: every key, with its default or an example, and what it means."""
    return write_preset(
        LiveConfig(demo=True),
        "Settings of `refocus-live run --config FILE.yaml`: every key, with its default or an "
        "example. An option on the command line is laid over the file. Copy this file, and keep "
        "the lines you change.",
    )


if __name__ == "__main__":
    print(preset(), end="")
