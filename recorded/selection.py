"""Which planes of data that exist are refocused, as it is chosen for live frames."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from refocus.configs.live_config import DEFAULTS
from refocus.engine.by_channel import NONE
from refocus.engine.region import Region


@dataclass(frozen=True)
class Selection:
    """What is to be refocused; by default everything but z-stacks. The rest stays as captured.

    Attributes
    ----------
    channels
        Model by channel: its name, the path of an ONNX file, or ``"none"``. Once there is a
        mapping, a channel that it does not name stays as captured.
    region
        Refocus only this part of a plane, ``(x, y, width, height)`` in pixels.
    refocus_z
        Refocus the planes of z-stacks, too.
    """

    channels: Mapping[str, str] | None = DEFAULTS.channels
    region: Region | None = DEFAULTS.region
    refocus_z: bool = DEFAULTS.refocus_z

    @property
    def chosen(self) -> tuple[str, ...]:
        """Channels that are given a model; none where there is no mapping."""
        return tuple(c for c, model in (self.channels or {}).items() if model != NONE)

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON has it."""
        return {
            "channels": None if self.channels is None else dict(self.channels),
            "region": None if self.region is None else list(self.region),
            "refocus_z": self.refocus_z,
        }

    @classmethod
    def of_json(cls, said: dict[str, Any]) -> "Selection":
        """Undo :meth:`as_json`."""
        x, y, width, height = said["region"] or (0, 0, 0, 0)
        region = (x, y, width, height) if said["region"] else None
        return cls(said["channels"], region, said["refocus_z"])

    def left(self, channel: str, in_stack: bool) -> str:
        """Say why a plane stays as captured; nothing where it is refocused.

        Parameters
        ----------
        channel
            Its name.
        in_stack
            Whether it is one of several along z.
        """
        if self.channels is not None and self.channels.get(channel, NONE) == NONE:
            if not channel:
                return "its planes name no channel; leave --channel out"
            return f"channel {channel}: --channel gives it no model"
        if in_stack and not self.refocus_z:
            return "a plane of a z-stack: --refocus-z refocuses it"
        return ""


USUAL = Selection()
"""What is refocused where nothing else is asked for."""
