"""Frames that a model is calibrated on, and other ones that its verdicts are judged on.

Calibration sees frames of the kinds of specimen that training draws, through good and bad light
paths. What judges the verdicts comes from kinds that no training and no calibration drew.
Everything follows from a seed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from numpy.typing import NDArray
from scipy import ndimage
from skimage.transform import resize

from refocus.configs import BBBC006, ModelCard, Optics, RefocusError
from refocus.configs.light_path import UNKNOWN, LightPath
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import convolve, defocus
from refocus.optics.images import list_images, read_image
from refocus.optics.phase import phase_contrast
from refocus.optics.psf import psf
from refocus.optics.specimens import GENERATORS, PHOTOGRAPHS
from refocus.optics.transfer import light_path_of, slope
from refocus.training.judging.objectives import OBJECTIVES

Field = NDArray[np.float32]

SIDE = 320
STRANGERS = ("brick", "grass", "hubble_deep_field", "immunohistochemistry", "retina", "page")
"""Pictures that come with scikit-image and that no specimen is drawn from."""
WITHOUT_SPECIMEN = ("noise only", "empty")
EMISSION_UM = 0.52
WIDEST_PX = 44.0
"""Of the blur through any objective."""
KINDS = tuple(kind for kind in GENERATORS if kind != "empty")


@dataclass(frozen=True, eq=False)
class HardFrame:
    """A frame with the truth behind it.

    Attributes
    ----------
    group
        Which set it belongs to: ``"+8 µm"``, ``"noise only"``...
    kind
        Of its specimen.
    distance_um
        From focus, µm, signed; NaN where there is no such thing.
    frame, truth
        ``(H, W)`` counts: as captured, and in focus without noise.
    familiar
        Whether training draws such frames.
    restorable
        False where there is nothing to restore, so that the best is to leave the frame alone.
    light_path
        What a user would know of it.
    """

    group: str
    kind: str
    distance_um: float
    frame: NDArray[Any]
    truth: NDArray[Any]
    familiar: bool = True
    restorable: bool = True
    light_path: LightPath = UNKNOWN


@dataclass(frozen=True)
class _Path:
    """What lies between a specimen and its frame."""

    distance_um: float
    optics: Optics
    peak_e: float = 2000.0
    inverted: bool = False
    motion_px: int = 0
    saturated: bool = False
    hot: int = 0
    eight_bit: bool = False
    seen_in_focus: bool = False
    """The truth is the object as the same optics show it in focus, not the object itself."""
    told: str = ""
    """What is known of it: nothing, the ``optics``, or the whole ``path``."""

    @property
    def light_path(self) -> LightPath:
        """What a user would know of it."""
        if not self.told:
            return UNKNOWN
        return light_path_of(self.optics, self.distance_um if self.told == "path" else None)


def calibration_frames(
    card: ModelCard, count: int, seed: int, pictures: Sequence[Field] = ()
) -> Iterator[HardFrame]:
    """Draw frames to calibrate on: half as in training, half with something wrong.

    Parameters
    ----------
    card
        Of the model: its light paths, and the farthest distance it knows.
    count, seed
        How many, and which.
    pictures
        Sharp fields to use as specimens, besides synthetic ones.

    Raises
    ------
    RefocusError
        The card does not say how far from focus its model was trained.
    """
    optics, reach_um = card.optics, card.defocus_um[1]
    if reach_um <= 0:
        raise RefocusError(
            f"{card.name}: its card does not say how far from focus it was trained; give the "
            "'distance_um' of its pairs, and train again"
        )
    most = max(optics.na, 0.95 * optics.immersion_index)
    for number in range(count):
        rng = np.random.default_rng([seed, 21, number])
        name = str(rng.choice([*KINDS, *(["pictures"] * 2 if pictures else [])]))
        field = _picture(pictures, rng) if name == "pictures" else _grown(name, rng)
        near = rng.random() < 0.4
        around = (min(1.0, 0.1 * reach_um), min(14.0, reach_um))
        distance = float(rng.uniform(*around) if near else rng.uniform(0.3, reach_um))
        distance = 0.0 if rng.random() < 0.1 else distance
        path = _Path(
            distance * float(rng.choice([-1.0, 1.0])),
            optics.model_copy(
                update={
                    "na": min(float(optics.na * rng.uniform(0.9, 1.15)), most),
                    "spherical_waves": float(np.clip(rng.normal(-0.4, 0.3), -1, 1)),
                }
            ),
            peak_e=float(np.exp(rng.uniform(np.log(200), np.log(15000)))),
            eight_bit=bool(rng.random() < 0.3),
            seen_in_focus=card.seen_in_focus,
        )
        path, reach = _of_any_objective(path, card, rng)
        if rng.random() < 0.5:
            yield _imaged("familiar", name, field, path, rng)
        else:
            yield _spoiled(name, field, path, reach, rng)


def _of_any_objective(
    path: _Path, card: ModelCard, rng: np.random.Generator
) -> tuple[_Path, float]:
    """Take another objective in half of the cases, where the card knows any; and its reach, µm."""
    if card.sampling is None or card.aperture is None:
        return path, card.defocus_um[1]
    told = str(rng.choice(["", "optics", "path"]))
    if rng.random() < 0.5:
        return _with(path, told=told), card.defocus_um[1]
    sine = float(np.exp(rng.uniform(*np.log(card.aperture))))
    pixel_um = float(np.exp(rng.uniform(*np.log(card.sampling)))) * EMISSION_UM / sine
    wide = min(abs(path.distance_um) * slope(0.5) / BBBC006.pixel_size_um, WIDEST_PX)
    optics = Optics(
        na=sine,
        emission_um=EMISSION_UM,
        pixel_size_um=pixel_um,
        spherical_waves=float(np.clip(rng.normal(0, 0.3), -1, 1)),
    )
    step = pixel_um / slope(sine)
    distance = float(np.copysign(wide * step, path.distance_um))
    return _with(path, optics=optics, distance_um=distance, told=told), WIDEST_PX * step


def _spoiled(
    name: str, field: Field, path: _Path, reach_um: float, rng: np.random.Generator
) -> HardFrame:
    """Image a specimen in one of the ways that no training does."""
    what = str(rng.choice(list(_WRONG)))
    if what == "phase contrast":
        return _phase(what, path.optics, path.distance_um, rng)
    if what in WITHOUT_SPECIMEN:
        return _without_specimen(what, rng)
    changed, light_path = _WRONG[what](field, path, reach_um, rng)
    optics = light_path.optics  # as it is now: a wider aperture blurs more
    most = 3 * WIDEST_PX * optics.pixel_size_um / slope(optics.na / optics.immersion_index)
    distance = float(np.clip(light_path.distance_um, -most, most))
    return _imaged(
        what, name, changed, _with(light_path, distance_um=distance), rng, familiar=False
    )


def _with(path: _Path, **changes: Any) -> _Path:
    return _Path(**{**path.__dict__, **changes})


def _other_optics(path: _Path, **changes: float) -> _Path:
    return _with(path, optics=path.optics.model_copy(update=changes))


_Wrong = Callable[[Field, _Path, float, np.random.Generator], tuple[Field, _Path]]
_WRONG: dict[str, _Wrong] = {
    "beyond": lambda f, p, reach, rng: (
        f,
        _with(p, distance_um=float(rng.uniform(1.05, 2.2) * reach * rng.choice([-1, 1]))),
    ),
    "aperture": lambda f, p, _, rng: (
        f,
        _other_optics(p, na=float(rng.choice([0.2, 0.3, 0.75, 0.9]))),
    ),
    "aberration": lambda f, p, _, rng: (
        f,
        _other_optics(p, spherical_waves=float(rng.choice([-2.5, -1.8, 1.5, 2.5]))),
    ),
    "pixel size": lambda f, p, _, rng: (f, _other_optics(p, pixel_size_um=_off(p, rng))),
    "inverted": lambda f, p, _, rng: (1 - np.clip(f, 0, 1), _with(p, inverted=True)),
    "motion": lambda f, p, _, rng: (
        f,
        _with(p, motion_px=int(rng.integers(4, 24)), distance_um=float(rng.uniform(0, 6))),
    ),
    "saturated": lambda f, p, _, rng: (f, _with(p, saturated=True)),
    "hot pixels": lambda f, p, _, rng: (f, _with(p, hot=int(rng.integers(1, 60)))),
    "dim": lambda f, p, _, rng: (f, _with(p, peak_e=float(rng.uniform(5, 60)))),
    "phase contrast": lambda f, p, _, rng: (f, p),
    "noise only": lambda f, p, _, rng: (f, p),
    "empty": lambda f, p, _, rng: (f, p),
}


def _off(path: _Path, rng: np.random.Generator) -> float:
    return path.optics.pixel_size_um * float(rng.choice([0.33, 0.5, 1.8, 2.5]))


DEPTHS_UM = (0.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, -4.0, -8.0, -16.0, -32.0)


def judging_frames(
    card: ModelCard, per_set: int, seed: int, folder: Path | None = None
) -> Iterator[HardFrame]:
    """Draw the sets that verdicts are judged on, ``per_set`` frames each.

    Parameters
    ----------
    card
        Of the model: one for any objective is judged on several, too.
    per_set, seed
        How many, and which.
    folder
        Of frames of phase contrast, any depth, to be judged against themselves.
    """
    optics, reach_um = card.optics, card.defocus_um[1]
    usual = optics.model_copy(update={"na": 0.52, "spherical_waves": -0.4})
    plain = _Path(8.0, usual, seen_in_focus=card.seen_in_focus)
    for number in range(per_set):
        rng = np.random.default_rng([seed, 22, number])
        kind = KINDS[number % (len(KINDS) - 1)]
        stranger = STRANGERS[number % len(STRANGERS)]
        for depth in DEPTHS_UM:
            path = _with(plain, distance_um=depth)
            yield _imaged(
                f"{depth:+g} µm" if depth else "in focus", kind, _grown(kind, rng), path, rng
            )
        for depth in (0.0, 3.0, 8.0, 20.0):
            path = _with(plain, distance_um=depth)
            group = "other specimens"
            yield _imaged(group, stranger, _stranger(stranger, rng), path, rng, familiar=False)
        for what, make in _WRONG.items():
            if what in ("phase contrast", "noise only", "empty"):
                continue
            base = _with(plain, distance_um=float(rng.uniform(2, 20)))
            changed, path = make(_stranger(stranger, rng), base, reach_um, rng)
            yield _imaged(what, stranger, changed, path, rng, familiar=False)
        for name, objective, distance in OBJECTIVES if card.sampling else ():
            away = distance * float(rng.uniform(0.4, 1.6) * rng.choice([-1, 1]))
            path = _with(plain, distance_um=away, optics=objective, told="optics")
            yield _imaged(name, kind, _grown(kind, rng), path, rng)
        for group in WITHOUT_SPECIMEN:
            yield _without_specimen(group, rng)
        yield _phase("phase contrast", optics, float(rng.uniform(-30, 30)), rng)
    if folder is not None:
        for file in list_images(folder):
            frame = read_image(file)
            yield HardFrame("phase contrast, real", file.name, np.nan, frame, frame, False, False)


def _imaged(
    group: str,
    kind: str,
    field: Field,
    path: _Path,
    rng: np.random.Generator,
    *,
    familiar: bool = True,
) -> HardFrame:
    """Image a field in focus, background 0 and brightest 1."""
    camera = CameraModel(electrons_per_count=max(path.peak_e / 3000, 0.02))
    background = path.peak_e * float(np.exp(rng.uniform(np.log(0.005), np.log(0.2))))
    light = np.clip(field, 0, None) * path.peak_e + background
    if path.seen_in_focus:
        light, blurred = (convolve(light, psf(path.optics, z)) for z in (0.0, path.distance_um))
    else:
        blurred = defocus(light, path.optics, path.distance_um)
    if path.motion_px:
        kernel = np.zeros((2 * path.motion_px + 1,) * 2, np.float32)
        kernel[path.motion_px] = 1 / kernel.shape[0]
        turned = ndimage.rotate(kernel, float(rng.uniform(0, 180)), reshape=False, order=1)
        blurred = convolve(blurred, turned / turned.sum())
    frame, truth = camera.expose(blurred, rng), camera.digitise(light)
    if path.hot:
        hot = tuple(rng.integers(0, n, path.hot) for n in frame.shape)
        frame[hot] = truth[hot] = 60000
    if path.saturated:
        ceiling = np.percentile(frame, rng.uniform(70, 97))
        frame = np.minimum(frame, ceiling).astype(frame.dtype)
    if path.eight_bit:
        low, high = int(frame.min()), int(frame.max())
        gain = 255 / max(high - low, 1)
        frame, truth = (
            np.clip(np.rint((x.astype(np.float32) - low) * gain), 0, 255).astype(np.uint8)
            for x in (frame, truth)
        )
    return HardFrame(
        group, kind, path.distance_um, frame, truth, familiar, light_path=path.light_path
    )


def _without_specimen(group: str, rng: np.random.Generator) -> HardFrame:
    """Capture nothing: the camera's noise, or an evenly lit field."""
    light = np.full((SIDE, SIDE), 2.0 if group == "noise only" else 400.0)
    if group == "empty":
        light *= 1 + 0.2 * np.linspace(-1, 1, SIDE) * rng.uniform(-1, 1)
    camera = CameraModel()
    frame, truth = camera.expose(light, rng), camera.digitise(light)
    # no contrast to measure against: the truth is the frame's own level and its noise
    flat = bool(np.ptp(truth) < 2)
    return HardFrame(group, group, np.nan, frame, frame if flat else truth, False, not flat)


