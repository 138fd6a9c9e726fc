"""Which planes of data that exist are refocused, as it is chosen for live frames."""

from collections.abc import Mapping
from dataclasses import dataclass

from refocus.configs import RefocusError
from refocus.configs.live_config import DEFAULTS
from refocus.engine.by_channel import NONE
from refocus.engine.refocuser import Region


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
            return f"channel {channel}: --channel gives it no model"
        if in_stack and not self.refocus_z:
            return "a plane of a z-stack: --refocus-z refocuses it"
        return ""

    def check_region(self, shape: tuple[int, ...], name: str) -> None:
        """Refuse a plane that the region reaches beyond, by a RefocusError."""
        x, y, width, height = self.region or (0, 0, 0, 0)
        if x + width > shape[1] or y + height > shape[0]:
            raise RefocusError(
                f"{name}: --region {x},{y},{width},{height} reaches beyond its "
                f"{shape[1]}×{shape[0]} pixels; give X,Y,WIDTH,HEIGHT inside them"
            )


USUAL = Selection()
"""What is refocused where nothing else is asked for."""
