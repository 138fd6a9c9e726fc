"""Which engine refocuses a frame, which part of it, and how much of the result is published."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from refocus.engine.examine import examine
from refocus.engine.protocol import Engine, EngineError, EngineInfo, Frame, log
from refocus.engine.trust.judgement import Judgement, blend

DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16))

Region = tuple[int, int, int, int]
"""Part of a frame: ``(x, y, width, height)``, pixels."""

CONTEXT = 32
"""Pixels around a region that the engine is shown and that are not replaced."""


OnDistrust = Literal["captured", "refocused"]
"""What is published where a result is not trusted."""


@dataclass(frozen=True, eq=False)
class Refocused:
    """What became of a frame.

    Attributes
    ----------
    pixels
        To be published: refocused where it is trusted.
    engine
        What refocused it.
    judgement
        How far it can be trusted.
    """

    pixels: Frame
    engine: EngineInfo
    judgement: Judgement


class Refocuser:
    """Refocuses frames of any channel.

    Parameters
    ----------
    engine
        For the channels that have no engine of their own.
    channels
        Engines of some channels.
    region
        Refocus only this part; the rest stays as captured.
    on_distrust
        What is published where a result is not trusted.
    """

    def __init__(
        self,
        engine: Engine,
        channels: Mapping[str, Engine],
        region: Region | None = None,
        on_distrust: OnDistrust = "captured",
    ) -> None:
        self._engine = engine
        self._channels = dict(channels)
        self._region = region
        self._on_distrust = on_distrust
        self._unrated: set[str] = set()
        self._warm: set[tuple[int, tuple[int, int], np.dtype[Any]]] = set()
        self._matched: dict[tuple[int, float], Engine] = {}

    def warm_up(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], pixel_size_um: float = 0.0
    ) -> None:
        """Make every engine ready for such frames, once; frames they cannot take are passed over.

        Raises
        ------
        EngineError
            An engine failed, or its model is for pixels of quite another size.
        """
        if len(shape) != 2 or dtype not in DTYPES:
            return
        if self._region is not None:
            rows, columns = self._shown((shape[0], shape[1]))
            shape = (rows.stop - rows.start, columns.stop - columns.start)
        for engine in (self._engine, *self._channels.values()):
            matched = self._match(engine, pixel_size_um)
            key = (id(matched), (shape[0], shape[1]), dtype)
            if key not in self._warm:
                matched.warm_up((shape[0], shape[1]), dtype)
                self._warm.add(key)

    def refocus(self, pixels: Frame, channel: str = "", pixel_size_um: float = 0.0) -> Refocused:
        """Refocus a frame, judge the result, and put together what is published.

        Parameters
        ----------
        pixels
            ``(H, W)``, ``uint8`` or ``uint16``.
        channel
            Name of its channel.
        pixel_size_um
            Size of a pixel at the specimen, µm; 0.0 where unknown.

        Raises
        ------
        EngineError
            The frame is none that can be refocused, or the engine failed or gave nonsense.
        """
        if pixels.ndim != 2 or pixels.dtype not in DTYPES:
            raise EngineError(
                f"frame of shape {pixels.shape} and dtype {pixels.dtype}: unsupported; "
                "set the camera to one channel of 8 or 16 bits"
            )
        engine = self._match(self._channels.get(channel, self._engine), pixel_size_um)
        if self._region is None:
            published, judgement = self.trusted(engine, pixels)
            return Refocused(published, engine.info, judgement)
        x, y, width, height = self._region
        rows, columns = self._shown((pixels.shape[0], pixels.shape[1]))
        refocused, judgement = self.trusted(engine, np.ascontiguousarray(pixels[rows, columns]))
        whole = pixels.copy()
        whole[y : y + height, x : x + width] = refocused[
            y - rows.start : y - rows.start + height, x - columns.start : x - columns.start + width
        ]
        # tiles are counted from the corner of the frame, and these are not
        untold = replace(judgement, tile_distance_um=None, tile_verdicts=None)
        return Refocused(whole, engine.info, untold)

    def trusted(self, engine: Engine, pixels: Frame) -> tuple[Frame, Judgement]:
        """Refocus pixels, and take what is trusted of the result.

        Raises
        ------
        EngineError
            The engine failed or gave nonsense.
        """
        refocused, judgement = examine(engine, pixels)
        if refocused.shape != pixels.shape or refocused.dtype != pixels.dtype:
            raise EngineError(
                f"the engine returned {refocused.shape} {refocused.dtype} "
                f"for {pixels.shape} {pixels.dtype}: use another model"
            )
        if judgement.verdict == "unrated":
            self._warn_unrated(engine.info)
        if self._on_distrust == "refocused":
            return refocused, judgement
        return blend(pixels, refocused, judgement), judgement

    def _warn_unrated(self, info: EngineInfo) -> None:
        key = f"{info.name} {info.card.name if info.card else ''}"
        if key in self._unrated or (info.card is None and not info.name.startswith("tensorrt")):
            return  # told, or an engine without a network
        self._unrated.add(key)
        if info.card is None:
            why = "a plan says nothing of its model; give the model, whose plan is kept as well"
        elif info.card.trust is None:
            why = f"the model {info.card.name} was not calibrated ('refocus-train calibrate' does)"
        else:
            why = f"the engine {info.name} gives no verdicts; openvino, torch and tensorrt do"
        log.warning("results are unrated: %s", why)

    def _shown(self, shape: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of the region and of what is around it."""
        assert self._region is not None
        x, y, width, height = self._region
        if x + width > shape[1] or y + height > shape[0]:
            raise EngineError(
                f"region {x},{y},{width},{height}: reaches beyond the frame of "
                f"{shape[1]}×{shape[0]}; give X,Y,WIDTH,HEIGHT inside it"
            )
        return (
            slice(max(0, y - CONTEXT), min(shape[0], y + height + CONTEXT)),
            slice(max(0, x - CONTEXT), min(shape[1], x + width + CONTEXT)),
        )

    def _match(self, engine: Engine, pixel_size_um: float) -> Engine:
        # kept, so that its warning is given once
        if engine.info.card is None or not pixel_size_um:
            return engine
        key = (id(engine), pixel_size_um)
        if key not in self._matched:
            from refocus.engine.resample import match_pixel_size  # SciPy: only where it is needed

            self._matched[key] = match_pixel_size(engine, pixel_size_um)
        return self._matched[key]


def describe_engine(engine: Engine) -> dict[str, Any]:
    """Give what a run is told of its engine: what it is, and its model's whole card."""
    card = engine.info.card
    return {**engine.info.describe(), "card": card.model_dump(mode="json") if card else None}
