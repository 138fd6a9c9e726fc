"""The TensorRT engine: FP16 plans, built on this machine, one per frame size."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refocus.configs import reason_of
from refocus.engine.half_precision import half_precision
from refocus.engine.light_path.filters import CHANNELS
from refocus.engine.light_path.sight import open_sight
from refocus.engine.model_file import embed_card, read_model
from refocus.engine.nvidia import Gpu, find_gpu
from refocus.engine.parity import difference
from refocus.engine.prepare import check_frame, warm_up_frame
from refocus.engine.protocol import (
    UNKNOWN,
    DeviceError,
    Engine,
    EngineError,
    EngineInfo,
    Frame,
    LightPath,
    Ticket,
    log,
)
from refocus.engine.tensorrt.build import Profile, Runtime, build_plan, load_plan, load_runtime
from refocus.engine.tensorrt.cache import cached_plan, describe, read_description, read_plan
from refocus.engine.tiling import tiled
from refocus.engine.trust.judge import open_judge, refocus_and_judge

if TYPE_CHECKING:
    from refocus.configs import ModelCard
    from refocus.engine.light_path.sight import Sight
    from refocus.engine.torch.device_frames import DeviceFrames
    from refocus.engine.trust.judge import Judge

PLANS_KEPT = 4


def _require_gpu() -> Gpu:
    gpu = find_gpu()
    if gpu is None:
        raise DeviceError(
            "TensorRT needs an NVIDIA GPU and its driver, and none was found; "
            "use the engine 'openvino'"
        )
    return gpu


def _device_memory() -> tuple[Any, Any, Any]:
    """Give the way to the GPU's memory: how a plan is bound, what runs frames, and the device."""
    try:
        import torch
    except ImportError:
        found = False
    else:
        found = bool(torch.cuda.is_available())
    if not found:
        raise DeviceError(
            "TensorRT reaches the GPU's memory through PyTorch with CUDA, which is not installed; "
            "install it: pip install torch"
        )
    from refocus.engine.tensorrt.bind import bind
    from refocus.engine.torch.device_frames import DeviceFrames

    return bind, DeviceFrames, torch.device("cuda")


