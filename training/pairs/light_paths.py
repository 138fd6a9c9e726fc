"""Light paths for training, over every objective: drawn, computed by all cores, and kept on disk.

Everything is in units of the pixel and the wavelength (:class:`refocus.optics.transfer.Blur`).
"""

import hashlib
import json
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refocus.configs.files import replacing
from refocus.configs.light_path import Blur
from refocus.configs.training import ObjectivesConfig
from refocus.optics.transfer import sampled, transfer

WINDOW = 288
"""Side of the periodic field that light paths are computed for, pixels."""
GUESSES = 8
"""Mistaken light paths that stand beside each true one, what an estimate may be."""
VERSION = 2
NOT_DRAWN = {"cache", "exact_fraction", "near_fraction", "worst"}
"""Settings that the light paths do not depend on."""
COLUMNS = 4
"""Of a light path: what it is, without how likely."""


class LightPaths(NamedTuple):
    """Light paths and their transfer functions.

    Attributes
    ----------
    blurs
        ``(N, 4)`` ``float32``, the columns of :class:`Blur` but its chance.
    out_of_focus, in_focus
        ``(N, 288, 145)`` ``float16``, from the specimen to sampled pixels.
    tables
        ``(N, 2 + GUESSES, STEPS)`` ``float16``: in focus; out of focus; then the guesses.
    guesses
        ``(N, 1 + GUESSES, 4)`` ``float32``, what the tables from the second on are of.
    """

    blurs: NDArray[np.float32]
    out_of_focus: NDArray[np.float16]
    in_focus: NDArray[np.float16]
    tables: NDArray[np.float16]
    guesses: NDArray[np.float32]


def draw_blur(rng: np.random.Generator, config: ObjectivesConfig) -> Blur:
    """Draw a light path; one in four is of the instrument that the measured pairs come from."""
    if rng.random() < config.instrument_fraction:
        instrument = config.instrument
        sampling = instrument.sampling * np.exp(rng.normal(0, 0.08))
        aperture = instrument.aperture * np.exp(rng.normal(0, 0.06))
        spherical = instrument.spherical + rng.normal(0, 0.12)
    else:
        sampling = np.exp(rng.uniform(*np.log(config.sampling)))
        # as many of wide cones, which are few on a logarithm
        wide_cone = rng.random() < 0.5
        low, high = config.aperture
        aperture = rng.uniform(low, high) if wide_cone else low * (high / low) ** rng.random()
        wide = rng.random() < 0.5
        spherical = rng.uniform(-1, 1) if wide else rng.normal(0, 0.12)
    kind = rng.random()
    if kind < 0.15:
        radius = rng.uniform(0.2, 2.5)
    elif kind < 0.65:
        radius = np.exp(rng.uniform(np.log(2.0), np.log(18.0)))
    else:
        radius = rng.uniform(5.0, config.radius_px)
    radius *= rng.choice([-1.0, 1.0])
    return Blur(*(float(v) for v in (sampling, aperture, radius, np.clip(spherical, -1.2, 1.2))))


def mistaken(rng: np.random.Generator, blur: Blur, number: int) -> Blur:
    """Draw what an estimate may take a light path for: near the truth, further off, or far off."""
    off = (0.03, 0.06, 0.06, 0.12, 0.12, 0.25)
    if number < len(off):
        radius = blur.radius * np.exp(rng.normal(0, off[number])) + rng.normal(0, 0.2)
        spherical = blur.spherical + rng.normal(0, 1.2 * off[number] + 0.02)
        sampling = blur.sampling * np.exp(rng.normal(0, off[number] / 3))
        return Blur(float(sampling), blur.aperture, float(radius), float(spherical))
    if number == len(off):  # the other side of focus
        return blur._replace(radius=-blur.radius * float(np.exp(rng.normal(0, 0.08))))
    radius = float(np.exp(rng.uniform(0, np.log(40.0)))) * float(np.sign(blur.radius))
    return blur._replace(radius=radius, spherical=float(rng.uniform(-1, 1)))


def draw_light_paths(config: ObjectivesConfig, seed: int) -> LightPaths:
    """Draw the light paths of a run, or read them where they were drawn before.

    Parameters
    ----------
    config
        How many, and of what.
    seed
        Decides every one.

    Returns
    -------
    LightPaths
        The same for the same configuration and seed, whatever the number of cores.
    """
    kept = None
    if config.cache is not None:
        said = json.dumps([VERSION, seed, config.model_dump(mode="json", exclude=NOT_DRAWN)])
        digest = hashlib.sha256(said.encode()).hexdigest()[:16]
        kept = Path(config.cache) / f"light_paths_{digest}.npz"
        if kept.is_file():
            with np.load(kept, allow_pickle=False) as stored:
                return LightPaths(*(stored[name] for name in LightPaths._fields))
    jobs = [(seed, number, config) for number in range(config.light_paths)]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        parts = list(pool.map(_one, jobs, chunksize=16))
    paths = LightPaths(*(np.stack(column) for column in zip(*parts, strict=True)))
    if kept is not None:
        with replacing(kept, shared=True) as part, part.open("wb") as file:
            np.savez(file, **paths._asdict())
    return paths


def _one(job: tuple[int, int, ObjectivesConfig]) -> tuple[NDArray[np.generic], ...]:
    """Compute light path ``number``."""
    seed, number, config = job
    rng = np.random.default_rng([seed, 2, number])
    blur = draw_blur(rng, config)
    band = float(rng.uniform(0.0, 0.06))
    guesses = [blur, *(mistaken(rng, blur, i) for i in range(GUESSES))]
    tables = [transfer(blur._replace(radius=0.0)), *(transfer(guess) for guess in guesses)]
    shape = WINDOW, WINDOW
    return (
        np.array(blur[:COLUMNS], np.float32),
        sampled(blur, shape, band).astype(np.float16),
        sampled(blur._replace(radius=0.0), shape, band).astype(np.float16),
        np.stack(tables).astype(np.float16),
        np.array([guess[:COLUMNS] for guess in guesses], np.float32),
    )
