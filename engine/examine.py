"""Refocusing a frame and judging the result: what the pipeline asks of an engine."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from refocus.engine.protocol import Engine, Frame
from refocus.engine.trust.judgement import UNRATED, Judgement

if TYPE_CHECKING:
    from collections.abc import Callable


@runtime_checkable
class Examining(Protocol):
    """An engine that judges its own results."""

    def examine(self, frame: Frame) -> tuple[Frame, Judgement]:
        """Refocus a frame, and say how far the result can be trusted.

        Parameters
        ----------
        frame
            As for :meth:`~refocus.engine.protocol.Engine.refocus`.

        Returns
        -------
        refocused : Frame
            All of it, whatever the judgement.
        judgement : Judgement
            Of the frame and its tiles.
        """
        ...


def examine(engine: Engine, frame: Frame) -> tuple[Frame, Judgement]:
    """Refocus a frame with any engine; ``UNRATED`` where the engine does not judge."""
    # not isinstance(): asking a protocol takes 9 µs, and this is asked of every frame
    judging: Callable[[Frame], tuple[Frame, Judgement]] | None = getattr(engine, "examine", None)
    return judging(frame) if judging else (engine.refocus(frame), UNRATED)
