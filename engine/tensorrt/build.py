"""ONNX to a TensorRT plan: one code path for TensorRT 10 and 11, and for TensorRT-RTX.

Only names that all of them have are used. Precision is in the graph (strongly typed), so nothing
here chooses it.
"""

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from refocus.configs.files import replacing
from refocus.engine.prepare import padded_shape
from refocus.engine.protocol import DeviceError, EngineError, log

RUNTIMES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Name of the runtime, and of the module; the first that is installed is taken."""
WORKSPACE_GIB = 2.0

Progress = Callable[[str, int, int], None]
"""Told the phase, and how many of how many steps are done."""


@dataclass(frozen=True)
class Runtime:
    """An installed TensorRT."""

    name: str
    version: str
    module: Any


@dataclass(frozen=True)
class Profile:
    """Frame sizes that a plan serves, ``(batch, height, width)``, padded to the stride."""

    smallest: tuple[int, int, int]
    usual: tuple[int, int, int]
    largest: tuple[int, int, int]

    @staticmethod
    def of(
        frame: tuple[int, int], largest: tuple[int, int] | None = None, batch: int = 1
    ) -> "Profile":
        """Serve frames of one size, or of any size up to ``largest``, best at ``frame``."""
        usual = (batch, *padded_shape(frame))
        if largest is None:
            return Profile(usual, usual, usual)
        top = padded_shape(largest)
        if top[0] < usual[1] or top[1] < usual[2]:
            raise EngineError(
                f"largest frame {largest[0]}×{largest[1]} is smaller than "
                f"{frame[0]}×{frame[1]}; give both sides at least that"
            )
        return Profile((1, *padded_shape((32, 32))), usual, (batch, *top))


def load_runtime(name: str = "auto") -> Runtime:
    """Import TensorRT or TensorRT-RTX.

    Raises
    ------
    DeviceError
        It is not installed, or cannot be imported.
    EngineError
        There is no runtime of this name.
    """
    if name not in ("auto", *RUNTIMES):
        raise EngineError(f"runtime {name!r}: not known; allowed: auto, {', '.join(RUNTIMES)}")
    failures = []
    for candidate in RUNTIMES if name == "auto" else (name,):
        try:
            module = importlib.import_module(RUNTIMES[candidate])
            return Runtime(candidate, str(module.__version__), module)
        except Exception as error:  # a missing library shows as any of several
            failures.append(f"{candidate}: {error}")
    extra = "tensorrt-rtx" if name == "auto" else name
    raise DeviceError(
        f"TensorRT cannot be imported ({'; '.join(failures)}); "
        f"install it: pip install 'refocus-live[{extra}]'"
    )


class _Log:
    """TensorRT's messages, in ours; and the last error, for the exception."""

    def __init__(self, module: Any) -> None:
        self.last = ""
        severity = module.Logger
        levels = {severity.ERROR: 30, severity.INTERNAL_ERROR: 30}

        class Bridge(module.ILogger):  # type: ignore[misc]
            def log(bridge, level: Any, message: str) -> None:
                if level in levels:
                    self.last = message.splitlines()[0] if message else ""
                log.debug("TensorRT: %s", message)

        self.logger = Bridge()
        self.runtime: Any = None


_LOGS: dict[str, _Log] = {}


def logger_of(runtime: Runtime) -> _Log:
    """Give the one logger of a runtime: TensorRT keeps the first for the life of the process."""
    if runtime.name not in _LOGS:
        _LOGS[runtime.name] = _Log(runtime.module)
    return _LOGS[runtime.name]


