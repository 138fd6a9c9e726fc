"""What a model is judged on: frames out of focus with their in-focus partners, plane by plane."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refocus.configs import ModelCard, Optics, RefocusError
from refocus.configs.training import BBBC006Config, MeasuredConfig, TrainConfig
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import convolve, defocus
from refocus.optics.images import list_images
from refocus.optics.psf import psf
from refocus.optics.specimens import nuclei
from refocus.training.pairs import bbbc006, stacks
from refocus.training.pairs.bbbc006 import IN_FOCUS, NAME, STEP_UM
from refocus.training.pairs.measured import read_pair
from refocus.training.pairs.split import log
from refocus.training.pairs.wells import fold_of, well

SIMULATED_UM = (-8.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0)
FIELDS, SIDE = 4, 256


@dataclass(frozen=True)
class Sample:
    """One frame to refocus.

    Attributes
    ----------
    name, plane, channel
        What it is called, and the groups it is counted in.
    read
        Gives the frame and its in-focus partner, ``(H, W)``.
    distance_um
        Distance from focus, µm; None where it is not known.
    optics
        The true light path, where it is known: of simulated frames.
    alike
        Gives other fields of the kind, in focus; only beside ``optics``.
    """

    name: str
    plane: str
    channel: str
    read: Callable[[], tuple[NDArray[Any], NDArray[Any]]]
    distance_um: float | None = None
    optics: Optics | None = None
    alike: Callable[[], list[NDArray[Any]]] | None = None


def folder_samples(
    frames: Path,
    reference: Path,
    folder_per_plane: bool = False,
    split: TrainConfig | None = None,
    distance_um: float | None = None,
) -> list[Sample]:
    """Pair the frames of a folder with those of another.

    Parameters
    ----------
    frames
        Holds images, or with ``folder_per_plane`` a folder of images for each plane.
    reference
        Holds the in-focus partners: the same names, or the same well, site and channel in the
        names of BBBC006.
    folder_per_plane
        See ``frames``.
    split
        A training run: only the wells that it held out are taken. They are dealt as it noted, or
        of its own folder; where that is not there, of ``frames``, and the log says so.
    distance_um
        Distance of the frames from focus, where it is known.

    Raises
    ------
    RefocusError
        A folder is missing or empty, or a frame has no partner.
    """
    partners = {_key(p): p for p in list_images(reference)}
    folders = [frames]
    if folder_per_plane:
        inside = [p for p in frames.iterdir() if p.is_dir()] if frames.is_dir() else []
        folders = sorted(p for p in inside if p.resolve() != reference.resolve())
        if not folders:
            raise RefocusError(f"{frames}: holds no folder of frames; leave --folder-per-plane out")
    samples = []
    for folder in folders:
        for file in list_images(folder):
            partner = partners.get(_key(file))
            if partner is None:
                raise RefocusError(f"{file}: has no partner in focus in {reference}")
            plane, distance = _plane(folder) if folder_per_plane else (folder.name, None)
            read = partial(read_pair, file, partner)
            known = distance if distance_um is None else distance_um
            samples.append(Sample(file.name, plane, _channel(file), read, known))
    return _held_out(samples, split, frames) if split else samples


def simulated_samples(card: ModelCard, seed: int = 0) -> list[Sample]:
    """Simulate fields of nuclei that no training run has seen, at distances the model is for.

    Parameters
    ----------
    card
        Its optics are simulated, within its range.
    seed
        Draws the fields.
    """
    near, far = card.defocus_um
    distances = [d for d in SIMULATED_UM if near <= abs(d) <= far] or [far or 8.0]

    def field(distance_um: float, number: int) -> Sample:
        read = partial(_simulate, card, distance_um, number, seed)
        name, plane = f"field {number}", f"{distance_um:+g} µm"
        return Sample(name, plane, "nuclei", read, distance_um, card.optics, alike)

    @cache
    def alike() -> list[NDArray[Any]]:
        return [_simulate(card, 0.0, number, seed + 1)[1] for number in range(2 * FIELDS)]

    return [field(d, i) for d in distances for i in range(FIELDS)]


def stack_samples(run: TrainConfig) -> list[Sample]:
    """Pair the planes of the z-stacks that a run held out with the one in focus.

    Raises
    ------
    RefocusError
        It held none out, or one of them cannot be used.
    """
    samples = []
    for config in run.stacks:
        for file in stacks.held_out_files(config):
            for stack in stacks.read_stacks(file):
                which = stack.name.replace(str(file), file.name)
                samples += [
                    Sample(f"{which}, plane {number}", f"{um:+g} µm", "all", pair, um)
                    for number, um, pair in stacks.planes_of(stack, config)
                ]
    if not samples:
        folders = ", ".join(str(config.folder) for config in run.stacks)
        raise RefocusError(
            f"{run.name}: every stack of {folders} was trained on, so none is left to judge on; "
            "set 'held_out: 0' and train again, or give --frames and --reference"
        )
    return samples


def planes(samples: list[Sample]) -> Iterator[tuple[str, str, list[Sample]]]:
    """Group samples by plane and channel, in the order they come."""
    for plane, channel in dict.fromkeys((s.plane, s.channel) for s in samples):
        yield plane, channel, [s for s in samples if (s.plane, s.channel) == (plane, channel)]


def _simulate(
    card: ModelCard, distance_um: float, number: int, seed: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng([seed, 7, number])
    size_um = (0.35 + 0.1 * (number % FIELDS)) * 13.0  # from small to large nuclei
    count = round(0.3 * (SIDE * 0.656) ** 2 / (np.pi * size_um**2))  # a third of it covered
    specimen = nuclei((SIDE, SIDE), rng, 0.656, count, (size_um, size_um * 1.3))
    camera = CameraModel()
    noise = np.random.default_rng([seed, 8, number, 1000 + round(10 * distance_um)])
    light = np.clip(specimen, 0, None) * 3000.0 + 100.0
    captured = camera.expose(defocus(light, card.optics, distance_um), noise)
    seen = convolve(light, psf(card.optics, 0.0)) if card.seen_in_focus else light
    return captured, camera.digitise(seen)


def _key(path: Path) -> str:
    matched = NAME.fullmatch(path.name)
    return "_".join(matched.groups()).lower() if matched else path.stem


def _channel(path: Path) -> str:
    matched = NAME.fullmatch(path.name)
    return f"w{matched.group(3)}" if matched else "all"


def _plane(folder: Path) -> tuple[str, float | None]:
    """Name the plane of a folder, and its distance if it is one of BBBC006."""
    if folder.name.startswith("BBBC006_v1_images_z_") and folder.name[-2:].isdigit():
        z = int(folder.name[-2:])
        return f"z{z:02d}", (z - IN_FOCUS) * STEP_UM
    return folder.name, None


def _held_out(samples: list[Sample], split: TrainConfig, frames: Path) -> list[Sample]:
    """Take the frames of the wells that a run held out, of all the wells that it had."""
    source = split.bbbc006 or next(iter(split.measured), None)
    if source is None or source.held_out is None:
        raise RefocusError(f"--split {split.name}: this run held no wells out")
    folder = source.folder if isinstance(source, BBBC006Config) else source.out_of_focus

    def name(path: Path) -> str:
        matched = NAME.fullmatch(path.name)
        return matched.group(1).lower() if matched else well(path)

    of_frames = [name(Path(s.name)) for s in samples]
    if isinstance(source, MeasuredConfig) and source.dealt:
        held = {name(Path(file)) for file in source.dealt.held_out}
    else:
        wells = of_frames
        if not folder.is_dir():
            log.warning(
                "%s, of which %s held wells out, is not there: the wells of %s are dealt instead, "
                "which is right only if they are all that the run had",
                *(folder, split.name, frames),
            )
        elif isinstance(source, BBBC006Config):
            wells = [image.well for image in bbbc006.index(folder)]
        else:
            wells = [name(file) for file in list_images(folder)]
        held = {w for w, fold in fold_of(wells, source.folds).items() if fold == source.held_out}
    return [s for s, w in zip(samples, of_frames, strict=True) if w in held]
