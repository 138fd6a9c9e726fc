"""Paths that files and folders name: none leaves the data set that it is read from."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from refocus.configs import RefocusError


def natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Give a key that sorts names as people count: t1, t2, t10."""
    parts = re.split(r"([0-9]+)", path.stem)
    return [(int(p), "") if p[:1].isdigit() and p.isascii() else (-1, p) for p in parts], path.name


def inside(root: Path, named: str, where: Path) -> Path:
    """Resolve what a file names, relative to its folder.

    Parameters
    ----------
    root
        What it may not leave.
    named
        As it stands in the file.
    where
        The file, for the message.

    Raises
    ------
    RefocusError
        It is absolute, or leads outside of ``root``, by itself or through a link.
    """
    path = root / named
    steps = named.replace("\\", "/").split("/")
    outside = not named or ".." in steps or Path(named).is_absolute()
    if outside or (_is_linked(root, path) and not leads_inside(root, path)):
        raise RefocusError(f"{where}: names {named!r}, which lies outside of {root}; correct it")
    return path


def _is_linked(root: Path, path: Path) -> bool:
    """Tell whether a path below a folder goes over a link; to follow every path takes long."""
    while path not in {root, path.parent}:
        if path.is_symlink():
            return True
        path = path.parent
    return False


def leads_inside(root: Path, path: Path) -> bool:
    """Tell whether a path stays in a folder once its links are followed."""
    real, top = path.resolve(), root.resolve()
    return real == top or top in real.parents


def refuse_links_out(root: Path) -> None:
    """Look through a folder for links that lead out of it, or round in a circle.

    Raises
    ------
    RefocusError
        There is one; the message names it.
    """
    for link in _links(root):
        if not leads_inside(root, link):
            raise RefocusError(
                f"{link}: is a link that leads out of {root}; put a copy in its place"
            )
        folder = link.parent
        if link.resolve() in folder.resolve().parents or link.samefile(folder):
            raise RefocusError(f"{link}: is a link that leads in a circle; remove it")


def _links(root: Path) -> Iterator[Path]:
    """Find the links of a folder, and follow none; a plate may have a million files."""
    folders = [str(root)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    yield Path(entry.path)
                elif entry.is_dir():
                    folders.append(entry.path)
