"""What ``refocus-live doctor`` looks at: what is here, whether it runs, and the mend if not."""

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Literal

from refocus.configs import BBBC006, RefocusError, one_line

LIBRARIES = ("numpy", "openvino", "onnx", "pymmcore-plus", "useq-schema", "pyzmq", "ome-writers")
GPU_ENGINES = ("tensorrt", "tensorrt-rtx", "torch")
EXTRAS = {
    "view": ("the page in the browser", ("starlette", "uvicorn", "websockets")),
    "napari": ("the napari widget", ("napari", "qtpy")),
    "train": ("training", ("torch", "lightning", "safetensors")),
}
SELF_TEST_UM = 8.0
"""How far out of focus the frame of the self-test is, µm."""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes
    ----------
    name
        What was looked at.
    state
        ``good``; ``absent`` for what one may do without; ``bad`` for what every run needs.
    said
        What was found.
    mend
        What to do; empty where nothing is to be done.
    """

    name: str
    state: Literal["good", "absent", "bad"]
    said: str
    mend: str = ""


def examine() -> Iterator[Finding]:
    """Look at everything, one after the other."""
    yield _versions()
    yield _gpu()
    yield from _engines()
    yield _micro_manager()
    for extra, (what, modules) in EXTRAS.items():
        yield _extra(extra, what, modules)
    yield _self_test()


def _versions() -> Finding:
    ours = f"refocus-live {version('refocus-live')}, Python {platform.python_version()}"
    where = f"{platform.system()} {platform.machine()}"
    missing = [name for name in LIBRARIES if _version(name) is None]
    found = ", ".join(f"{name} {_version(name)}" for name in LIBRARIES if name not in missing)
    said = f"{ours}, {where}; {found}"
    if not missing:
        return Finding("versions", "good", said)
    mend = "install again: pip install -c constraints.txt -e ."
    return Finding("versions", "bad", f"{said}; no {', '.join(missing)}", mend)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _gpu() -> Finding:
    from refocus.engine.nvidia import find_gpu

    gpu = find_gpu()
    if gpu is None:
        mend = "if this computer has a card, install its driver, and see that nvidia-smi works"
        return Finding("gpu", "absent", "no NVIDIA driver: the processor does the work", mend)
    memory = f"{gpu.memory / 2**30:.0f} GiB"
    said = f"{gpu.name}, {memory}, compute capability {gpu.capability}"
    return Finding("gpu", "good", f"{said}, driver for CUDA {gpu.driver}")


def _engines() -> Iterator[Finding]:
    from refocus.engine.nvidia import find_gpu

    yield _engine("openvino", "bad")
    yield _engine("any-objective", "bad")
    for name in GPU_ENGINES:
        if find_gpu() is None:
            yield Finding(name, "absent", "needs an NVIDIA GPU")
        else:
            yield _engine(name, "absent")


def _engine(name: str, otherwise: Literal["absent", "bad"]) -> Finding:
    """Open an engine, or a model that ships, as a run does."""
    from refocus.engine import open_engine

    def look() -> Finding:
        engine = open_engine(name)
        try:
            told = engine.info.describe()
            said = " ".join(str(told[key]) for key in ("model", "precision", "device") if told[key])
            return Finding(name, "good", f"opens {said}")
        finally:
            engine.close()

    return _without_fail(name, otherwise, look)


def _micro_manager() -> Finding:
    import pymmcore
    from pymmcore_plus import CMMCorePlus, find_micromanager

    from refocus.acquisition.microscopes.devices import quiet_exit

    name = "micro-manager"
    folder = find_micromanager()
    if folder is None:
        mend = "mmcore install, or install Micro-Manager; the demo and replays need none"
        return Finding(name, "absent", "no device adapters on this computer", mend)

    def look() -> Finding:
        core = CMMCorePlus()
        quiet_exit(core)
        try:
            adapters = len(core.getDeviceAdapterNames())
            core.loadSystemConfiguration("MMConfig_demo.cfg")
            said = f"{adapters} device adapters in {folder}; MMConfig_demo.cfg loads"
            return Finding(name, "good", said)
        finally:
            super(CMMCorePlus, core).registerCallback(None)
            core.unloadAllDevices()

    wanted = pymmcore.CMMCore().getAPIVersionInfo()
    mend = f"mmcore install; adapters for {wanted} are wanted (mmcore list)"
    return _without_fail(name, "absent", look, mend)


def _extra(extra: str, what: str, modules: tuple[str, ...]) -> Finding:
    missing = [module for module in modules if find_spec(module) is None]
    if not missing:
        return Finding(extra, "good", f"{what}: installed")
    mend = f'pip install -c constraints.txt -e ".[{extra}]"'
    return Finding(extra, "absent", f"{what}: no {', '.join(missing)}", mend)


def _self_test() -> Finding:
    """Acquire a simulated frame out of focus, refocus it, and compare both with the truth."""
    from refocus.acquisition.command.report import Album, judge, mean_quality
    from refocus.acquisition.hook import attach
    from refocus.acquisition.microscopes.simulated import SimulatedMicroscope

    album = Album(frames=1)

    def look() -> Finding:
        with SimulatedMicroscope(
            frame_shape=(256, 256), optics=BBBC006, z_um=SELF_TEST_UM
        ) as microscope:
            with attach(microscope.core, sinks=[album], throttle=True, live_mode=False) as live:
                microscope.core.mda.run(microscope.sequence(1))
            quality = mean_quality(judge(album.results, microscope.truth))
        if quality is None:
            raise RefocusError("; ".join(live.problems) or "no frame came out")
        said = (
            f"a simulated frame {SELF_TEST_UM:g} µm from focus: {quality.psnr_before:.1f} → "
            f"{quality.psnr_after:.1f} dB by {live.engine.info.name}, "
            f"{live.stats.engine_ms.p50:.0f} ms in the engine"
        )
        if quality.psnr_after > quality.psnr_before:
            return Finding("self-test", "good", said)
        mend = "install again; if that does not help, tell us, with what stands above"
        return Finding("self-test", "bad", f"{said}: no better", mend)

    return _without_fail("self-test", "bad", look, "mend what is named above, and try again")


def _without_fail(
    name: str,
    otherwise: Literal["absent", "bad"],
    look: Callable[[], Finding],
    mend: str = "",
) -> Finding:
    """Look, and take whatever goes wrong for a finding: one part must not hide the others."""
    try:
        return look()
    except Exception as error:
        return Finding(name, otherwise, one_line(error), mend)
