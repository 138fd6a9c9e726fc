"""Planes of a data set through the engine, whole or region by region."""

import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refocus.configs import RefocusError, reason_of
from refocus.configs.files import replacing
from refocus.configs.light_path import Blur, KnownOptics
from refocus.configs.live_config import DEFAULTS
from refocus.engine.protocol import Engine, Refocused, Ticket
from refocus.engine.refocuser import OnDistrust, Refocuser
from refocus.engine.trust.judgement import TILE
from refocus.recorded.part import part
from refocus.recorded.planes import Plane, RecordedPlane
from refocus.recorded.regions import Grid, Region, cut
from refocus.recorded.selection import USUAL, Selection
from refocus.recorded.survey import Survey


@dataclass(frozen=True)
class Options:
    """How a data set is refocused; what decides about pixels besides the engine and the source.

    Attributes
    ----------
    on_distrust
        What is written where a result is not trusted.
    optics
        What is told of the light path, whatever the files say.
    selection
        Which planes are refocused, by which model, and which part of them.
    insecure
        Send planes of a channel to a server on another host without encryption.
    """

    on_distrust: OnDistrust = DEFAULTS.on_distrust
    optics: KnownOptics = DEFAULTS.optics
    selection: Selection = USUAL
    insecure: bool = False

    def as_json(self) -> dict[str, Any]:
        """Give them as JSON has them."""
        optics = self.optics.model_dump(mode="json", exclude_defaults=True)
        return {
            "on_distrust": self.on_distrust,
            "optics": optics,
            **self.selection.as_json(),
            "insecure": self.insecure,
        }

    @classmethod
    def of_json(cls, said: dict[str, Any]) -> "Options":
        """Undo :meth:`as_json`."""
        optics = KnownOptics.model_validate(said["optics"])
        return cls(said["on_distrust"], optics, Selection.of_json(said), said["insecure"])


