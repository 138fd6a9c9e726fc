"""Stages and shutter in Python, for a core that is wired to simulated devices.

The camera reads the stages when it exposes, and its trigger steps the focus stage once per frame
while a stage sequence is running. The shutter exists because acquisition engines insist on one;
like a light source switched by the camera it needs no opening, so a frame is never dark.
"""

from collections.abc import Sequence

from pymmcore_plus import FocusDirection
from pymmcore_plus.experimental.unicore import ShutterDevice, StageDevice, XYStageDevice


class FocusStage(StageDevice):
    """A z stage that can run through a sequence of positions, one per trigger."""

    def __init__(self, z_um: float = 0.0) -> None:
        super().__init__()
        self._z_um = z_um
        self._sequence: tuple[float, ...] = ()
        self._ahead: list[float] = []
        self._direction = FocusDirection.Unknown

    @property
    def ahead(self) -> Sequence[float]:
        """Positions still to come in the running sequence, µm; empty when none is running."""
        return tuple(reversed(self._ahead))

    def get_position_um(self) -> float:
        """Position, µm."""
        return self._z_um

    def set_position_um(self, val: float) -> None:
        """Move at once, µm; ends a running sequence."""
        self._ahead.clear()
        self._z_um = float(val)

    def get_focus_direction(self) -> FocusDirection:
        """Which way is up; unknown unless set."""
        return self._direction

    def set_focus_direction(self, sign: int) -> None:
        """Declare that larger z is nearer to the specimen (1), farther (-1), or unknown (0)."""
        self._direction = FocusDirection(sign)

    def home(self) -> None:
        """Move to 0 µm."""
        self.set_position_um(0.0)

    def stop(self) -> None:
        """Do nothing: every move is over at once."""

    def set_origin(self) -> None:
        """Call the present position 0 µm."""
        self.set_position_um(0.0)

    def get_sequence_max_length(self) -> int:
        """Longest sequence that can be loaded."""
        return 65_536

    def send_sequence(self, sequence: tuple[float, ...]) -> None:
        """Load positions, µm."""
        self._sequence = tuple(float(z) for z in sequence)

    def start_sequence(self) -> None:
        """Move to the first loaded position and wait for triggers."""
        self._ahead = list(reversed(self._sequence))
        self.trigger()

    def stop_sequence(self) -> None:
        """Stay where the sequence has come to."""
        self._ahead.clear()

    def trigger(self) -> None:
        """Take the next position of a running sequence; after the last one, stay."""
        if self._ahead:
            self._z_um = self._ahead.pop()


class SpecimenStage(XYStageDevice):
    """An xy stage."""

    def __init__(self) -> None:
        super().__init__()
        self._xy_um = (0.0, 0.0)

    def get_position_um(self) -> tuple[float, float]:
        """Position ``(x, y)``, µm."""
        return self._xy_um

    def set_position_um(self, x: float, y: float) -> None:
        """Move at once, µm."""
        self._xy_um = (float(x), float(y))

    def home(self) -> None:
        """Move to (0, 0)."""
        self.set_position_um(0.0, 0.0)

    def stop(self) -> None:
        """Do nothing: every move is over at once."""

    def set_origin_x(self) -> None:
        """Call the present x 0 µm."""
        self.set_position_um(0.0, self._xy_um[1])

    def set_origin_y(self) -> None:
        """Call the present y 0 µm."""
        self.set_position_um(self._xy_um[0], 0.0)


class LightShutter(ShutterDevice):
    """A shutter that remembers its state and darkens nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._open = False

    def get_open(self) -> bool:
        """Whether it is open."""
        return self._open

    def set_open(self, open: bool) -> None:
        """Open or close it."""
        self._open = open
