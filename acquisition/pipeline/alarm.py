"""How full a queue is, as an alarm that rises in steps and is over once there is room again."""

from enum import Enum


class Alarm(Enum):
    """How full a queue has become: 75 %, 100 %; over once it is less than half full."""

    NONE = ""
    HIGH = "high"
    FULL = "full"


class Fullness:
    """Follows how many frames wait; not thread-safe: a queue holds its lock.

    Parameters
    ----------
    capacity
        How many frames may wait.

    Attributes
    ----------
    alarm
        How things stand.
    times
        How often each alarm has risen.
    """

    def __init__(self, capacity: int) -> None:
        self.alarm = Alarm.NONE
        self.times = dict.fromkeys(Alarm, 0)
        self.rises_from = -(-3 * capacity // 4)
        self._capacity = capacity

    def grown(self, waiting: int) -> bool:
        """Take note of a frame more; whether the alarm has risen."""
        before = self.alarm
        if waiting >= self._capacity:
            self.alarm = Alarm.FULL
        elif waiting >= self.rises_from and before is Alarm.NONE:
            self.alarm = Alarm.HIGH
        self.times[self.alarm] += self.alarm is not before
        return self.alarm is not before

    def shrunk(self, waiting: int) -> None:
        """Take note of a frame less."""
        if 2 * waiting < self._capacity:
            self.alarm = Alarm.NONE
