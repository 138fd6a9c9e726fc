"""How old a frame is when it arrives, although publisher and viewer may have different clocks."""

from datetime import datetime

from refocus.stream.messages import FrameHeader

FORGET_S = 60.0
"""For how long the fastest journey is remembered; clocks drift."""


class Ages:
    """Estimates the age of frames as they arrive.

    On one computer it is the difference of two readings of one clock. Between two, the fastest
    journey of the last minute is taken to have taken no time, so that clocks need not agree: the
    age then leaves out what the network takes at its best.

    Parameters
    ----------
    one_clock
        Whether publisher and viewer run on one computer.
    """

    def __init__(self, one_clock: bool) -> None:
        self.one_clock = one_clock
        self._fastest: list[tuple[float, float]] = []
        """``(until, seconds)``: of this minute, and of the one before."""

    def seconds(self, header: FrameHeader, now_utc: float) -> float:
        """Give the age of a frame that arrives now, s.

        Parameters
        ----------
        header
            Its header.
        now_utc
            Seconds since 1970.
        """
        published = header.times_ms.published / 1e3
        try:
            since_capture = now_utc - datetime.fromisoformat(header.captured_utc).timestamp()
        except ValueError:
            return published
        if self.one_clock:
            return max(since_capture, published)
        journey = since_capture - published
        self._fastest = [entry for entry in self._fastest if entry[0] > now_utc][-2:]
        if not self._fastest or self._fastest[-1][0] <= now_utc + FORGET_S:
            self._fastest.append((now_utc + 2 * FORGET_S, journey))
        until, least = self._fastest[-1]
        self._fastest[-1] = (until, min(least, journey))
        return published + journey - min(fastest for _, fastest in self._fastest)
