"""What ``refocus-live run`` is told to do: a file of settings, with options laid over it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from refocus.configs.errors import RefocusError
from refocus.configs.loading import Settings, describe, read_settings

PATHS = ("replay", "reference", "specimen", "mm_config", "sequence", "save", "report", "keys")


class LiveConfig(BaseModel):
    """One run: where frames come from, what refocuses them, where the results go.

    Every key is also an option of ``refocus-live run`` (``wait_subscribers`` is
    ``--wait-subscribers``). Paths in a file are relative to that file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # where frames come from: one of demo, replay, mm_config
    demo: bool = False
    """Run the simulated microscope."""
    replay: Path | None = None
    """Folder of images, fed through the camera in lexicographic order."""
    reference: Path | None = None
    """Folder of their in-focus partners, under the same names."""
    specimen: Path | None = None
    """Folder of in-focus images that the simulated microscope looks at; else nuclei."""
    mm_config: Path | None = None
    """Micro-Manager hardware configuration (``.cfg``)."""
    sequence: Path | None = None
    """useq sequence (YAML or JSON) to acquire."""
    frames: int | None = Field(default=None, ge=1)
    """How many frames; by default 40, or every image of a replay."""
    fps: float | None = Field(default=None, gt=0.0, le=10_000.0)
    """Rate of a simulated camera; by default it waits for room, so that nothing is dropped."""
    size: int = Field(default=512, ge=32, le=8192)
    """Side of the simulated frame, pixels."""
    defocus: float = Field(default=10.0, ge=-60.0, le=60.0)
    """Mean distance of the simulated fields from focus, µm."""
    drift: float = Field(default=0.0, ge=-10_000.0, le=10_000.0)
    """Focus drift of the simulated microscope, µm/min."""
    exposure: float | None = Field(default=None, gt=0.0, le=600_000.0)
    """Exposure, ms; by default the camera's own, or the sequence's."""

    # what becomes of them
    engine: str = Field(default="auto", min_length=1)
    """``auto``, ``openvino``, or the path of an ONNX model."""
    policy: Literal["newest", "every"] = "newest"
    """What happens when the queue is full: ``newest`` gives the oldest frame up, ``every`` comes
    back to it later, which needs ``save``."""
    queue: int = Field(default=8, ge=1, le=4096)
    """How many frames may wait for the engine."""
    refocus_z: bool = False
    """Refocus the planes of z-stacks, too; else they are handed on as they were captured."""
    channels: dict[str, str] | None = None
    """Model by channel, a name, a path or ``none``; other channels are handed on as captured."""
    every_nth: int = Field(default=1, ge=1)
    """Refocus one frame of so many, for each channel, position and plane."""
    region: list[int] | None = Field(default=None, min_length=4, max_length=4)
    """Refocus only ``[x, y, width, height]`` of each frame, pixels."""
    on_distrust: Literal["captured", "refocused"] = "captured"
    """What is published where a result is not trusted."""
    act: bool = False
    """Move the focus stage to where the judged distances say that focus is."""
    act_limit_um: float = Field(default=10.0, gt=0.0, le=100.0)
    """How far from its plan the stage may be moved, µm."""
    publish: str | None = Field(default=None, pattern=r"^(tcp|ipc|inproc)://.+$")
    """ZeroMQ endpoint to publish on, such as ``tcp://127.0.0.1:5556``."""
    publish_raw: bool = False
    """Send the captured pixels beside the refocused ones, as a viewer wants them."""
    insecure: bool = False
    """Allow an endpoint that other hosts can reach: they could read every frame."""
    keys: Path | None = None
    """The publisher's folder of keys (``refocus-live keys``): only their readers can read."""
    shared_memory: bool = False
    """Offer readers on this host the pixels in shared memory, too: faster than tcp."""
    metrics: str | None = None
    """``HOST:PORT`` on which Prometheus may read the counts, such as ``127.0.0.1:9464``."""
    wait_subscribers: int = Field(default=0, ge=0)
    """Start once this many subscribers have joined."""
    save: Path | None = None
    """New folder for ``raw.ome.zarr`` and ``refocused.ome.zarr``."""
    report: Path | None = None
    """JSON file for the figures of the run; its picture lies beside it."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        given = [k for k in ("demo", "replay", "mm_config") if getattr(self, k)]
        if len(given) != 1:
            raise ValueError(
                "name one source of frames: --demo, --replay DIR, or --mm-config FILE"
                + (f" (got {' and '.join(_option(k) for k in given)})" if given else "")
            )
        source = given[0]
        simulated = ("size", "defocus", "drift", "specimen")
        allowed_with: tuple[tuple[Iterable[str], tuple[str, ...]], ...] = (
            (simulated, ("demo",)),
            (("reference",), ("replay",)),
            (("fps",), ("demo", "replay")),
            (("sequence", "act"), ("demo", "mm_config")),
        )
        for keys, sources in allowed_with:
            for key in keys:
                if key in self.model_fields_set and getattr(self, key) and source not in sources:
                    needed = " or ".join(_option(s) for s in sources)
                    raise ValueError(f"{_option(key)} needs {needed}; leave it out")
        if self.frames and self.sequence:
            raise ValueError("--frames and --sequence both say how many frames; leave one out")
        if "act_limit_um" in self.model_fields_set and not self.act:
            raise ValueError("--act-limit-um needs --act; leave it out")
        if self.wait_subscribers and not self.publish:
            raise ValueError("--wait-subscribers needs --publish ENDPOINT")
        if self.publish_raw and not self.publish:
            raise ValueError("--publish-raw needs --publish ENDPOINT")
        if self.keys and not self.publish:
            raise ValueError("--keys needs --publish ENDPOINT")
        if self.shared_memory and not self.publish:
            raise ValueError("--shared-memory needs --publish ENDPOINT, which tells its readers")
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
    try:
        return LiveConfig.model_validate({**settings, **options})
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        problem = first["msg"].removeprefix("Value error, ")
        if not key:
            where = f"{path}: " if path and not options else ""
            raise RefocusError(f"{where}{problem}") from error
        if key in options or found is None:
            spoken = describe(first["msg"], (_option(key),), first["input"])
            raise RefocusError(spoken) from error
        spoken = describe(first["msg"], (key,), first["input"])
        raise RefocusError(f"{found.where((key,))}: {spoken}") from error


def _option(key: str) -> str:
    return "--" + key.replace("_", "-")


def _read(path: Path) -> tuple[dict[str, Any], Settings]:
    """Give the settings of a file, paths taken relative to it, and where each is."""
    found = read_settings(path, LiveConfig, example="fps: 20")
    values = dict(found.values)
    for key in PATHS:
        if isinstance(values.get(key), str):
            values[key] = path.parent / Path(values[key]).expanduser()
    return values, found
