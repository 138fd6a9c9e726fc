"""What is known of the way that the light of a frame took, and how a user tells it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from refocus.configs.errors import RefocusError
from refocus.configs.options import Option

MEDIA = MappingProxyType(
    {"air": 1.0, "water": 1.333, "glycerol": 1.45, "silicone": 1.406, "oil": 1.515}
)
"""Refractive indices of what objectives are immersed in, in green light at room temperature."""

LARGEST_NA, LARGEST_INDEX = 1.6, 1.7
OF_WATER = 1.27
"""The largest aperture of a water objective."""
EMISSION_UM, PIXEL_UM = (0.2, 2.0), (0.01, 50.0)
"""Within which light is seen, and a pixel lies at the specimen."""

Value = TypeVar("Value")


class Blur(NamedTuple):
    """A light path as far as it shows in a frame.

    Attributes
    ----------
    sampling
        Pixel size × numerical aperture / wavelength: half the cut-off, cycles per pixel.
    aperture
        Numerical aperture / refractive index: sine of the half angle of the cone of light.
    radius
        Of the geometric cone of light where it meets the plane in focus, pixels; negative on the
        other side of focus.
    spherical
        Primary spherical aberration, waves at the pupil's edge.
    chance
        How likely this one is, or one beside it; 1 where it is told, 0 where the frame itself
        speaks against what is believed.
    """

    sampling: float
    aperture: float
    radius: float
    spherical: float = 0.0
    chance: float = 1.0


@dataclass(frozen=True)
class LightPath:
    """What is known of the way that the light of a frame took; 0.0 for what is not.

    Attributes
    ----------
    pixel_size_um
        Size of a pixel at the specimen, µm.
    na
        Numerical aperture of the objective.
    immersion_index
        Refractive index of the immersion medium.
    emission_um
        Emission wavelength, centre of the filter, µm.
    believed
        What earlier frames, or whoever knows, tell of the blur, likeliest first; empty where
        nothing is.
    brightness
        Offset and scale, counts, of the plane that a frame is cut from; empty where it is a whole
        one, whose brightness is its own.
    """

    pixel_size_um: float = 0.0
    na: float = 0.0
    immersion_index: float = 0.0
    emission_um: float = 0.0
    believed: tuple[Blur, ...] = ()
    brightness: tuple[float, ...] = ()


def stated(path: LightPath) -> dict[str, float]:
    """Give what is stated or told of a light path, by its name."""
    return {name: getattr(path, name) for name in STATED}


STATED = ("pixel_size_um", "na", "immersion_index", "emission_um")
"""What is stated or told of it."""

UNKNOWN = LightPath()
"""Nothing is known of it."""


def _where_told(check: Callable[[Value], Value]) -> Callable[[Value | None], Value | None]:
    return lambda value: None if value is None else check(value)


def _aperture(na: float) -> float:
    if not 0.0 < na < LARGEST_NA:
        raise ValueError(
            f"{na:g} is no aperture; give the number behind the magnification, 0.75 of 20×/0.75"
        )
    return na


def _medium(said: Any) -> str | float:
    """Take a medium by its name, or its index; text may hold either."""
    name = str(said).strip().lower()
    if name in MEDIA:
        return name
    try:
        index = float(name)
    except ValueError:
        index = 0.0
    if not 1.0 <= index < LARGEST_INDEX:
        raise ValueError(
            f"give {', '.join(MEDIA)} or an index from 1 to {LARGEST_INDEX}, got {said!r}"
        )
    return index


def _emission(um: float) -> float:
    return _length(um, EMISSION_UM, "wavelength of light", 0.52)


def _pixel_size(um: float) -> float:
    if um == 0.0:
        raise ValueError("0 µm is no size of a pixel; leave it out, or give that at the specimen")
    return _length(um, PIXEL_UM, "size of a pixel at the specimen", 0.325)


def _length(um: float, within: tuple[float, float], what: str, example: float) -> float:
    """Refuse a length that cannot be, and say which one is meant where it is in nm or mm."""
    if within[0] < um < within[1]:
        return um
    meant = [um * unit for unit in (1e-3, 1e3) if within[0] < um * unit < within[1]]
    mend = f"did you mean {meant[0]:g}?" if meant else f"give one such as {example:g}"
    raise ValueError(f"{um:g} µm is no {what}; {mend}")


def within(bounds: tuple[float, float], value: float) -> float:
    """Give a value that lies inside bounds, and 0.0 for another, NaN too."""
    return value if bounds[0] < value < bounds[1] else 0.0


def _possible(stated: LightPath) -> LightPath:
    """Leave out what cannot be: nm for µm, or what a device says that does not know."""
    index = stated.immersion_index
    return replace(
        stated,
        pixel_size_um=within(PIXEL_UM, stated.pixel_size_um),
        na=within((0.0, LARGEST_NA), stated.na),
        immersion_index=index if 1.0 <= index < LARGEST_INDEX else 0.0,
        emission_um=within(EMISSION_UM, stated.emission_um),
    )


class ChannelOptics(BaseModel):
    """What is told of the light path of one channel; None for what is not."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    na: Annotated[float | None, AfterValidator(_where_told(_aperture)), Option("NA", 0.75)] = None
    """Numerical aperture of the objective."""
    immersion: Annotated[
        str | float | None, BeforeValidator(_where_told(_medium)), Option("MEDIUM", "air")
    ] = None
    """What it is immersed in: ``air``, ``water``, ``glycerol``, ``silicone``, ``oil``, or an
    index."""
    emission_um: Annotated[
        float | None, AfterValidator(_where_told(_emission)), Option("UM", 0.52)
    ] = None
    """Emission wavelength, centre of the filter, µm."""

    @property
    def immersion_index(self) -> float | None:
        """Refractive index of the immersion medium."""
        said = self.immersion
        return None if said is None else MEDIA.get(str(said)) or float(said)


