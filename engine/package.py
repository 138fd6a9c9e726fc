"""BioImage.IO packages: the ONNX model in one, as it was put there."""

import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from refocus.configs import one_line
from refocus.engine.protocol import EngineError

DESCRIPTIONS = ("bioimageio.yaml", "rdf.yaml")
MOST_DESCRIPTION, MOST_MODEL = 1_000_000, 1_000_000_000
"""Bytes of each that are read."""


def model_in_package(path: Path) -> bytes:
    """Read the ONNX model of a package.

    Raises
    ------
    EngineError
        It is no package, has no ONNX model, or is larger than a model would be.
    """
    try:
        with zipfile.ZipFile(path) as package:
            names = package.namelist()
            described = next((name for name in DESCRIPTIONS if name in names), None)
            if described is None:
                raise EngineError(f"{path}: has no {' or '.join(DESCRIPTIONS)}; give a package")
            content = yaml.safe_load(_read(path, package, described, MOST_DESCRIPTION))
            name = _source(content)
            if name not in names:
                raise EngineError(
                    f"{path}: has no ONNX model; make it with 'refocus-export bioimageio'"
                )
            return _read(path, package, name, MOST_MODEL)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, yaml.YAMLError) as error:
        if isinstance(error, EngineError):
            raise
        raise EngineError(
            f"{path}: not a readable package ({one_line(error)}); fetch it again"
        ) from error


def _source(content: Any) -> str:
    """Give the name of the ONNX file that a description states; empty for none."""
    try:
        return str(PurePosixPath(content["weights"]["onnx"]["source"]))
    except (KeyError, TypeError):
        return ""


def _read(path: Path, package: zipfile.ZipFile, name: str, most: int) -> bytes:
    with package.open(name) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise EngineError(f"{path}: {name} is larger than {most / 1e6:g} MB; give another package")
    return data
