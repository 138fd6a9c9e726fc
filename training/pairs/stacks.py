"""A user's own z-stacks: reading them, finding focus, refusing those that moved, making pairs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import fft, ndimage

from refocus.configs import RefocusError, reason_of
from refocus.configs.training import StacksConfig
from refocus.optics.focus import tenengrad
from refocus.optics.images import light_is_bright
from refocus.optics.ome_zarr import axis_um, find_images, is_zarr, open_array
from refocus.optics.tiff_metadata import TiffNotes
from refocus.training.pairs.measured import MeasuredField
from refocus.training.pairs.split import choose, deal

FEWEST = 3
"""Planes below which there is no telling where focus is."""


@dataclass(frozen=True, eq=False)
class Stack:
    """One z-stack of one field, one channel, one time.

    Attributes
    ----------
    name
        The file, and which of its stacks.
    file
        The file: what splits keep together.
    planes
        ``(Z, H, W)``, ``uint8`` or ``uint16``.
    z_step_um
        Distance of neighbouring planes, µm; None where the file does not say.
    """

    name: str
    file: Path
    planes: NDArray[Any]
    z_step_um: float | None


class Planes:
    """Two planes of a stack, as a field to train on (see :class:`MeasuredField`)."""

    def __init__(self, frame: NDArray[Any], target: NDArray[Any]) -> None:
        self._pair = frame, target

    def __call__(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Give the plane out of focus and the one in focus."""
        return self._pair


def training_fields(config: StacksConfig) -> list[MeasuredField]:
    """Pair planes out of focus with the one in focus, for the stacks that are trained on.

    Raises
    ------
    RefocusError
        A stack cannot be read or used; the message names it.
    """
    kept = choose(list_stacks(config.folder), config, _name)
    if not kept:
        raise RefocusError(f"{config.folder}: every stack is held out; set 'held_out: null'")
    return _fields(kept, config)


def held_out_fields(config: StacksConfig) -> list[MeasuredField]:
    """Pair the planes of the stacks that are not trained on.

    Raises
    ------
    RefocusError
        As :func:`training_fields`.
    """
    return _fields(held_out_files(config), config)


def held_out_files(config: StacksConfig) -> list[Path]:
    """Name the files that are not trained on; none where no fold is held out.

    Raises
    ------
    RefocusError
        The folder holds no stack, or not those that the run held out.
    """
    return choose(list_stacks(config.folder), config, _name, held_out=True)


def dealt_stacks(config: StacksConfig) -> StacksConfig:
    """Deal the files, unless they are dealt.

    Raises
    ------
    RefocusError
        The folder holds no stack.
    """
    dealt = config.dealt or deal(list_stacks(config.folder), config, _name)
    return config.model_copy(update={"dealt": dealt})


def list_stacks(folder: Path) -> list[Path]:
    """Name the stacks of a folder, or the one given, in lexicographic order, but for hidden ones.

    Raises
    ------
    RefocusError
        There is none.
    """
    if _is_stack(folder):
        return [folder]
    if not folder.is_dir():
        raise RefocusError(f"{folder}: no such folder; give one that holds .tif or .zarr stacks")
    found = sorted(p for p in folder.iterdir() if p.name[0] != "." and _is_stack(p))
    if not found:
        raise RefocusError(f"{folder}: holds no stack; expected .tif, .tiff or .zarr")
    return found


def read_stacks(file: Path) -> list[Stack]:
    """Read every stack of a file: one for each position, time and channel.

    Raises
    ------
    RefocusError
        The file is damaged, is not all of its image, has too few planes, NaN, constant planes, or
        colours.
    """
    try:
        images = list(_read_zarr(file) if file.is_dir() else _read_tiff(file))
    except RefocusError:
        raise
    except Exception as error:  # decoders raise whatever they like on a broken file
        raise RefocusError(
            f"{file}: not a readable stack ({reason_of(error)}); remove or replace it"
        ) from error
    if not images:
        raise RefocusError(f"{file}: all its planes are in other files; remove it")
    stacks: list[Stack] = []
    for label, pixels, axes, step in images:
        stacks += _split(file, label, pixels, axes, step)
    return stacks


def find_focus(stack: Stack) -> int:
    """Find the sharpest plane, by the mean squared gradient of its smoothed pixels.

    Not divided by the variance, as between specimens: within a stack the light is the same, and
    a plane far from focus has so little variance that its noise would pass for sharpness.

    Raises
    ------
    RefocusError
        It is the first or the last plane, so that focus may lie outside.
    """
    smooth = (ndimage.gaussian_filter(p.astype(np.float32), 1.0) for p in stack.planes)
    sharpness = [tenengrad(p) * float(p.var()) for p in smooth]
    sharpest = int(np.argmax(sharpness))
    if sharpest in (0, len(sharpness) - 1):
        raise RefocusError(
            f"{stack.name}: is sharpest at its end, plane {sharpest} of {len(sharpness)}, so focus "
            f"may lie outside; if it does not, set 'focus: {sharpest}'"
        )
    return sharpest