class KnownOptics(ChannelOptics):
    """What is told of the light path of a run or of a data set."""

    pixel_size_um: Annotated[
        float | None, AfterValidator(_where_told(_pixel_size)), Option("UM", 0.325)
    ] = None
    """Size of a pixel at the specimen, µm; else as the core or the file says."""
    channels: Annotated[
        dict[str, ChannelOptics],
        Option(example={"DAPI": {"emission_um": 0.46}}, typed=False),
    ] = Field(default_factory=dict)
    """What is different for a channel."""

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        for channel in ("", *self.channels):
            path = self._told(channel)
            if path.na >= (path.immersion_index or 1.0):
                medium = "oil" if path.na > OF_WATER else "water"
                told = f"index {path.immersion_index:g}" if path.immersion_index else "not told"
                raise ValueError(
                    f"{channel and f'channel {channel}: '}na {path.na:g} with immersion {told}: "
                    f"an aperture is below the index; did you mean --immersion {medium}?"
                )
        return self

    def of(self, channel: str = "", stated: LightPath = UNKNOWN) -> LightPath:
        """Give what is known of the light path of a channel.

        Parameters
        ----------
        channel
            Its name.
        stated
            What a core or a file says of it, which holds where nothing is told, but for what
            cannot be. An aperture and an index that do not go together are not both taken: what
            is told is, or else the aperture.
        """
        told, stated = self._told(channel), _possible(stated)
        known = LightPath(
            told.pixel_size_um or stated.pixel_size_um,
            told.na or stated.na,
            told.immersion_index or stated.immersion_index,
            told.emission_um or stated.emission_um,
            stated.believed,
        )
        if known.na >= known.immersion_index > 0.0:
            if told.immersion_index:
                known = replace(known, na=0.0)
            else:
                known = replace(known, immersion_index=0.0)
        return known

    def of_all(self, stated: LightPath = UNKNOWN) -> tuple[LightPath, ...]:
        """Give what is known of the light path of each channel that is told of, and of others."""
        return tuple(self.of(channel, stated) for channel in ("", *self.channels))

    def filled(self, stated: LightPath) -> "KnownOptics":
        """Give the same, with what is stated where nothing is told; but no pixel size.

        A stated aperture of 1 or more whose immersion nobody states is taken for one in oil.
        """
        known = self.of(stated=stated)
        index = known.immersion_index or (MEDIA["oil"] if known.na >= 1.0 else None)
        found = {
            "na": known.na or None,
            "immersion": index,
            "emission_um": known.emission_um or None,
        }
        return self.model_copy(update=found)

    def as_options(self) -> list[str]:
        """Give what is told of all channels as options of a command."""
        told = (("na", self.na), ("immersion", self.immersion), ("emission-um", self.emission_um))
        values = (*told, ("pixel-size-um", self.pixel_size_um))
        return [f"--{option} {value}" for option, value in values if value is not None]

    def check_pixel_size(self, pixel_size_um: float) -> None:
        """Refuse an aperture where nobody says how large a pixel is.

        Parameters
        ----------
        pixel_size_um
            As a core or a file states it; 0.0 where it does not.

        Raises
        ------
        RefocusError
            An aperture is told, and no pixel size, and none is stated.
        """
        told = [self._told(channel).na for channel in ("", *self.channels)]
        if max(told) and not (self.pixel_size_um or within(PIXEL_UM, pixel_size_um)):
            raise RefocusError(
                f"na {max(told):g} with pixel size 0: an aperture is told, and nothing says how "
                "large a pixel is; give --pixel-size-um, too"
            )

    def _told(self, channel: str) -> LightPath:
        own = self.channels.get(channel, self)
        return LightPath(
            self.pixel_size_um or 0.0,
            own.na or self.na or 0.0,
            own.immersion_index or self.immersion_index or 0.0,
            own.emission_um or self.emission_um or 0.0,
        )
