"""A function of somebody's own, from frame to frame, between the refocusing and the sinks.

It is given what would be published, on the worker, and what it gives is published instead.
"""

import inspect
from collections import deque
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np

from refocus.acquisition.pipeline.frame import CapturedFrame, read_only
from refocus.configs import RefocusError, one_line
from refocus.engine.protocol import Frame

Processor = Callable[..., Frame]
"""From one frame, or several of one place and channel, oldest first, to the newest of them. Frames
are ``(H, W)`` arrays that cannot be written to; what is given back has their shape and dtype."""

ENTRY_POINTS = "refocus.processors"
"""Group in which a package names its processors."""


class Processing:
    """A processor, and the frames that it waits for.

    Parameters
    ----------
    processor
        The function, or ``package:name``, ``file.py:name``, or the name of an entry point. It is
        given as many frames as it has positional parameters without a default.

    Attributes
    ----------
    name
        What it is called on the wire.
    takes
        How many frames it is given.

    Raises
    ------
    RefocusError
        There is none of that name, or it takes no frames.
    """

    def __init__(self, processor: str | Processor) -> None:
        self.name = processor if isinstance(processor, str) else _name(processor)
        self._call = _load(processor) if isinstance(processor, str) else processor
        self.takes = _count(self._call, self.name)
        self._frames: dict[tuple[Any, ...], deque[Frame]] = {}

    def start(self) -> None:
        """Forget the frames of the run before."""
        self._frames.clear()

    def apply(self, frame: CapturedFrame, pixels: Frame) -> Frame | None:
        """Give what becomes of the pixels; None while there are fewer frames than it takes.

        Whatever the processor raises comes out of here.
        """
        shown = read_only(pixels)
        frames = [shown]
        if self.takes > 1:
            place = frame.position, frame.channel, frame.index.get("z"), frame.index.get("cam")
            kept = self._frames.setdefault(place, deque(maxlen=self.takes))
            kept.append(shown)
            frames = list(kept)
        if len(frames) < self.takes:
            return None
        made = self._call(*frames)
        if not isinstance(made, np.ndarray) or (made.shape, made.dtype) != (
            pixels.shape,
            pixels.dtype,
        ):
            given = f"{made.dtype} {made.shape}" if isinstance(made, np.ndarray) else type(made)
            raise RefocusError(
                f"it gave {given} for {pixels.dtype} {pixels.shape}; give back the same "
                "shape and dtype"
            )
        return read_only(made)


def _name(processor: object) -> str:
    name = getattr(processor, "__qualname__", type(processor).__qualname__)
    return f"{getattr(processor, '__module__', '')}:{name}".lstrip(":")


def _load(spec: str) -> Processor:
    module, _, name = spec.rpartition(":")
    try:
        if module:
            found: Any = _file(Path(module)) if module.endswith(".py") else import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
        else:
            named = {one.name: one for one in entry_points(group=ENTRY_POINTS)}
            if spec not in named:
                known = f", or one of {', '.join(sorted(named))}" if named else ""
                raise RefocusError(
                    f"processor {spec!r}: no installed package has one of that name; write "
                    f"package:name, file.py:name{known}"
                )
            found = named[spec].load()
    except RefocusError:
        raise
    except Exception as error:  # a module may raise whatever it likes
        raise RefocusError(
            f"processor {spec!r}: {one_line(error)}; write file.py:name, or "
            "package:name of a package that is installed"
        ) from error
    processor: Processor = found
    return processor


def _file(path: Path) -> Any:
    described = spec_from_file_location(path.stem, path)
    if described is None or described.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = module_from_spec(described)
    described.loader.exec_module(module)
    return module


def _count(processor: object, name: str) -> int:
    if not callable(processor):
        raise RefocusError(f"processor {name!r}: is no function of a frame, but {type(processor)}")
    try:
        parameters = inspect.signature(processor).parameters.values()
    except (TypeError, ValueError):  # a built-in that does not say
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    own = [p for p in parameters if p.kind in positional]
    needed = sum(p.default is p.empty for p in own)
    if not own and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        raise RefocusError(f"processor {name!r}: takes no frame; give it a parameter for each")
    return max(1, needed)