class TensorRtEngine(Engine):
    """Runs an ONNX model with TensorRT or TensorRT-RTX.

    A plan is built for each frame size when it is first seen (:meth:`warm_up` does it before the
    acquisition begins), and kept from run to run.

    Parameters
    ----------
    model
        ONNX file with a card.
    runtime
        ``"auto"``, ``"tensorrt"`` or ``"tensorrt-rtx"``.
    judged
        Judge every result, if the model was calibrated.

    Raises
    ------
    EngineError
        The model cannot be read, or its FP16 form does not agree with it.
    DeviceError
        The runtime is not installed, there is no GPU, or no way to reach its memory.
    """

    def __init__(self, model: Path, runtime: str = "auto", judged: bool = True) -> None:
        proto, card = read_model(model)
        gpu = _require_gpu()
        judge = open_judge(proto, card, str(model)) if judged else None
        self._prepare(load_runtime(runtime), gpu, judge, open_sight(proto, card, str(model)))
        self._half = half_precision(proto)
        self._card: ModelCard | None = card
        self._half_card = embed_card(self._half, card)
        self._reference: Path | None = model

    @classmethod
    def from_plan(cls, path: Path) -> "TensorRtEngine":
        """Open a plan that 'refocus-export tensorrt' wrote on this machine.

        Raises
        ------
        EngineError
            Its JSON is missing, or either was altered or belongs to another user.
        DeviceError
            It is not for this GPU, driver or runtime, or there is none.
        """
        description = read_description(path)
        description.pop("plan_sha256", None)
        plan = read_plan(path, description)
        gpu = _require_gpu()
        runtime = load_runtime(str(description.get("runtime", "auto")))
        if description.get("runtime_version") != runtime.version:
            raise DeviceError(
                f"{path}: built by {runtime.name} {description.get('runtime_version')}, "
                f"and {runtime.version} is installed; build it again"
            )
        if description.get("capability") != gpu.capability:
            raise DeviceError(
                f"{path}: built for compute capability {description.get('capability')}, "
                f"and {gpu.name} has {gpu.capability}; build it again"
            )
        engine = cls.__new__(cls)
        engine._prepare(runtime, gpu, None)
        engine._card, engine._reference = None, None
        engine._loaded = {None: load_plan(plan, runtime)}
        return engine

    def _prepare(
        self, runtime: Runtime, gpu: Gpu, judge: "Judge | None", sight: "Sight | None" = None
    ) -> None:
        self._runtime, self._gpu = runtime, gpu
        self._loaded: dict[tuple[int, int] | None, Any] = {}
        self._build_lock = threading.Lock()
        self._closed = False
        self._judge, self._sight = judge, sight
        inputs = 1 if sight is None else CHANNELS
        bind, frames, device = _device_memory()
        self._frames: DeviceFrames = frames(
            lambda shape: bind(self._plan(shape), shape, judge is not None, inputs),
            tiled(self._infer, 0),
            judge,
            lambda: self.info,
            device,
            sight,
        )

    @property
    def info(self) -> EngineInfo:
        """Which engine runs which model."""
        device = f"{self._gpu.name}, {self._runtime.name} {self._runtime.version}"
        return EngineInfo(self._runtime.name, device, "fp16", self._card)

    @property
    def overlap(self) -> int:
        """How many frames may be under way at once."""
        return self._frames.overlap

    def warm_up(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """Build or load the plan for frames of this shape, and capture the CUDA graph."""
        if self._judge is not None:
            self._judge.warm_up()
        self.refocus(warm_up_frame(shape, dtype))

    def submit(self, frame: Frame, light_path: LightPath = UNKNOWN) -> Ticket:
        """Send a frame to the device; see :class:`~refocus.engine.protocol.Engine`."""
        if self._closed:
            raise EngineError("the engine is closed; open it again")
        check_frame(frame)
        return self._frames.submit(frame, light_path)

    def stage_ms(self, frame: Frame) -> dict[str, float]:
        """Measure copy in, compute and copy out, each alone."""
        return self._frames.ring.stage_ms(frame)

    def close(self) -> None:
        """Free the device."""
        if self._closed:
            return
        self._closed = True
        self._judge = None
        self._frames.close()
        self._loaded.clear()

    def _plan(self, shape: tuple[int, int]) -> Any:
        """Give the deserialised plan for padded frames of this shape."""
        with self._build_lock:
            if None in self._loaded:
                return self._loaded[None]
            if shape not in self._loaded:
                self._loaded[shape] = load_plan(self._plan_bytes(shape), self._runtime)
                while len(self._loaded) > PLANS_KEPT:
                    self._loaded.pop(next(iter(self._loaded)))
            return self._loaded[shape]

    def _plan_bytes(self, shape: tuple[int, int]) -> bytes:
        profile = Profile.of(shape)
        description = describe(self._half_card, self._runtime, profile, self._gpu)

        def build() -> bytes:
            log.info("building the %s engine for %d×%d", self._runtime.name, *shape)
            plan = build_plan(self._half, self._runtime, profile)
            self._require_parity(plan, shape)
            return plan

        try:
            return cached_plan(description, build)
        except DeviceError:
            raise
        except EngineError as error:  # a folder that is not ours: another engine needs none
            raise DeviceError(str(error)) from error

    def _require_parity(self, plan: bytes, shape: tuple[int, int]) -> None:
        """Compare a new plan with the model on the CPU, before it is kept."""
        from refocus.engine.openvino import OpenVinoEngine
        from refocus.engine.tensorrt.bind import run_once

        assert self._reference is not None
        frame = warm_up_frame(shape, np.dtype(np.uint16))
        opened = load_plan(plan, self._runtime)
        reference = OpenVinoEngine(self._reference, precision="f32", judged=False)
        try:
            wanted = reference.refocus(frame).astype(np.float64)
        finally:
            reference.close()
        given = refocus_and_judge(
            frame, lambda seen: run_once(opened, seen), None, self.info, self._sight
        )
        found = difference("new engine", wanted, given.pixels.astype(np.float64))
        if found.problem:
            raise DeviceError(
                f"{self._runtime.name} {self._runtime.version} on {self._gpu.name} does not "
                f"compute what the model does for {shape[0]}×{shape[1]} ({found.problem})"
            )

    def _infer(self, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Run one tile."""
        from refocus.engine.tensorrt.bind import run_once

        try:
            return run_once(self._plan((pixels.shape[-2], pixels.shape[-1])), pixels)
        except (MemoryError, RuntimeError) as error:
            raise DeviceError(f"TensorRT failed on a tile ({reason_of(error)})") from error
