"""ONNX to a TensorRT FP16 engine: converted, compared on the CPU, and only then built."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx

from refocus.configs import ModelCard
from refocus.engine.cache_folder import cache_folder
from refocus.engine.half_precision import half_precision, precision
from refocus.engine.model_file import embed_card, read_model
from refocus.engine.nvidia import find_gpu
from refocus.engine.tensorrt.build import Profile, Progress, build_plan, load_runtime
from refocus.engine.tensorrt.cache import (
    Description,
    cache_key,
    cached_plan,
    describe,
    write_plan,
)
from refocus.export.verify import require_parity


@dataclass(frozen=True)
class Built:
    """An engine that was built, or found in the cache."""

    path: Path
    size: int
    description: Description
    from_cache: bool


def tensorrt_from_onnx(
    model: Path,
    output: Path | None = None,
    *,
    runtime: str = "auto",
    frame: tuple[int, int] = (512, 512),
    max_frame: tuple[int, int] | None = None,
    batch: int = 1,
    target: str | None = None,
    workspace_gib: float = 2.0,
    progress: Progress | None = None,
) -> Built:
    """Build an FP16 engine.

    Parameters
    ----------
    model
        ``.onnx`` with a card, FP32 or FP16.
    output
        File to write; default: the cache, where the engine finds it again.
    runtime
        ``"auto"``, ``"tensorrt"`` or ``"tensorrt-rtx"``.
    frame
        Height and width of the camera's frames.
    max_frame
        Serve any size up to this one; default: ``frame`` alone, which is the fastest.
    batch
        Frames at a time.
    target
        Compute capability to build for, such as ``"8.9"``; default: this machine's GPU.

    Raises
    ------
    RefocusError
        The model cannot be read, does not survive FP16, or cannot be built here.
    """
    proto, card = read_model(model)
    installed = load_runtime(runtime)
    half, card = _halved(proto, card, model)
    profile = Profile.of(frame, max_frame, batch)
    description = describe(card, installed, profile, find_gpu(), target)
    built = []

    def build() -> bytes:
        built.append(True)
        return build_plan(
            half,
            installed,
            profile,
            target=target,
            workspace_gib=workspace_gib,
            timing_cache=cache_folder() / "timing.cache",
            progress=progress,
        )

    if output is None:
        plan = cached_plan(description, build)
        output = cache_folder() / f"{cache_key(description)}.plan"
    else:
        plan = build()
        write_plan(output, plan, description)
    return Built(output, len(plan), description, not built)


def _halved(
    proto: onnx.ModelProto, card: ModelCard, path: Path
) -> tuple[onnx.ModelProto, ModelCard]:
    if precision(proto) == "fp16":
        return proto, card  # was compared when it was made
    half = half_precision(proto)
    signed = embed_card(half, card)
    with tempfile.TemporaryDirectory() as folder:
        candidate = Path(folder) / f"{path.stem}.fp16.onnx"
        onnx.save(half, str(candidate))
        require_parity(path, candidate)
    return half, signed
