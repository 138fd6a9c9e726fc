"""Synthetic fields of view, in focus.

Every generator takes ``(shape, rng)`` and gives ``(H, W)`` ``float32`` light, background near 0
and the brightest structures near 1. Sizes, shapes, textures and crowding span what microscopes
see, so that a network trained on them learns to undo blur rather than to draw one kind of cell.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import skimage.data
from numpy.typing import NDArray
from scipy import ndimage
from skimage.transform import resize

Field = NDArray[np.float32]
Shape = tuple[int, int]

PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "coins", "gravel", "rocket")
"""Of ``skimage.data``, those that come with the package; the others are left for judging."""

BRIGHTEST = 20.0
"""Of any pixel, where 1 is the brightness that one pixel in a thousand exceeds."""


def texture(shape: Shape, rng: np.random.Generator, scale: float) -> Field:
    """Gaussian noise with structure of ``scale`` pixels, mean 0, standard deviation 1."""
    noise = ndimage.gaussian_filter(
        rng.standard_normal(shape, dtype=np.float32), scale, mode="wrap", truncate=3
    )
    return np.asarray((noise - noise.mean()) / (noise.std() + 1e-12), dtype=np.float32)


def nuclei(
    shape: Shape,
    rng: np.random.Generator,
    pixel_size_um: float = 0.656,
    count: int | None = None,
    radius_um: tuple[float, float] = (3.5, 14.0),
) -> Field:
    """Draw nuclei: uneven ellipses with chromatin and nucleoli, some dividing, some touching.

    Parameters
    ----------
    shape, rng
        Size of the field in pixels, and the source of randomness.
    pixel_size_um
        Sampling, µm per pixel.
    count
        How many; drawn from sparse to crowded if None.
    radius_um
        Smallest and largest mean radius of the field's nuclei, µm.
    """
    typical = np.exp(rng.uniform(*np.log(radius_um))) / pixel_size_um
    if count is None:
        crowding = rng.choice([0.03, 0.1, 0.25, 0.45, 0.7])
        count = max(1, int(crowding * shape[0] * shape[1] / (np.pi * typical**2)))
    field = np.zeros(shape, np.float32)
    clustered = rng.random() < 0.5
    seeds = rng.uniform(0, 1, (max(1, count // 6), 2)) * shape
    for _ in range(min(count, 4000)):
        if clustered:
            y, x = seeds[rng.integers(len(seeds))] + rng.normal(0, 2.2 * typical, 2)
        else:
            y, x = rng.uniform(-typical, np.add(shape, typical))
        _add_nucleus(field, rng, y, x, typical * np.exp(rng.normal(0, 0.18)))
    return np.asarray(field / max(1.0, float(np.percentile(field, 99.95))), dtype=np.float32)


def _add_nucleus(field: Field, rng: np.random.Generator, y: float, x: float, radius: float) -> None:
    """Add one nucleus of mean ``radius`` pixels at (y, x); overlapping light adds, damped."""
    reach = int(np.ceil(radius * 1.9)) + 2
    top, left = int(y) - reach, int(x) - reach
    rows = slice(max(top, 0), min(top + 2 * reach + 1, field.shape[0]))
    cols = slice(max(left, 0), min(left + 2 * reach + 1, field.shape[1]))
    if rows.start >= rows.stop or cols.start >= cols.stop:
        return
    yy, xx = np.mgrid[rows, cols].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    along = (yy - y) * np.cos(angle) + (xx - x) * np.sin(angle)
    across = (xx - x) * np.cos(angle) - (yy - y) * np.sin(angle)
    stretch = np.exp(abs(rng.normal(0, 0.22)))
    brightness = float(np.exp(rng.normal(-0.7, 0.35)))
    kind = rng.random()
    if kind < 0.04:  # metaphase plate or a condensed, rounded cell: small and bright
        stretch, radius, brightness = rng.uniform(1.2, 2.6), radius * 0.55, brightness * 2.0
    theta = np.arctan2(across * stretch, along / stretch)
    outline = np.ones_like(theta)
    for order in (2, 3, 4, 5):
        outline += rng.normal(0, 0.05 / order) * 2 * np.cos(order * theta + rng.uniform(0, 6.3))
    if kind > 0.97:  # lobed
        outline += 0.25 * np.cos(rng.integers(2, 4) * theta + rng.uniform(0, 6.3))
    distance = np.hypot(along / stretch, across * stretch) / np.maximum(outline, 0.3)
    edge = rng.uniform(0.6, 1.6)
    body = 1.0 / (1.0 + np.exp(np.clip((distance - radius) / edge, -30, 30)))
    # a nucleus is a flat lens: thicker, so brighter, in the middle, more or less so
    dome = 1.0 - rng.uniform(0.0, 0.55) * np.clip(distance / radius, 0, 1) ** 2
    pattern = 1.0 + rng.uniform(0.03, 0.25) * texture(
        body.shape, rng, rng.uniform(0.8, max(1.0, radius / 5))
    )
    for _ in range(rng.integers(0, 5)):
        spot = rng.normal(0, radius * 0.45, 2)
        size = radius * rng.uniform(0.1, 0.28)
        depth = rng.uniform(-0.6, 0.5)
        pattern += depth * np.exp(
            -((yy - y - spot[0]) ** 2 + (xx - x - spot[1]) ** 2) / (2 * size**2)
        )
    light = brightness * body * dome * np.clip(pattern, 0.1, None)
    patch = field[rows, cols]
    np.maximum(patch, light + 0.35 * np.minimum(patch, light), out=patch)


def filaments(shape: Shape, rng: np.random.Generator) -> Field:
    """Draw a mesh of curved fibres, as actin or microtubules."""
    field = np.zeros(shape, np.float32)
    heading_field = texture(shape, rng, rng.uniform(15, 60)) * rng.uniform(0.3, 1.5)
    aligned = rng.uniform(0, np.pi)
    spread = rng.choice([0.15, 0.6, 3.0])
    for _ in range(int(rng.integers(20, 140) * shape[0] * shape[1] / 256**2)):
        steps = int(rng.uniform(40, 400))
        y, x = rng.uniform(0, 1, 2) * shape
        heading = aligned + rng.normal(0, spread)
        turn = np.cumsum(rng.normal(0, 0.02, steps))
        bend = float(heading_field[int(y) % shape[0], int(x) % shape[1]])
        angles = heading + turn + bend * np.linspace(0, 1, steps)
        rows = np.rint(y + np.cumsum(np.sin(angles)) * 0.7).astype(int)
        cols = np.rint(x + np.cumsum(np.cos(angles)) * 0.7).astype(int)
        inside = (rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])
        np.maximum.at(field, (rows[inside], cols[inside]), np.float32(np.exp(rng.normal(0, 0.5))))
    field = ndimage.gaussian_filter(field, rng.uniform(0.5, 1.4))
    cell = 1.0 / (1.0 + np.exp(-3 * (texture(shape, rng, rng.uniform(20, 70)) + 0.3)))
    haze = rng.uniform(0, 0.25) * cell * float(field.max())
    return _unit(field * cell**0.5 + haze)


def membranes(shape: Shape, rng: np.random.Generator) -> Field:
    """Draw the outlines of packed cells, with dimmer bodies."""
    spacing = rng.uniform(14, 60)
    count = max(4, int(shape[0] * shape[1] / spacing**2))
    centres = rng.uniform(-0.1, 1.1, (count, 2)) * shape
    seeds = np.ones(shape, bool)
    inside = np.clip(centres.astype(int), 0, np.subtract(shape, 1))
    seeds[inside[:, 0], inside[:, 1]] = False
    nearest = ndimage.distance_transform_edt(seeds, return_distances=False, return_indices=True)
    label = nearest[0] * shape[1] + nearest[1]
    wobble = [texture(shape, rng, spacing / 4) * spacing * 0.08 for _ in range(2)]
    coordinates = np.mgrid[: shape[0], : shape[1]] + np.stack(wobble)
    label = ndimage.map_coordinates(label, coordinates, order=0, mode="nearest")
    edges = (label != np.roll(label, 1, 0)) | (label != np.roll(label, 1, 1))
    outline = ndimage.gaussian_filter(edges.astype(np.float32), rng.uniform(0.6, 1.8))
    bodies = rng.uniform(0, 1, label.max() + 1).astype(np.float32)[label] * rng.uniform(0, 0.3)
    uneven = 1 + 0.4 * texture(shape, rng, spacing / 2)
    return _unit(outline / (outline.max() + 1e-6) * np.clip(uneven, 0.1, None) + bodies)


def beads(shape: Shape, rng: np.random.Generator) -> Field:
    """Draw points and small discs of very different brightness, as beads, spots or vesicles."""
    field = np.zeros(shape, np.float32)
    count = int(np.exp(rng.uniform(np.log(5), np.log(600))) * shape[0] * shape[1] / 256**2) + 1
    rows, cols = rng.integers(0, shape[0], count), rng.integers(0, shape[1], count)
    np.add.at(field, (rows, cols), np.exp(rng.normal(0, 0.7, count)).astype(np.float32))
    size = np.exp(rng.uniform(np.log(0.6), np.log(5.0)))
    if rng.random() < 0.5:
        return _unit(ndimage.gaussian_filter(field, size))
    reach = int(np.ceil(size)) + 1
    yy, xx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.clip(size + 0.5 - np.hypot(yy, xx), 0, 1).astype(np.float32)
    return _unit(ndimage.convolve(field, disc, mode="constant"))


def tissue(shape: Shape, rng: np.random.Generator) -> Field:
    """Draw texture with structure at every scale, thresholded here and there, as tissue has."""
    field = np.zeros(shape, np.float32)
    slope = rng.uniform(0.3, 1.2)
    for octave in range(6):
        scale = 0.8 * 2**octave
        field += scale**slope * texture(shape, rng, scale) / 10
    if rng.random() < 0.5:
        field = np.abs(field)
    if rng.random() < 0.5:
        level = np.percentile(field, rng.uniform(20, 80))
        width = field.std() * rng.uniform(0.05, 0.4)
        field = field * 0.3 + field.std() / (1 + np.exp(np.clip(-(field - level) / width, -30, 30)))
    low, high = np.percentile(field, (1, 99.9))
    return _unit(np.clip(field - low, 0, high - low))


def photographs(shape: Shape, rng: np.random.Generator) -> Field:
    """Cut a window from a photograph that ships with scikit-image: texture of every other kind."""
    image = _photograph(PHOTOGRAPHS[int(rng.integers(len(PHOTOGRAPHS)))])
    side = int(min(*image.shape, max(shape) * rng.uniform(1.0, 2.0)))
    top, left = (int(rng.integers(0, n - side + 1)) for n in image.shape)
    window = image[top : top + side, left : left + side]
    field = resize(window, shape, order=1, mode="reflect", anti_aliasing=True)
    if rng.random() < 0.5:
        field = field.max() - field
    field = np.clip(field - np.percentile(field, 1), 0, None)
    return _unit(field ** rng.uniform(1.0, 2.0))


@lru_cache
def _photograph(name: str) -> Field:
    image = np.asarray(getattr(skimage.data, name)(), dtype=np.float32)
    return image.mean(axis=2) if image.ndim == 3 else image


def empty(shape: Shape, rng: np.random.Generator) -> Field:
    """Draw a field without a specimen: an uneven background at most."""
    return np.asarray(
        0.02 * rng.random() * (1 + 0.3 * texture(shape, rng, shape[0] / 6)), dtype=np.float32
    )


GENERATORS: dict[str, Callable[[Shape, np.random.Generator], Field]] = {
    "nuclei": nuclei,
    "filaments": filaments,
    "membranes": membranes,
    "beads": beads,
    "tissue": tissue,
    "photographs": photographs,
    "empty": empty,
}
"""Every kind of specimen by its name."""


def _unit(field: Field) -> Field:
    # a few dots on nothing have a percentile of nothing
    top = max(float(np.percentile(field, 99.9)), float(field.max()) / BRIGHTEST)
    return np.asarray(field / (top + 1e-6), dtype=np.float32)
