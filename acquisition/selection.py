"""Which frames are refocused, by which model, and which part of them.

The planes of a deliberate z-stack and channels that no model is mapped to are handed on as they
were captured; of every n frames all but one are left out. Both count as skipped.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from refocus.acquisition.pipeline.plan import is_planned
from refocus.acquisition.pipeline.queue import Task
from refocus.configs.live_config import DEFAULTS, RefocusOptions
from refocus.configs.loading import check
from refocus.engine.by_channel import NONE

if TYPE_CHECKING:
    from useq import MDASequence

    from refocus.engine.refocuser import OnDistrust
    from refocus.engine.region import Region

_STACKS = (
    "planes of z-stacks are handed on as captured; --refocus-z, or refocus_z=True, refocuses them"
)
_WITHOUT_MODEL = (
    "channel {0!r} has no model, and is handed on as captured; --channel {0}=auto, or "
    "channels={{'{0}': 'auto'}}, refocuses it"
)


@dataclass(frozen=True)
class Selection:
    """What is to be refocused; by default everything but z-stacks.

    Attributes
    ----------
    refocus_z
        Refocus the planes of z-stacks, too.
    channels
        Model by channel: its name, the path of an ONNX file, or ``"none"``. Once there is a
        mapping, a channel that it does not name is handed on as it was captured.
    every_nth
        Refocus one frame of so many, counted for each channel, position and plane.
    region
        Refocus only this part of a frame, ``(x, y, width, height)`` in pixels, and leave the rest
        as it was captured. At least 32 × 32.
    on_distrust
        What is published where a result is not trusted: ``"captured"`` or ``"refocused"``.

    Raises
    ------
    RefocusError
        A value makes no sense.
    """

    refocus_z: bool = DEFAULTS.refocus_z
    channels: Mapping[str, str] | None = DEFAULTS.channels
    every_nth: int = DEFAULTS.every_nth
    region: "Region | None" = DEFAULTS.region
    on_distrust: "OnDistrust" = DEFAULTS.on_distrust

    def __post_init__(self) -> None:
        check(RefocusOptions, vars(self))

    @classmethod
    def of(cls, options: RefocusOptions) -> "Selection":
        """Take those of the options that say what is refocused."""
        return cls(**{field.name: getattr(options, field.name) for field in fields(cls)})

    def __str__(self) -> str:
        """Say what is refocused, in one line."""
        named = [name for name, model in (self.channels or {}).items() if model != NONE]
        parts = [
            "every frame" if self.every_nth == 1 else f"one frame of {self.every_nth}",
            f"in the region {','.join(map(str, self.region))}" if self.region else "",
            f"of the channels {', '.join(named) or '(none)'} alone" if self.channels else "",
            "planes of z-stacks, too" if self.refocus_z else "no planes of z-stacks",
        ]
        return ", ".join(filter(None, parts))


class Chooser:
    """Decides, on the acquisition thread, what is done with each frame of one run.

    Parameters
    ----------
    selection
        What was asked for.
    sequence
        What is being acquired; None for live mode.
    tell
        Is told which frames are handed on though nobody asked for it, and what would have them
        refocused: before the first frame, as far as the sequence says, else when they come.

    Attributes
    ----------
    everything
        Whether every frame is refocused, so that nobody needs to ask.
    passed
        Why frames were handed on as they were captured, so far.
    """

    def __init__(
        self,
        selection: Selection,
        sequence: "MDASequence | None" = None,
        tell: Callable[[str], None] = lambda why: None,
    ) -> None:
        self.passed: list[str] = []
        self._tell = tell
        self._channels = selection.channels
        self._every_nth = selection.every_nth
        self._pass_z = not selection.refocus_z and _has_stacks(sequence)
        # a channel that is only taken in the middle of the stack is no stack
        self._flat = {c.config for c in sequence.channels if not c.do_stack} if sequence else set()
        self._counts: dict[tuple[object, ...], int] = {}
        self.everything = self._channels is None and self._every_nth == 1 and not self._pass_z
        self._told = self._foreseen(sequence)
        if self._told:
            self._tell("; ".join(self._told))

    def choose(self, channel: str, index: Mapping[str, int]) -> tuple[Task, str]:
        """Give what is to be done with a frame and, if it is left out, why."""
        if self.everything:
            return Task.REFOCUS, ""
        if self._channels is not None and self._channels.get(channel, NONE) == NONE:
            return self._pass(_WITHOUT_MODEL.format(channel), channel not in self._channels)
        if self._pass_z and "z" in index and channel not in self._flat:
            return self._pass(_STACKS)
        if self._every_nth > 1:
            series = (channel, index.get("p"), index.get("g"), index.get("z"), index.get("cam"))
            count = self._counts.get(series, 0)
            self._counts[series] = count + 1
            if count % self._every_nth:
                return Task.LEAVE, f"left out: one frame of {self._every_nth} is refocused"
        return Task.REFOCUS, ""

    def _pass(self, why: str, unasked: bool = True) -> tuple[Task, str]:
        if why not in self.passed:
            self.passed.append(why)
            if unasked and why not in self._told:
                self._tell(why)
        return Task.PASS, ""

    def _foreseen(self, sequence: "MDASequence | None") -> list[str]:
        """Say what of a sequence will be handed on without having been named."""
        if sequence is None or not is_planned(sequence):
            return []
        channels = [channel.config for channel in sequence.channels]
        known = self._channels if self._channels is not None else channels
        deep = not channels or any(name in known and name not in self._flat for name in channels)
        inner = [position.sequence for position in sequence.stage_positions]
        stacks = any(one is not None and _has_planes(one) for one in (sequence, *inner))
        said = [_STACKS] if self._pass_z and deep and stacks else []
        return said + [_WITHOUT_MODEL.format(name) for name in channels if name not in known]


def _has_stacks(sequence: "MDASequence | None") -> bool:
    """Tell whether frames with an index along z are planes of a stack."""
    if sequence is None:
        return False
    try:
        planes, axes = sequence.sizes.get("z", 0), sequence.used_axes
    except Exception:  # a plan without an end
        return sequence.z_plan is not None
    if planes or not axes:  # no axes: a mere iterable of events, of which nothing is known
        return planes != 1
    return any(position.sequence is not None for position in sequence.stage_positions)


def _has_planes(sequence: "MDASequence") -> bool:
    try:
        return sequence.sizes.get("z", 0) > 1
    except Exception:  # a plan without an end
        return sequence.z_plan is not None
