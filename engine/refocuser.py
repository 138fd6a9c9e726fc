"""The one path from a frame to what is published of it: live, recorded, replayed and evaluated.

Which engine refocuses a frame, at which pixel size, which part of it, and how much is trusted.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from refocus.configs import ModelCard, RefocusError
from refocus.configs.light_path import STATED, KnownOptics
from refocus.engine.prepare import check_frame
from refocus.engine.protocol import (
    UNKNOWN,
    Engine,
    EngineError,
    EngineInfo,
    Frame,
    LightPath,
    Refocused,
    Ticket,
    log,
)
from refocus.engine.region import Region, put_back, shown_of
from refocus.engine.shipped import OF_ONE_INSTRUMENT
from refocus.engine.trust.judgement import blend
from refocus.optics.camera import within_range

if TYPE_CHECKING:
    from refocus.engine.light_path.belief import Beliefs
    from refocus.engine.light_path.belief_file import BeliefFile

DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16))

AGREES = 0.01
"""As a fraction, how far apart two statements of the optics are that say the same."""

NOTHING_TOLD = KnownOptics()

OnDistrust = Literal["captured", "refocused"]
"""What is published where a result is not trusted."""


class Refocuser:
    """Refocuses frames of any channel and pixel size.

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
    optics
        What is told of the light path; it wins over what comes with a frame.
    light_path
        File that keeps what is believed of it from run to run.

    Raises
    ------
    RefocusError
        That file cannot be read, or is another model's.
    """

    def __init__(
        self,
        engine: Engine,
        channels: Mapping[str, Engine] | None = None,
        region: Region | None = None,
        on_distrust: OnDistrust = "captured",
        optics: KnownOptics = NOTHING_TOLD,
        *,
        light_path: Path | None = None,
    ) -> None:
        self._engine = engine
        self._channels = dict(channels or {})
        self._region = region
        self._on_distrust = on_distrust
        self._optics = optics
        self._known: dict[tuple[str, LightPath], LightPath] = {}
        self._warn = cache(log.warning)  # each thing once
        self._warm: set[tuple[int, tuple[int, int], np.dtype[Any]]] = set()
        self._matched: dict[tuple[int, LightPath], Engine] = {}
        self._beliefs: Beliefs | None = None
        self._kept: BeliefFile | None = None
        if light_path is not None:
            self._open(light_path)

    @property
    def overlap(self) -> int:
        """How many frames may be under way at once, whatever their channels."""
        least = self._engine.overlap
        return (
            min(least, *(e.overlap for e in self._channels.values())) if self._channels else least
        )

    def warm_up(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], light_path: LightPath = UNKNOWN
    ) -> None:
        """Make every engine ready for such frames, once; frames they cannot take are passed over.

        Raises
        ------
        RefocusError
            An engine failed, or its model is for pixels of quite another size; or an aperture is
            told, and nobody says how large a pixel is.
        """
        if len(shape) != 2 or dtype not in DTYPES:
            return
        self._optics.check_pixel_size(light_path.pixel_size_um)
        known = self._know("", light_path)
        if self._region is not None:
            rows, columns = shown_of(self._region, shape)
            shape = (rows.stop - rows.start, columns.stop - columns.start)
        for engine in (self._engine, *self._channels.values()):
            matched = self._match(engine, known)
            key = (id(matched), (shape[0], shape[1]), dtype)
            if key not in self._warm:
                matched.warm_up((shape[0], shape[1]), dtype)
                self._warm.add(key)

    def submit(  # noqa: PLR0917
        self,
        pixels: Frame,
        channel: str = "",
        light_path: LightPath = UNKNOWN,
        bit_depth: int = 16,
        position: str = "",
        z_um: float | None = None,
    ) -> Ticket:
        """Send a frame on its way without waiting; not more of them than :attr:`overlap`.

        Parameters
        ----------
        pixels
            ``(H, W)``, ``uint8`` or ``uint16``; never written to.
        channel
            Name of its channel.
        light_path
            What the camera or the file states of it. A part of a larger plane, which has the
            brightness of the plane, says itself how it is blurred.
        bit_depth
            Significant bits of a pixel: what is published stays within them.
        position
            Which place it shows: frames that name the same one, and channel, show the same field.
        z_um
            Where it lies in the z-stack of that place; None where it is in none.

        Returns
        -------
        Ticket
            Gives what is to be published, and its judgement. Tickets are called in order.

        Raises
        ------
        EngineError
            From here or from the ticket: the frame is none that can be refocused, or the engine
            failed or gave nonsense.
        """
        if pixels.ndim != 2 or pixels.dtype not in DTYPES:
            raise EngineError(
                f"frame of shape {pixels.shape} and dtype {pixels.dtype}: unsupported; "
                "set the camera to one channel of 8 or 16 bits"
            )
        of_part = bool(light_path.believed or light_path.brightness)  # of a larger plane: rare
        stated = replace(light_path, believed=(), brightness=()) if of_part else light_path
        engine, known = self._engine_for(channel, stated)
        if of_part:
            known = replace(known, believed=light_path.believed, brightness=light_path.brightness)
        shown = self._shown(pixels)
        known = self._believe(engine, shown, channel, known, position, z_um)
        under_way = engine.submit(shown, known)

        def ticket() -> Refocused:
            done = self._trusted(shown, under_way(), bit_depth)
            return done if self._region is None else put_back(pixels, self._region, done)

        return ticket

    def factor(self, channel: str = "", light_path: LightPath = UNKNOWN) -> float:
        """Give the pixels that a network is shown per pixel of the camera, along each axis."""
        from refocus.engine.resample import ResamplingEngine  # SciPy: only where it is needed

        engine, _ = self._engine_for(channel, light_path)
        return engine.factor if isinstance(engine, ResamplingEngine) else 1.0

    def refocus(  # noqa: PLR0917
        self,
        pixels: Frame,
        channel: str = "",
        light_path: LightPath = UNKNOWN,
        bit_depth: int = 16,
        position: str = "",
        z_um: float | None = None,
    ) -> Refocused:
        """Refocus one frame and wait for it; see :meth:`submit`."""
        return self.submit(pixels, channel, light_path, bit_depth, position, z_um)()

    def keep_light_path(self) -> None:
        """Write what is believed of the light path into its file, if there is to be one."""
        if self._kept is None or self._beliefs is None:
            return
        try:
            self._kept.write(self._beliefs)
        except RefocusError as error:  # the frames are there, and that is what counts
            log.error("%s", error)

    def _open(self, light_path: Path) -> None:
        """Begin with what earlier runs have told of the light path."""
        engines = [self._engine, *self._channels.values()]
        if not any(e.sight is not None and e.sight.estimator is not None for e in engines):
            log.warning(
                "%s: the light path is neither read nor kept, as the model estimates none; "
                "any-objective does",
                light_path,
            )
            return
        from refocus.engine.light_path.belief_file import BeliefFile  # SciPy: only where needed

        def estimator_of(channel: str) -> str:
            card = self._channels.get(channel, self._engine).info.card
            return card.estimator_sha256 if card else ""

        self._kept = BeliefFile(light_path, estimator_of)
        self._beliefs = self._kept.read()

    def believe(
        self,
        pixels: Frame,
        channel: str,
        light_path: LightPath,
        position: str,
        z_um: float | None = None,
    ) -> LightPath:
        """Let a frame and those before it say how it is blurred, whoever refocuses it.

        Parameters are those of :meth:`submit`, which does it itself where nothing is believed.
        """
        engine, known = self._engine_for(channel, light_path)
        shown = self._shown(pixels)
        believed = self._believe(engine, shown, channel, known, position, z_um).believed
        return replace(light_path, believed=believed)

    def _engine_for(self, channel: str, stated: LightPath) -> tuple[Engine, LightPath]:
        """Give the engine of a channel, and what is known of its light path."""
        known = self._know(channel, stated)
        engine = self._channels.get(channel, self._engine)
        card = engine.info.card
        if card is not None and (unknown := not_told(card, known)):
            self._warn("%s", unknown)
        return self._match(engine, known), known

    def _shown(self, pixels: Frame) -> Frame:
        """Give what an engine is shown of a frame."""
        if self._region is None:
            return pixels
        return np.ascontiguousarray(pixels[shown_of(self._region, pixels.shape)])

    def _believe(  # noqa: PLR0917
        self,
        engine: Engine,
        pixels: Frame,
        channel: str,
        known: LightPath,
        position: str,
        z_um: float | None,
    ) -> LightPath:
        """Add what this frame and those before it tell of the blur."""
        if engine.sight is None or known.believed or known.brightness:
            return known
        check_frame(pixels)
        if z_um is not None and not math.isfinite(z_um):
            z_um = None
        from refocus.engine.light_path.belief import Beliefs, sharpness  # SciPy: only where needed

        self._beliefs = self._beliefs or Beliefs()
        sharp = sharpness(pixels)
        believed = self._beliefs.known(channel, position, z_um, sharp)
        if not believed:
            frame = engine.sight.look(pixels, known)
            if frame is None:  # an empty frame teaches nothing, least of all that it is in focus
                return replace(known, believed=self._beliefs.likely(channel))
            from refocus.engine.light_path.sight import radius_per_um

            along = radius_per_um(known)
            believed = self._beliefs.after(channel, position, frame, z_um, along, sharp)
        return replace(known, believed=believed)

    def _know(self, channel: str, stated: LightPath) -> LightPath:
        """Lay what is told over what is stated, and say once where they differ."""
        key = channel, stated
        if key not in self._known:
            known = self._known[key] = self._optics.of(channel, stated)
            for what in STATED:
                said = getattr(stated, what)
                taken = getattr(known, what)
                if abs(taken - said) <= AGREES * said or not said:
                    continue
                why = f"{taken:g} as told" if taken else "not known"
                self._warn(f"{what}: {why}, though the camera or the file says {said:g}")
        return self._known[key]

    def _trusted(self, captured: Frame, done: Refocused, bit_depth: int) -> Refocused:
        """Take what is trusted of a result, within the camera's range."""
        given = getattr(done.pixels, "shape", None), getattr(done.pixels, "dtype", None)
        if given != (captured.shape, captured.dtype) or not isinstance(done.pixels, np.ndarray):
            raise EngineError(
                f"the engine returned {given[0]} {given[1] or type(done.pixels).__name__} "
                f"for {captured.shape} {captured.dtype}: use another model"
            )
        published = done.pixels
        if done.judgement.verdict == "unrated":  # taken as it is
            self._warn_unrated(done.engine)
        elif self._on_distrust == "captured":
            # an engine's result is new; a captured frame that it gave back is read-only
            own = published.flags.owndata and published.flags.writeable
            published = blend(captured, published, done.judgement, in_place=own)
        published = within_range(published, captured, bit_depth)
        return done if published is done.pixels else replace(done, pixels=published)

    def _warn_unrated(self, info: EngineInfo) -> None:
        if info.card is None and not info.name.startswith("tensorrt"):
            return  # an engine without a network
        if info.card is None:
            why = "a plan says nothing of its model; give the model, whose plan is kept as well"
        elif info.card.trust is None:
            why = f"the model {info.card.name} was not calibrated ('refocus-train calibrate' does)"
        else:
            why = f"the engine {info.name} gives no verdicts; openvino, torch and tensorrt do"
        self._warn("results are unrated: %s", why)

    def _match(self, engine: Engine, known: LightPath) -> Engine:
        # kept, so that its warning is given once
        card = engine.info.card
        if card is None:
            return engine
        key = (id(engine), known)
        if key not in self._matched:
            self._matched[key] = self._at_its_pixel_size(engine, card, known)
        return self._matched[key]

    @staticmethod
    def _at_its_pixel_size(engine: Engine, card: ModelCard, known: LightPath) -> Engine:
        if not known.pixel_size_um:
            return engine
        # SciPy: only where it is needed
        from refocus.engine.resample import match_pixel_size, match_sampling

        if card.sampling is None:
            return match_pixel_size(engine, known.pixel_size_um)
        return match_sampling(engine, known)


