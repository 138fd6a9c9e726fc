"""An ONNX model as a BioImage.IO package, which other programs find, check and run.

The package holds the model file as it is, card and checksums included: ``--engine PACKAGE.zip``
judges its results as before. Elsewhere the frame is normalised by ``scale_range``, as
:mod:`refocus.optics.normalise` does it, and the result is in its units.
"""

import shutil
import warnings
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from refocus.configs import ModelCard, RefocusError, reason_of
from refocus.configs.files import replacing
from refocus.engine.model_file import opset, read_model
from refocus.engine.prepare import SMALLEST, STRIDE
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import defocus
from refocus.optics.drawing import contrast, to_8_bit
from refocus.optics.normalise import BRIGHT, DARK
from refocus.optics.specimens import nuclei

FORMAT = "0.5.5"
"""Of the description; ``bioimageio.core`` brings it up to its own."""
SIDE = 256
"""Of the frame that a package is tested with, pixels."""
EPSILON = 1e-6
"""Of ``scale_range``."""


def bioimageio_from_onnx(model: Path, output: Path, authors: list[str]) -> ModelCard:
    """Write a package, once ``bioimageio.core`` has run it and found what we find.

    Parameters
    ----------
    model
        An ONNX model with a card.
    output
        Path of the ``.zip``; one that is there is replaced.
    authors
        Names, for the description.

    Raises
    ------
    RefocusError
        The extra is missing, the model cannot run elsewhere, or the package does not pass.
    """
    proto, card = read_model(model)
    if card.inputs != 1:
        raise RefocusError(
            f"{model}: is shown what filters make of a frame, and nothing but ReFocus live makes "
            "them; give a model that is shown the frame alone, such as refocus-compact.onnx"
        )
    try:
        import onnxruntime  # noqa: F401  what bioimageio.core runs the model with
        from bioimageio.core import test_model
    except ImportError as error:
        raise RefocusError(
            f"{error.name} is not installed; install it: pip install 'refocus-live[bioimageio]'"
        ) from None
    with TemporaryDirectory(prefix="refocus-") as folder:
        part = Path(folder)
        (part / "model.onnx").write_bytes(proto.SerializeToString())
        _write_beside(part, card)
        described = _describe(part, card, opset(proto), authors)
        text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
        (part / "bioimageio.yaml").write_text(text, encoding="utf-8")
        package = part / "package.zip"
        with zipfile.ZipFile(package, "x", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(set(part.iterdir()) - {package}):
                archive.write(file, file.name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the outputs that only our engines read
            summary = test_model(package)
        if summary.status != "passed":
            raise RefocusError(f"{output}: does not pass: {_first_error(summary)}; not written")
        try:
            with replacing(output) as place:
                shutil.copyfile(package, place)
        except OSError as error:
            raise RefocusError(f"{output}: cannot be written ({reason_of(error)})") from error
    return card


def _write_beside(part: Path, card: ModelCard) -> None:
    """Write the frame of the test, what the network makes of it, both as a picture, and a page."""
    frame = _example(card)
    refocused = _reference(part / "model.onnx", frame)
    np.save(part / "frame.npy", frame)
    np.save(part / "refocused.npy", refocused)
    both = [to_8_bit(one[0, 0], *contrast(one[0, 0])) for one in (frame, refocused)]
    Image.fromarray(np.hstack(both)).save(part / "cover.png")
    (part / "README.md").write_text(_page(card), encoding="utf-8")


def _example(card: ModelCard) -> NDArray[np.float32]:
    """Make a frame as the model is for, ``(1, 1, H, W)`` in counts."""
    rng = np.random.default_rng(0)
    near, far = card.defocus_um
    light = nuclei((SIDE, SIDE), rng, pixel_size_um=card.optics.pixel_size_um) * 4000 + 50
    blurred = defocus(light, card.optics, near + (far - near) / 4)
    exposed: NDArray[np.float32] = CameraModel().expose(blurred, rng).astype(np.float32)
    return exposed[None, None]


def _reference(model: Path, frame: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute in f32 what others are to find."""
    import openvino as ov

    low, high = np.percentile(frame, (100 * DARK, 100 * BRIGHT))
    seen = ((frame - low) / (high - low + EPSILON)).astype(np.float32)
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(ov.Core().read_model(model), "CPU", exact)
    refocused: NDArray[np.float32] = compiled([seen])["refocused"]
    return refocused


def _describe(part: Path, card: ModelCard, version: int, authors: list[str]) -> Any:
    """Give the description of a package, of format 0.5, for the files beside it."""

    def file(name: str) -> dict[str, str]:
        return {"source": name, "sha256": sha256((part / name).read_bytes()).hexdigest()}

    scale = {
        "axes": ["channel", "y", "x"],
        "min_percentile": 100 * DARK,
        "max_percentile": 100 * BRIGHT,
        "eps": EPSILON,
    }
    return {
        "format_version": FORMAT,
        "type": "model",
        "name": card.name,
        "version": card.version,
        "description": (
            f"Refocuses fluorescence frames up to {max(map(abs, card.defocus_um)):g} µm from focus"
        ),
        "authors": [{"name": name} for name in authors],
        "license": card.licence,
        "tags": ["refocusing", "fluorescence-light-microscopy", "2d", "image-restoration"],
        "documentation": file("README.md"),
        "covers": [file("cover.png")],
        "inputs": [
            {
                "id": "frame",
                "description": "what the camera gave, in counts",
                "axes": _axes(card, {axis: {"min": SMALLEST, "step": STRIDE} for axis in "yx"}),
                "data": {"type": "float32"},
                "preprocessing": [{"id": "scale_range", "kwargs": scale}],
                "test_tensor": file("frame.npy"),
            }
        ],
        "outputs": [
            {
                "id": "refocused",
                "description": f"0 and 1 are its percentiles {100 * DARK:g} and {100 * BRIGHT:g}",
                "axes": _axes(card, {a: {"tensor_id": "frame", "axis_id": a} for a in "yx"}),
                "data": {"type": "float32"},
                "test_tensor": file("refocused.npy"),
            }
        ],
        "weights": {"onnx": {**file("model.onnx"), "opset_version": version}},
    }


def _axes(card: ModelCard, sizes: Mapping[str, Any]) -> list[dict[str, Any]]:
    size_um = {"unit": "micrometer", "scale": card.optics.pixel_size_um}
    return [
        {"type": "batch"},
        {"type": "channel", "channel_names": ["light"]},
        *({"type": "space", "id": axis, "size": size, **size_um} for axis, size in sizes.items()),
    ]


def _page(card: ModelCard) -> str:
    """Write the page that goes with a package."""
    optics = card.optics
    return f"""# {card.name} {card.version}

Refocuses fluorescence frames of thin specimens, {card.defocus_um[0]:g} to
{card.defocus_um[1]:g} µm from focus, through optics of NA {optics.na:g} with pixels of
{optics.pixel_size_um:g} µm and light of {optics.emission_um:g} µm. Frames of other optics have to
be resampled to that pixel.

Stains and structures that its training showed: {"; ".join(card.stains) or "not stated"}.

Trained on: {card.training_data}.

The frame goes in as the camera gave it; what comes out is scaled by the frame's percentiles. A
result is no evidence that something exists: keep the frame. In ReFocus live the same file gives a
verdict and a distance from focus with each result (`refocus-live run --engine PACKAGE.zip`).

## Validation

The test tensors are a simulated frame of {SIDE} × {SIDE} pixels, and what the network makes of it
in f32.
"""


def _first_error(summary: Any) -> str:
    errors = [(error.loc, error.msg) for detail in summary.details for error in detail.errors]
    if not errors:
        return "the summary names no error"
    place, said = errors[0]
    return " ".join(f"{'.'.join(map(str, place))}: {said}".split())[:400]