def shift_px(reference: NDArray[Any], plane: NDArray[Any]) -> tuple[float, float]:
    """Measure how far a plane lies sideways of another, by phase correlation.

    Defocus turns the contrast of some frequencies over, a phase of π that the square of the
    phase does not see; its peak then lies at twice the shift. Frequencies above what defocus
    leaves count little (Gaussian, 0.06 cycles per pixel), and the edges are faded out.
    Within 0.6 px up to 16 µm from focus at NA 0.5, and 2 px at 32 µm.

    Parameters
    ----------
    reference, plane
        ``(H, W)``.

    Returns
    -------
    tuple of float
        Rows and columns, pixels, to a fraction of one.
    """
    shape = reference.shape
    window = np.outer(np.hanning(shape[0]), np.hanning(shape[1]))
    spectra = []
    for pixels in (reference, plane):
        flat = pixels.astype(np.float64)
        spectra.append(fft.rfft2((flat - flat.mean()) * window))
    cross = spectra[1] * np.conj(spectra[0])
    rows, cols = fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None]
    weight = np.exp(-(rows**2 + cols**2) / (2 * 0.06**2))
    peak = fft.irfft2((cross / (np.abs(cross) + 1e-12)) ** 2 * weight, shape)
    row, col = np.unravel_index(int(np.argmax(peak)), shape)
    return _vertex(peak[:, col], int(row)) / 2, _vertex(peak[row], int(col)) / 2


def check_still(stack: Stack, focus: int, step_um: float, largest_px: float) -> None:
    """Refuse a stack whose planes do not lie on top of each other.

    Raises
    ------
    RefocusError
        A plane is shifted by more than ``largest_px``; twice that at 16 µm from focus, and so on,
        since blur hides where things are.
    """
    for number, plane in enumerate(stack.planes):
        rows, cols = shift_px(stack.planes[focus], plane)
        allowed = largest_px * (1 + abs(number - focus) * step_um / 16)
        if np.hypot(rows, cols) > allowed:
            raise RefocusError(
                f"{stack.name}: plane {number} is shifted by {rows:.1f} rows and {cols:.1f} "
                f"columns from plane {focus}, over the {allowed:.1f} that "
                f"'largest_shift_px: {largest_px:g}' allows; align it or leave it out"
            )


def pairs(stack: Stack, config: StacksConfig) -> list[MeasuredField]:
    """Pair planes of a stack with its plane in focus, as training takes them.

    Raises
    ------
    RefocusError
        As :func:`planes_of`.
    """
    return [
        MeasuredField(f"{stack.name}, plane {number}", planes, abs(distance_um))
        for number, distance_um, planes in planes_of(stack, config)
    ]


def planes_of(stack: Stack, config: StacksConfig) -> Iterator[tuple[int, float, Planes]]:
    """Give the planes out of focus: the number of each, its distance in µm, signed, and both.

    Raises
    ------
    RefocusError
        Focus cannot be found, planes have moved sideways, the z-step is not known, or a distance
        lies outside.
    """
    count = len(stack.planes)
    focus = find_focus(stack) if config.focus == "measure" else config.focus
    if not 0 <= focus < count:
        raise RefocusError(f"{stack.name}: has planes 0 to {count - 1}, but 'focus' is {focus}")
    step = config.z_step_um or stack.z_step_um
    if step is None:
        raise RefocusError(
            f"{stack.name}: does not say how far its planes are apart; set 'z_step_um'"
        )
    check_still(stack, focus, step, config.largest_shift_px)
    if config.distances_um is None:
        numbers = [n for n in range(count) if n != focus]
    else:
        numbers = [focus + _planes_off(stack, focus, d, step) for d in config.distances_um]
        if len({focus, *numbers}) <= len(numbers):
            raise RefocusError(
                f"{stack.name}: has a plane every {step:g} µm, so two of 'distances_um', or one "
                "and the focus, are the same plane; leave one out"
            )
    for n in numbers:
        yield n, (n - focus) * step, Planes(stack.planes[n].copy(), stack.planes[focus].copy())


def _planes_off(stack: Stack, focus: int, distance_um: float, step: float) -> int:
    off = round(distance_um / step)
    count = len(stack.planes)
    if not 0 <= focus + off < count or abs(off * step - distance_um) > step / 2:
        raise RefocusError(
            f"{stack.name}: too few planes: {count} of {step:g} µm reach from {-focus * step:g} to "
            f"{(count - 1 - focus) * step:g} µm around plane {focus}, not {distance_um:g}; "
            "change 'distances_um'"
        )
    return off


def _name(file: Path) -> str:
    return file.name


def _fields(files: list[Path], config: StacksConfig) -> list[MeasuredField]:
    return [f for file in files for stack in read_stacks(file) for f in pairs(stack, config)]


