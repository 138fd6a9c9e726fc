"""What the groups of an OME-Zarr say, told where all its metadata are in one place, too."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refocus.optics.ome_zarr import read_document

NEW, OLD = {"zarr_format": 3, "node_type": "group"}, {"zarr_format": 2}
"""What a group says that is made, in either version of the format."""


def attributes_of(group: Path) -> dict[str, Any]:
    """Give the attributes of a group; nothing where it is not there."""
    if (group / "zarr.json").exists():
        return read_document(group / "zarr.json").get("attributes") or {}
    return read_document(group / ".zattrs") if (group / ".zattrs").exists() else {}


def add_attributes(root: Path, said: Mapping[Path, Mapping[str, Any]]) -> None:
    """Add to what groups say; those that are not there are made.

    Parameters
    ----------
    root
        The OME-Zarr.
    said
        By the folder of each group.
    """
    written: dict[str, Any] = {}
    for group, more in said.items():
        documents = _documents(group, {**attributes_of(group), **more}, root)
        for name, part in documents.items():
            _write(group / name, part)
            written[(group / name).relative_to(root).as_posix()] = part
        _write_in_one_place(group, documents)  # a group may have one of its own
    _write_in_one_place(root, written)


def _write_in_one_place(group: Path, written: dict[str, Any]) -> None:
    """Write what lies within a group where it has all metadata in one place, too."""
    path = group / "zarr.json"
    if path.exists():
        document = read_document(path)
        listed = document.get("consolidated_metadata")
        written = {
            name.removesuffix("/zarr.json"): part
            for name, part in written.items()
            if name != path.name
        }
    else:
        path = group / ".zmetadata"
        document = listed = read_document(path) if path.exists() else {}
    if listed and written:
        listed["metadata"] = {**(listed.get("metadata") or {}), **written}
        _write(path, document)


def _documents(group: Path, attributes: dict[str, Any], root: Path) -> dict[str, Any]:
    """Give the files of a group that says so, by their names."""
    path = group / "zarr.json"
    if path.exists() or (root / "zarr.json").exists():
        document = read_document(path) if path.exists() else NEW
        return {path.name: {**document, "attributes": attributes}}
    there = any((group / name).exists() for name in (".zgroup", ".zattrs"))
    return {".zattrs": attributes} if there else {".zgroup": OLD, ".zattrs": attributes}


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")