def _phase(group: str, optics: Optics, distance_um: float, rng: np.random.Generator) -> HardFrame:
    light = phase_contrast((SIDE, SIDE), rng, optics, distance_um)
    camera = CameraModel()
    frame = camera.expose(light * 4000, rng)
    # no PSF leads from focus to here, so the best that can be done is to leave it alone
    return HardFrame(
        group, "phase contrast", np.nan, frame, camera.digitise(light * 4000), False, False
    )


def _grown(kind: str, rng: np.random.Generator) -> Field:
    return GENERATORS[kind]((SIDE, SIDE), rng)


def _picture(pictures: Sequence[Field], rng: np.random.Generator) -> Field:
    field = large_enough(pictures[int(rng.integers(len(pictures)))])
    top, left = (int(rng.integers(0, n - SIDE + 1)) for n in field.shape)
    return field[top : top + SIDE, left : left + SIDE]


def large_enough(pixels: NDArray[Any]) -> NDArray[Any]:
    """Mirror a field at its edges to the size of a frame, where it is smaller."""
    pad = [(0, max(0, SIDE - n)) for n in pixels.shape]
    return np.pad(pixels, pad, mode="symmetric") if any(n for _, n in pad) else pixels


def _stranger(name: str, rng: np.random.Generator) -> Field:
    assert name not in PHOTOGRAPHS
    image = np.asarray(getattr(skimage.data, name)(), dtype=np.float32)
    image = image.mean(axis=2) if image.ndim == 3 else image
    side = int(min(*image.shape, SIDE * rng.uniform(1.0, 1.8)))
    top, left = (int(rng.integers(0, n - side + 1)) for n in image.shape)
    window = image[top : top + side, left : left + side]
    field = resize(window, (SIDE, SIDE), order=1, mode="reflect", anti_aliasing=True)
    low, high = np.percentile(field, (1, 99.9))
    return np.asarray((field - low) / max(high - low, 1.0), dtype=np.float32)