@dataclass(frozen=True)
class Told:
    """What is known of a plane before a region of it is refocused.

    Attributes
    ----------
    survey
        Of a plane that has several regions.
    believed
        How a plane of one region is blurred, by those before it.
    """

    survey: Survey | None = None
    believed: tuple[Blur, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON has it; numbers come back bit by bit."""
        return asdict(self)

    @classmethod
    def of_json(cls, said: dict[str, Any]) -> "Told":
        """Undo :meth:`as_json`."""
        survey = Survey(*said["survey"]) if said["survey"] else None
        return cls(survey, tuple(Blur(*blur) for blur in said["believed"]))


class Said(NamedTuple):
    """What is said of a region.

    Attributes
    ----------
    verdict
        How far it is to be trusted.
    distance_um
        From focus; None where it is not known.
    """

    verdict: str
    distance_um: float | None


@dataclass(frozen=True, eq=False)
class Result:
    """A region, refocused.

    Attributes
    ----------
    pixels
        Of its core and the margin over which it mixes with its neighbours. Of a plane of one region
        what is to be written; else all of the engine's result.
    share
        ``(h, w)``, how much of the correction is taken, by tiles of the plane.
    said
        Of the region.
    """

    pixels: Plane
    share: NDArray[np.float32]
    said: Said

    def save(self, path: Path) -> None:
        """Write it to a file, which is there when it is whole.

        A checksum and a line of JSON, and the bytes of pixels and share: a zip of arrays costs
        small planes more.
        """
        content = self.pixels.tobytes() + self.share.astype(np.float32).tobytes()
        head = {
            "said": self.said,
            "dtype": self.pixels.dtype.str,
            "shapes": [self.pixels.shape, self.share.shape],
            "bytes": len(content),
            "crc32": zlib.crc32(content),
        }
        line = json.dumps(head).encode() + b"\n"
        with replacing(path, shared=True) as begun, begun.open("wb") as file:
            file.write(b"%d %b" % (zlib.crc32(line), line))
            file.write(content)

    @classmethod
    def load(cls, path: Path) -> "Result":
        """Read it back.

        Raises
        ------
        RefocusError
            It is damaged; it is removed then, so that it is done again.
        """
        with _opened(path) as (head, file):
            content = file.read()
            if zlib.crc32(content) != head["crc32"]:
                raise ValueError
            of_pixels, of_share = head["shapes"]
            size = np.dtype(head["dtype"]).itemsize * math.prod(of_pixels)
            pixels = np.frombuffer(content[:size], head["dtype"]).reshape(of_pixels)
            share = np.frombuffer(content[size:], np.float32).reshape(of_share)
            return cls(pixels, share, Said(*head["said"]))

    @classmethod
    def load_said(cls, path: Path) -> Said:
        """Read what is said of it alone."""
        with _opened(path) as (head, _):
            return Said(*head["said"])


@contextmanager
def _opened(path: Path) -> Iterator[tuple[dict[str, Any], BinaryIO]]:
    try:
        with path.open("rb") as file:
            checksum, line = file.readline().split(b" ", 1)
            if zlib.crc32(line) != int(checksum):
                raise ValueError
            head = json.loads(line)
            if os.fstat(file.fileno()).st_size != file.tell() + head["bytes"]:
                raise ValueError
            yield head, file
    except OSError as error:  # of the disk or the share: what is kept may be whole
        raise RefocusError(
            f"{path}: cannot be read ({reason_of(error)}); run the same command again "
            "once it can: it goes on"
        ) from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        path.unlink(missing_ok=True)
        raise RefocusError(
            f"{path}: was damaged and is removed; run the same command again, which does it anew"
        ) from error


class Refocusing:
    """Refocuses regions of planes.

    Parameters
    ----------
    engine
        What does it.
    options
        How.
    channels
        Engines of some channels.
    light_path
        File that keeps what is believed of it; planes of several regions are asked by themselves.

    Raises
    ------
    RefocusError
        That file cannot be read, or is another model's.
    """

    def __init__(
        self,
        engine: Engine,
        options: Options,
        channels: Mapping[str, Engine] | None = None,
        light_path: Path | None = None,
    ) -> None:
        self._engine, self._options = engine, options
        self._channels = channels or {}
        self._refocuser = Refocuser(
            engine,
            channels,
            on_distrust=options.on_distrust,
            optics=options.optics,
            light_path=light_path,
        )
        self.keep_light_path = self._refocuser.keep_light_path
        # trusted when all regions are there: what is taken fades into the next region
        self._parts = Refocuser(engine, channels, None, "refocused", options.optics)

    @property
    def overlap(self) -> int:
        """How many regions may be under way at once."""
        return self._refocuser.overlap

    def engine_of(self, plane: RecordedPlane) -> Engine:
        """Give the engine that a plane goes through."""
        return self._channels.get(plane.about.channel, self._engine)

    def part(self, plane: RecordedPlane) -> RecordedPlane:
        """Give what is refocused of a plane and what is around it, as a plane of its own.

        Raises
        ------
        RefocusError
            The region of the options reaches beyond the plane.
        """
        try:
            return part(plane, self._options.selection.region)
        except RefocusError as error:
            raise type(error)(f"{plane.about.name}: {error}") from error

    def grid(self, plane: RecordedPlane) -> Grid:
        """Cut a plane into regions.

        Raises
        ------
        RefocusError
            An aperture is told, and nothing says how large a pixel is.
        """
        about = plane.about
        try:
            self._options.optics.check_pixel_size(about.light_path.pixel_size_um)
            factor = self._refocuser.factor(about.channel, about.light_path)
        except RefocusError as error:
            raise type(error)(f"{about.name}: {error}") from error
        return cut(plane.shape, factor, alone=self.engine_of(plane).sight is not None)

    def believe(self, plane: RecordedPlane) -> Told:
        """Let a plane of one region and those before it say how it is blurred, in their order."""
        if self.engine_of(plane).sight is None:
            return Told()
        about = plane.about
        pixels = plane.whole()
        believed = self._refocuser.believe(
            pixels, about.channel, about.light_path, about.position, about.z_um
        )
        return Told(believed=believed.believed)

    def submit(
        self, plane: RecordedPlane, region: Region, told: Told, pixels: Plane, margin: int
    ) -> "PendingResult":
        """Send what is read of a region on its way.

        Parameters
        ----------
        plane, region
            Which.
        told
            What is known of the plane.
        pixels
            What is read of the region.
        margin
            Around its core that is kept.

        Raises
        ------
        EngineError
            From here, or from what is given back: the engine failed.
        """
        about = plane.about
        if told.survey is None:
            path = replace(about.light_path, believed=told.believed)
            self._refocuser.warm_up(pixels.shape, pixels.dtype, about.light_path)
            ticket = self._refocuser.submit(pixels, about.channel, path, plane.bits, about.position)
        else:
            path = replace(about.light_path, brightness=told.survey[:2])
            ticket = self._parts.submit(pixels, about.channel, path)
        return PendingResult(ticket, region, margin)


@dataclass(frozen=True)
class PendingResult:
    """A region under way."""

    ticket: Ticket
    region: Region
    margin: int

    def wait(self) -> Result:
        """Wait for it.

        Raises
        ------
        EngineError
            The engine failed.
        """
        done = self.ticket()
        um = done.judgement.distance_um
        return Result(
            np.ascontiguousarray(done.pixels[self.region.within(self.margin)]),
            _share(done, self.region),
            Said(done.judgement.verdict, None if um is None else round(um, 3)),
        )


def _share(done: Refocused, region: Region) -> NDArray[np.float32]:
    """Bring what is trusted of a region to the tiles of the plane, by where their middles lie."""
    judgement = done.judgement
    places = []
    for core, read, tiles in zip(region.core, region.read, judgement.share.shape, strict=True):
        begins = np.arange(core.start, core.stop, TILE)
        middles = (begins + np.minimum(begins + TILE, core.stop)) / 2 - read.start
        places.append(np.minimum((middles / judgement.tile_px).astype(int), tiles - 1))
    return judgement.share[np.ix_(*places)]
