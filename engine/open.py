"""Choosing an engine by name."""

from collections.abc import Callable, Sequence
from pathlib import Path

from refocus.engine.nvidia import find_gpu
from refocus.engine.protocol import Engine, EngineError, LightPath
from refocus.engine.shipped import default_model, shipped_models
from refocus.engine.triton.address import Address, is_address, read_address

NAMES = ("auto", "tensorrt", "tensorrt-rtx", "torch", "openvino", "fake")
FASTEST_FIRST = ("tensorrt", "tensorrt-rtx", "torch", "openvino")


def open_engine(
    engine: str | Path = "auto",
    model: Path | None = None,
    device: str | None = None,
    *,
    light_paths: Sequence[LightPath] = (),
    insecure: bool = False,
    threads: int | None = None,
) -> Engine:
    """Open an engine.

    Parameters
    ----------
    engine
        ``"auto"`` takes the fastest that this machine has: TensorRT, TensorRT-RTX, PyTorch with
        CUDA, and OpenVINO where there is no NVIDIA GPU or none of them runs; the log
        ``refocus.engine`` says why one was passed over. A name takes that one; the path of a
        ``.onnx`` file, or of a BioImage.IO package with one, is run by the fastest, as is a model
        that ships by its name (``"any-objective"``), the path of a ``.plan`` by TensorRT.
        ``"grpc://host:8001/model"`` is a Triton server's, see :mod:`refocus.engine.triton`; while
        that is away, the fastest here.
    model
        ONNX file; default: the model that ships for the light paths.
    device
        ``"CPU"`` or ``"GPU"`` of OpenVINO, ``"cpu"`` or ``"cuda"`` of PyTorch. Default: the best.
    light_paths
        What is known of those of the frames.
    insecure
        Send frames to a server on another host without encryption.
    threads
        Of the processor, for OpenVINO. Default: all but one.

    Returns
    -------
    Engine
        To be closed by the caller.

    Raises
    ------
    EngineError
        There is no such engine, or the model cannot be run.
    """
    name = str(engine)
    if name == "fake":
        from refocus.engine.fake import FakeEngine

        return FakeEngine()
    if is_address(name):
        return _served(read_address(name, insecure), model, device, threads)
    if name in shipped_models():
        return _auto(shipped_models()[name], device, threads)
    if name in NAMES:
        chosen = model or default_model(*light_paths)
        openers = _openers(chosen, device, threads)
        return _auto(chosen, device, threads) if name == "auto" else openers[name]()
    suffix = Path(name).suffix.lower()
    if suffix in (".plan", ".engine"):
        from refocus.engine.tensorrt.engine import TensorRtEngine

        return TensorRtEngine.from_plan(Path(name))
    if suffix == ".safetensors":
        raise EngineError(f"{name}: a checkpoint; make a model of it with 'refocus-export onnx'")
    if suffix in (".onnx", ".zip") or Path(name).exists():
        return _auto(Path(name), device, threads)
    raise EngineError(
        f"engine {name!r}: not known; allowed: {', '.join((*NAMES, *shipped_models()))}, "
        "the path of a .onnx model, or grpc://HOST:PORT of a Triton server"
    )


def _served(
    address: Address, model: Path | None, device: str | None, threads: int | None
) -> Engine:
    from refocus.engine.triton.engine import TritonEngine
    from refocus.engine.triton.returning import ReturningEngine

    file = address.file or model or shipped_models().get(address.model)
    if file is None and address.model:
        raise EngineError(
            f"engine: the model {address.model} of {address.target} does not ship; name its file "
            "here, from which verdicts and its checksum come, with ?model=FILE.onnx"
        )
    chosen = file or default_model()

    def opened() -> Engine:
        served = TritonEngine(address, chosen)
        try:
            served.require_parity(spare)
        except BaseException:
            served.close()
            raise
        return served

    spare = _auto(chosen, device, threads)
    try:
        return ReturningEngine(opened, spare)
    except BaseException:
        spare.close()
        raise


def _auto(model: Path, device: str | None, threads: int | None) -> Engine:
    openers = _openers(model, device, threads)
    if device is not None or find_gpu() is None:
        return openers["torch" if device and device.startswith(("cuda", "cpu")) else "openvino"]()
    from refocus.engine.fallback import FallbackEngine

    # PyTorch on the CPU would be slower than OpenVINO
    openers["torch"] = _openers(model, "cuda", threads)["torch"]
    return FallbackEngine({name: openers[name] for name in FASTEST_FIRST})


def _openers(
    model: Path, device: str | None, threads: int | None
) -> dict[str, Callable[[], Engine]]:
    """Say how each engine is opened; what it needs is imported only then."""

    def tensorrt() -> Engine:
        from refocus.engine.tensorrt.engine import TensorRtEngine

        return TensorRtEngine(model, "tensorrt")

    def tensorrt_rtx() -> Engine:
        from refocus.engine.tensorrt.engine import TensorRtEngine

        return TensorRtEngine(model, "tensorrt-rtx")

    def torch() -> Engine:
        try:
            from refocus.engine.torch.engine import TorchEngine
        except ImportError as error:
            raise EngineError(
                f"PyTorch cannot be imported ({error}); install it: pip install torch"
            ) from error
        return TorchEngine(model, device)

    def openvino() -> Engine:
        try:
            from refocus.engine.openvino import OpenVinoEngine
        except ImportError as error:
            raise EngineError(
                f"OpenVINO cannot be imported ({error}); install it: pip install openvino"
            ) from error
        return OpenVinoEngine(model, threads, device=device or "CPU")

    return {
        "tensorrt": tensorrt,
        "tensorrt-rtx": tensorrt_rtx,
        "torch": torch,
        "openvino": openvino,
    }
