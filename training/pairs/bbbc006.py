"""BBBC006v1: fetching it, indexing it, and the published splits.

Image set BBBC006v1 (Ljosa, Sokolnicki & Carpenter, Nature Methods 9:637, 2012) from the Broad
Bioimage Benchmark Collection: U2OS cells, 384 wells, two sites, two channels, 34 planes 2 µm apart,
the sharpest being number 16. Each plane is an archive of its own.
"""

import hashlib
import json
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pooch
import requests

from refocus.configs import RefocusError, reason_of
from refocus.configs.files import replacing
from refocus.configs.training import BBBC006Config
from refocus.training.pairs.measured import MeasuredField, read_pair
from refocus.training.pairs.wells import fold_of

SITE = "https://data.broadinstitute.org/bbbc/BBBC006/"
PLANES = range(34)
STEP_UM = 2.0
IN_FOCUS = 16
CHECKSUMS = "checksums.json"
NAME = re.compile(r"mcf-z-stacks-03212011_([a-p]\d\d)_s(\d)_w(\d)[0-9a-f-]*\.tif", re.IGNORECASE)
CHUNK = 1 << 16

Progress = Callable[[str, int, int], None]
"""Called with an archive's name, the bytes it has and the bytes it will have (0: not known)."""


@dataclass(frozen=True, order=True)
class PlaneImage:
    """One file: a well such as ``a01``, site 1 or 2, channel 1 or 2, and its plane."""

    well: str
    site: int
    channel: int
    z: int
    path: Path


def plane_folder(z: int) -> str:
    """Name the folder of a plane."""
    return f"BBBC006_v1_images_z_{z:02d}"


def fetch(
    folder: Path, planes: Iterable[int], site: str = SITE, progress: Progress | None = None
) -> list[Path]:
    """Download and unpack planes; what is already there is left alone.

    A download that was cut goes on where it stopped. The checksum of each archive is written to
    ``checksums.json`` when it is first seen, and every later download must match it.

    Parameters
    ----------
    folder
        Where the planes go, a folder each.
    planes
        Numbers from 0 to 33.
    site
        Where the archives are.
    progress
        Told of every piece that arrives.

    Returns
    -------
    list of Path
        The planes' folders.

    Raises
    ------
    RefocusError
        There is no such plane, the site cannot be reached, or an archive is damaged; nothing is
        left half-unpacked.
    """
    numbers = sorted(set(planes))
    if wrong := [z for z in numbers if z not in PLANES]:
        raise RefocusError(f"--z {wrong[0]}: BBBC006 has planes 0 to 33")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_fetch_plane(folder, z, site, progress) for z in numbers]
    except OSError as error:
        raise RefocusError(f"{error.filename or folder}: {reason_of(error)}") from error


def index(folder: Path) -> list[PlaneImage]:
    """List every image of the planes that a folder holds.

    Raises
    ------
    RefocusError
        It holds none.
    """
    found = []
    for inside in sorted(folder.glob("BBBC006_v1_images_z_[0-9][0-9]")):
        z = int(inside.name[-2:])
        for path in sorted(inside.iterdir()):
            if matched := NAME.fullmatch(path.name):
                well, site, channel = matched.groups()
                found.append(PlaneImage(well.lower(), int(site), int(channel), z, path))
    if not found:
        raise RefocusError(
            f"{folder}: holds no BBBC006 images; run "
            f"'refocus-train fetch bbbc006 --output {folder}'"
        )
    return sorted(found)


