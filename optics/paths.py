"""Paths that files and folders name: none leaves the data set that it is read from."""

import os
import re
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
    if not named or ".." in steps or Path(named).is_absolute() or not leads_inside(root, path):
        raise RefocusError(f"{where}: names {named!r}, which lies outside of {root}; correct it")
    return path


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
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            link = Path(folder, name)
            if not link.is_symlink():
                continue
            if not leads_inside(root, link):
                raise RefocusError(
                    f"{link}: is a link that leads out of {root}; put a copy in its place"
                )
            if link.resolve() in Path(folder).resolve().parents or link.samefile(folder):
                raise RefocusError(f"{link}: is a link that leads in a circle; remove it")