def build_plan(
    model: onnx.ModelProto,
    runtime: Runtime,
    profile: Profile,
    *,
    target: str | None = None,
    workspace_gib: float = WORKSPACE_GIB,
    timing_cache: Path | None = None,
    progress: Progress | None = None,
) -> bytes:
    """Build a plan.

    Parameters
    ----------
    model
        As its values are typed; see :func:`refocus.engine.half_precision.half_precision`.
    target
        Compute capability to build for, such as ``"8.9"``, where the runtime can build ahead of
        time. Default: the GPU of this machine, or what the runtime takes without one.
    timing_cache
        File that carries TensorRT's measurements from build to build.

    Raises
    ------
    EngineError
        The target cannot be built for.
    DeviceError
        The runtime cannot build without a GPU, cannot parse the graph, or the build failed.
    """
    trt, messages = runtime.module, logger_of(runtime)
    messages.last = ""
    try:
        builder = trt.Builder(messages.logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    except Exception as error:
        reason = messages.last or str(error)
        raise DeviceError(
            f"{runtime.name} {runtime.version} cannot build here ({reason}); "
            "it needs an NVIDIA GPU and a driver: use '--runtime tensorrt-rtx' without one"
        ) from error
    parser = trt.OnnxParser(network, messages.logger)
    if not parser.parse(model.SerializeToString()):
        reasons = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise DeviceError(f"{runtime.name} cannot read the model: {reasons}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(workspace_gib * 2**30))
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    shapes = builder.create_optimization_profile()
    channels = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    sizes = (profile.smallest, profile.usual, profile.largest)
    shapes.set_shape("frames", *((n, channels, height, width) for n, height, width in sizes))
    config.add_optimization_profile(shapes)
    _set_target(config, runtime, target)
    if progress is not None:
        config.progress_monitor = _monitor(trt, progress)
    cache = _load_timing_cache(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise DeviceError(
            f"{runtime.name} {runtime.version} could not build the engine "
            f"({messages.last or 'no reason given'}); try a smaller --max-frame or --batch"
        )
    if timing_cache is not None and cache is not None:
        _save_timing_cache(cache, timing_cache)
    return bytes(plan)


def _set_target(config: Any, runtime: Runtime, target: str | None) -> None:
    if target is None:
        return
    kinds = getattr(runtime.module, "ComputeCapability", None)
    if kinds is None:
        raise EngineError(
            f"{runtime.name} builds for the GPU of this machine only; leave --target out, "
            "or use '--runtime tensorrt-rtx'"
        )
    wanted = getattr(kinds, "SM" + target.replace(".", ""), None)
    if wanted is None:
        names = [n[2:] for n in dir(kinds) if n.startswith("SM") and n[2:].isdigit()]
        known = ", ".join(sorted((f"{n[:-1]}.{n[-1]}" for n in names), key=float))
        raise EngineError(f"--target {target}: not known to {runtime.name}; allowed: {known}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(wanted, 0)


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self._steps[phase] = steps
            progress(phase, 0, steps)

        def step_complete(self, phase: str, step: int) -> bool:
            progress(phase, step + 1, self._steps.get(phase, step + 1))
            return True

        def phase_finish(self, phase: str) -> None:
            steps = self._steps.pop(phase, 0)
            progress(phase, steps, steps)

    return Monitor()


def _load_timing_cache(config: Any, path: Path | None) -> Any:
    if path is None:
        return None
    try:
        known = path.read_bytes() if path.is_file() else b""
        cache = config.create_timing_cache(known)
        config.set_timing_cache(cache, False)
    except Exception as error:  # it saves time and decides nothing: begin anew
        log.debug("timing cache %s is not used: %s", path, error)
        return None
    return cache


def _save_timing_cache(cache: Any, path: Path) -> None:
    try:
        with replacing(path, shared=True) as part:
            part.write_bytes(bytes(cache.serialize()))
    except (OSError, TypeError, AttributeError) as error:
        log.debug("timing cache %s is not saved: %s", path, error)


def layers(plan: bytes, runtime: Runtime) -> Any:
    """Describe each layer of a plan, as TensorRT's inspector does. Needs the GPU."""
    trt = runtime.module
    engine = load_plan(plan, runtime)
    inspector = engine.create_engine_inspector()
    return json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def load_plan(plan: bytes, runtime: Runtime) -> Any:
    """Deserialise a plan that was built here.

    Raises
    ------
    DeviceError
        There is no GPU, or the plan is not for it.
    """
    messages = logger_of(runtime)
    messages.last = ""
    try:
        if messages.runtime is None:  # it has to outlive every engine
            messages.runtime = runtime.module.Runtime(messages.logger)
        engine = messages.runtime.deserialize_cuda_engine(plan)
    except Exception as error:
        raise DeviceError(f"{runtime.name} cannot run here: {error}") from error
    if engine is None:
        reason = messages.last or "no NVIDIA GPU, or one that the engine was not built for"
        raise DeviceError(f"{runtime.name} {runtime.version} cannot run the engine: {reason}")
    return engine