def training_fields(config: BBBC006Config) -> list[MeasuredField]:
    """Pair the planes out of focus with the one in focus, for every well that is trained on.

    Raises
    ------
    RefocusError
        A plane is missing, or a field has no partner in focus.
    """
    images = index(config.folder)
    there = {image.z for image in images}
    for z in (*config.planes, config.target):
        if z not in there:
            raise RefocusError(
                f"{config.folder / plane_folder(z)}: missing; run "
                f"'refocus-train fetch bbbc006 --z {z} --output {config.folder}'"
            )
    fold = fold_of([i.well for i in images], config.folds)
    focused = {(i.well, i.site, i.channel): i.path for i in images if i.z == config.target}
    fields = []
    for i in images:
        if i.z not in config.planes or i.channel not in config.channels:
            continue
        if fold[i.well] == config.held_out:
            continue
        partner = focused.get((i.well, i.site, i.channel))
        if partner is None:
            raise RefocusError(f"{i.path}: has no partner in {plane_folder(config.target)}")
        distance = abs(i.z - config.target) * STEP_UM
        fields.append(MeasuredField(str(i.path), partial(read_pair, i.path, partner), distance))
    if not fields:
        raise RefocusError(f"{config.folder}: no well is left for this side of the split")
    return fields


def _fetch_plane(folder: Path, z: int, site: str, progress: Progress | None) -> Path:
    name = plane_folder(z)
    target, archive = folder / name, f"{name}.zip"
    if target.is_dir():
        return target
    known = _read_checksums(folder)
    try:
        file = Path(
            pooch.retrieve(
                site.rstrip("/") + "/" + archive,
                known_hash=known.get(archive),
                fname=archive,
                path=folder,
                downloader=_Resuming(folder / f"{archive}.part", progress),
            )
        )
    except requests.RequestException as error:
        raise RefocusError(
            f"{site}{archive}: cannot be fetched ({_reason(error)}); run the command again to go on"
        ) from error
    except ValueError as error:  # pooch: another checksum
        raise RefocusError(
            f"{archive}: is not what {folder / CHECKSUMS} recorded; if the site has published it "
            "anew, remove its line there"
        ) from error
    _unpack(file, target)
    _write_checksums(folder, {**known, archive: _sha256(file)})
    file.unlink()
    return target


class _Resuming:
    """A pooch downloader that keeps what it has when the connection breaks."""

    def __init__(self, part: Path, progress: Progress | None) -> None:
        self._part, self._progress = part, progress

    def __call__(self, url: str, output_file: Any, _: Any) -> None:
        have = self._part.stat().st_size if self._part.is_file() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with requests.get(url, headers=headers, stream=True, timeout=60) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                have_all = answer.headers.get("Content-Range", "") == f"bytes */{have}"
                if not have_all:
                    self._part.unlink()
                    raise requests.ConnectionError("the partial download does not fit")
            else:
                answer.raise_for_status()
                if answer.status_code != requests.codes.partial_content:
                    have = 0  # the server sends it from the beginning
                self._receive(answer, have)
        os.replace(self._part, output_file)

    def _receive(self, answer: requests.Response, have: int) -> None:
        length = int(answer.headers.get("Content-Length", 0))
        total = have + length if length else 0
        with self._part.open("ab" if have else "wb") as opened:
            for piece in answer.iter_content(CHUNK):
                opened.write(piece)
                have += len(piece)
                if self._progress:
                    self._progress(self._part.stem, have, total)
        if total and have != total:
            raise requests.ConnectionError(f"the connection broke after {have} of {total} bytes")


def _unpack(archive: Path, target: Path) -> None:
    """Unpack one plane; its folder appears once it is whole."""
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                name = Path(entry.filename).name  # flat, whatever the archive says
                if NAME.fullmatch(name):
                    with opened.open(entry) as source, (part / name).open("wb") as out:
                        shutil.copyfileobj(source, out)
        if not any(part.iterdir()):
            raise zipfile.BadZipFile("holds no BBBC006 image")
        os.replace(part, target)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        archive.unlink()
        raise RefocusError(
            f"{archive}: truncated or damaged ({error}); it was removed: run the command again"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return "sha256:" + hashlib.file_digest(opened, "sha256").hexdigest()


def _read_checksums(folder: Path) -> dict[str, str]:
    file = folder / CHECKSUMS
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise RefocusError(f"{file}: not JSON ({error}); mend or remove it") from error


def _write_checksums(folder: Path, checksums: dict[str, str]) -> None:
    with replacing(folder / CHECKSUMS) as part:
        part.write_text(json.dumps(checksums, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    return type(error).__name__ if len(str(error)) > 120 else str(error)
