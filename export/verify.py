"""Comparing two forms of a model: checkpoint, ONNX in FP32 or FP16, TensorRT engine.

Each form runs as an engine does, raw counts in and out; the FP16 graph is computed in FP16, which
OpenVINO on a CPU would not do.
"""

from pathlib import Path

from refocus.configs import RefocusError
from refocus.engine.half_precision import precision
from refocus.engine.model_file import read_model
from refocus.engine.parity import Difference, compare, passed
from refocus.engine.protocol import Engine
from refocus.training.network.checkpoint_engine import CheckpointEngine

PLANS = (".plan", ".engine")


def open_form(path: Path) -> Engine:
    """Open a model in whichever form it is.

    Raises
    ------
    RefocusError
        There is no such file, it is none of the forms, or it cannot run here.
    """
    if not path.is_file():
        raise RefocusError(
            f"{path}: no such file; give a checkpoint (.safetensors), a model (.onnx), "
            "or an engine (.plan)"
        )
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return CheckpointEngine(path)
    if suffix == ".onnx":
        model, _ = read_model(path)
        if precision(model) == "fp16":
            from refocus.engine.torch.engine import TorchEngine

            return TorchEngine(path, "cpu")
        from refocus.engine.openvino import OpenVinoEngine

        return OpenVinoEngine(path, precision="f32")
    if suffix in PLANS:
        from refocus.engine.tensorrt.engine import TensorRtEngine

        return TensorRtEngine.from_plan(path)
    raise RefocusError(
        f"{path}: not a form of a model; give a checkpoint (.safetensors), a model (.onnx), "
        "or an engine (.plan)"
    )


def verify(reference: Path, candidate: Path) -> list[Difference]:
    """Run two forms of a model over the adversarial frames.

    Raises
    ------
    RefocusError
        One of them cannot be opened.
    """
    opened = open_form(reference)
    try:
        other = open_form(candidate)
        try:
            return compare(opened, other)
        finally:
            other.close()
    finally:
        opened.close()


def require_parity(reference: Path, candidate: Path) -> list[Difference]:
    """Verify, and refuse what is over the bound.

    Raises
    ------
    RefocusError
        They differ by more than the bound; the worst frame is named.
    """
    differences = verify(reference, candidate)
    if not passed(differences):
        worst = max(differences, key=lambda d: (bool(d.problem), d.largest))
        raise RefocusError(
            f"{candidate.name} does not agree with {reference}: {worst.problem} "
            f"on the frame '{worst.frame}' (largest {worst.largest:.2%}, mean {worst.mean:.3%}); "
            "it was not written"
        )
    return differences