def _is_stack(path: Path) -> bool:
    if path.is_dir():
        return is_zarr(path)
    return path.suffix.lower() in (".tif", ".tiff")


Image = tuple[str, NDArray[Any], str, float | None]
"""Which one of the file, pixels, axes such as ``TCZYX``, z-step in µm."""


def _read_tiff(file: Path) -> Iterator[Image]:
    # Micro-Manager's own index joins the files of a set; its OME-XML says which planes are whose
    with tifffile.TiffFile(file, is_mmstack=False) as tiff:
        step = TiffNotes(tiff).step_um(unstated=1.0) or None
        shapes = {page.shape for page in tiff.pages}
        if len(shapes) > 1 and len(tiff.series) > 1 and not tiff.is_ome:
            raise RefocusError(f"{file}: has planes of mixed sizes {sorted(shapes)}; split it")
        for number, series in enumerate(tiff.series):
            label = f", image {number}" if len(tiff.series) > 1 else ""
            here = [page is not None and page.parent.filename == tiff.filename for page in series]
            if not any(here):  # of a set: it is read from the file that holds it
                continue
            if not all(here):
                raise RefocusError(
                    f"{file}{label}: has planes in other files, or misses some; save it whole, as "
                    "one file"
                )
            axes = series.axes
            if "Z" not in axes:  # a plain TIFF calls its planes I or Q
                unnamed = [axis for axis in axes if axis in "IQ"]
                if len(unnamed) > 1:
                    raise RefocusError(
                        f"{file}{label}: does not say which of its axes {axes} is z; save it as "
                        "OME-TIFF, or a stack to a file"
                    )
                axes = axes.replace("I", "Z").replace("Q", "Z")
            yield label, light_is_bright(series.asarray(), series.keyframe), axes, step


def _read_zarr(folder: Path) -> Iterator[Image]:
    """Read the full-resolution level of every image in an OME-Zarr, version 0.4 or 0.5."""
    for image in find_images(folder):
        axes = "".join(image.axes[axis] for axis in image.order).upper()
        label = "" if image.group == folder else f", image {image.group.relative_to(folder)}"
        step = axis_um(image, image.axes.index("z"), 1.0) if "z" in image.axes else 0.0
        pixels = np.asarray(open_array(image, image.levels[0]).read().result())
        yield label, pixels, axes, step or None


def _split(
    file: Path, label: str, pixels: NDArray[Any], axes: str, step: float | None
) -> Iterator[Stack]:
    """Take an image apart into its stacks, and check each."""
    if axes.endswith("S") or not axes.endswith("YX"):
        raise RefocusError(f"{file}{label}: has axes {axes}; save it in grey, planes last as YX")
    if "Z" not in axes:
        raise RefocusError(f"{file}{label}: too few planes: it has no z-axis (axes {axes})")
    moved = np.moveaxis(pixels, axes.index("Z"), -3)
    outer = axes.replace("Z", "")[:-2]
    for place in np.ndindex(*moved.shape[:-3]):
        which = ", ".join(f"{a.lower()}={i}" for a, i in zip(outer, place, strict=True))
        name = f"{file}{label}" + (f" ({which})" if which and moved[..., 0, 0, 0].size > 1 else "")
        yield Stack(name, file, _to_counts(name, moved[place]), step)


def _to_counts(name: str, planes: NDArray[Any]) -> NDArray[Any]:
    """Check the planes of a stack, and give them as camera counts."""
    if len(planes) < FEWEST:
        raise RefocusError(f"{name}: too few planes: {len(planes)}, and {FEWEST} are needed")
    if planes.dtype.kind == "f":
        if bad := np.flatnonzero(~np.isfinite(planes).all(axis=(1, 2))).tolist():
            raise RefocusError(f"{name}: plane {bad[0]} holds NaN or infinity; remove it")
        low, high = float(planes.min()), float(planes.max())
        # one scale for the whole stack, so that its planes stay comparable
        planes = np.rint((planes - low) * (60000.0 / max(high - low, 1e-30))).astype(np.uint16)
    if planes.dtype not in (np.uint8, np.uint16):
        raise RefocusError(
            f"{name}: has pixels of {planes.dtype}; uint8, uint16 or float is needed"
        )
    constant = np.flatnonzero(planes.min(axis=(1, 2)) == planes.max(axis=(1, 2)))
    if constant.size:
        raise RefocusError(f"{name}: plane {constant[0]} is constant; remove it")
    return np.ascontiguousarray(planes)


def _vertex(values: NDArray[np.float64], top: int) -> float:
    """Place the maximum of a circular row to a fraction of a pixel, by a parabola."""
    before, at, after = (float(values[(top + d) % len(values)]) for d in (-1, 0, 1))
    bend = before - 2 * at + after
    place = top + (0.5 * (before - after) / bend if bend else 0.0)
    return place - len(values) if place > len(values) / 2 else place