def not_told(card: ModelCard, known: LightPath) -> str:
    """Say what a model takes for granted as nobody says it, and what to do; empty if nothing."""
    if card.sampling is None:
        if known.pixel_size_um:
            alike = known.na or card.takes_pixels_of(known.pixel_size_um)
            if alike or card.name != OF_ONE_INSTRUMENT:
                return ""
            return (
                f"numerical aperture not known: taken for {card.optics.na:g}, for which "
                f"{card.name} is; give --na, and any-objective is taken where it is another"
            )
        return (
            f"pixel size not known: taken for {card.optics.pixel_size_um:g} µm, for which "
            f"{card.name} is; give --pixel-size-um, if it is another"
        )
    lacking = ", ".join(
        option
        for option, value in (
            ("--pixel-size-um", known.pixel_size_um),
            ("--na", known.na),
            ("--immersion", known.immersion_index),
            ("--emission-um", known.emission_um),
        )
        if not value
    )
    if not known.na:
        return (
            f"numerical aperture not known: {card.name} estimates the blur without it, and µm from "
            f"focus are those of an aperture of {card.optics.na:g}; give {lacking}"
        )
    if not known.pixel_size_um:
        return (
            f"pixel size not known: {card.name} estimates the blur without it, and µm from focus "
            f"are those of pixels of {card.optics.pixel_size_um:g} µm; give {lacking}"
        )
    return ""
