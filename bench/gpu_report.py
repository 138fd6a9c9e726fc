#!/usr/bin/env python3
"""Measure every engine of a GPU machine: conformance, parity, then speed over frame sizes.

    make gpu-report
    python -m refocus.bench.gpu_report --model resnet34.onnx --frame 2048x2048 --markdown report.md

Writes JSON and Markdown, and states nothing that did not run on this machine.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from refocus.configs import RefocusError
from refocus.engine import Engine, EngineError
from refocus.engine.model_file import default_model, read_model
from refocus.engine.nvidia import find_gpu
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.parity import compare, passed
from refocus.engine.prepare import padded_shape, warm_up_frame
from refocus.engine.protocol import EngineInfo, Frame, refocus_all
from refocus.engine.tensorrt.engine import TensorRtEngine

ROOT = Path(__file__).parents[1]
FRAMES = ("512x512", "1024x1024", "2048x2048", "4432x2368")
SECONDS = 3.0
Opener = Callable[[Path, bool], Engine]
"""Opens a model, with or without its judge."""
COLUMNS = {
    "engine": "engine",
    "frame": "frame",
    "ms_per_frame": "ms/frame",
    "fps": "frames/s",
    "judged_ms": "judged, ms/frame",
    "copy_in": "copy in, ms",
    "compute": "compute, ms",
    "copy_out": "copy out, ms",
    "overlap": "frame ÷ longest stage",
    "percent_of_matrix_rate": "% of matrix rate",
    "memory_gib": "GPU memory, GiB",
}


class UserCallback(Engine):
    """What a user would write in a callback: PyTorch, eager FP32 or compiled FP16, and wait.

    Parameters
    ----------
    model
        ONNX file with a card.
    compiled
        FP16 through ``torch.compile``; otherwise eager FP32.
    """

    def __init__(self, model: Path, compiled: bool) -> None:
        import torch

        from refocus.engine.half_precision import half_precision
        from refocus.engine.torch.graph import TorchGraph

        proto, self._card = read_model(model)
        self._compiled = compiled
        graph = TorchGraph(half_precision(proto) if compiled else proto).cuda().eval()
        if compiled:
            graph = graph.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network: Any = torch.compile(graph) if compiled else graph

    @property
    def info(self) -> EngineInfo:
        """Which engine runs which model."""
        precision = "fp16" if self._compiled else "f32"
        return EngineInfo("torch.compile" if self._compiled else "eager", "", precision, self._card)

    def warm_up(self, shape: tuple[int, int], dtype: Any) -> None:
        """Run once."""
        self.refocus(warm_up_frame(shape, dtype))

    def refocus(self, frame: Frame) -> Frame:
        """Copy in, compute, copy out, one after the other."""
        import torch

        from refocus.engine.torch.counts import as_frame, as_tensor, refocus_counts

        with torch.inference_mode():
            counted = refocus_counts(as_tensor(frame).cuda(), lambda x: (self._network(x),))
            return as_frame(counted.counts.cpu())

    def close(self) -> None:
        """Free the network."""
        self._network = None


GPU_ENGINES: dict[str, Opener] = {
    "PyTorch eager FP32": lambda model, judged: UserCallback(model, compiled=False),
    "torch.compile FP16": lambda model, judged: UserCallback(model, compiled=True),
    "CUDA graphs FP16": lambda model, judged: _torch(model, "cuda", judged),
    "TensorRT FP16": lambda model, judged: TensorRtEngine(model, "tensorrt", judged),
    "TensorRT-RTX FP16": lambda model, judged: TensorRtEngine(model, "tensorrt-rtx", judged),
}
CPU_ENGINES: dict[str, Opener] = {
    "OpenVINO": lambda model, judged: OpenVinoEngine(model, judged=judged),
    "PyTorch CPU": lambda model, judged: _torch(model, "cpu", judged),
}


def _torch(model: Path, device: str, judged: bool) -> Engine:
    from refocus.engine.torch.engine import TorchEngine

    return TorchEngine(model, device, judged=judged)


def operations(model: onnx.ModelProto, shape: tuple[int, int]) -> int:
    """Count the multiplications and additions of the convolutions on a frame of this shape."""
    import openvino as ov

    graph = ov.Core().read_model(model.SerializeToString())
    graph.reshape([1, 1, *padded_shape(shape)])
    total = 0
    for node in graph.get_ops():
        if node.get_type_name() == "Convolution":
            kernel = list(node.input_value(1).get_shape())
            total += 2 * int(np.prod(kernel)) * int(np.prod(list(node.output(0).get_shape())[2:]))
    return total


def seconds_per_frame(engine: Engine, frame: Frame, seconds: float) -> float:
    """Measure sustained time per frame, host memory to host memory, after a warm-up."""
    for _ in refocus_all(engine, [frame] * 4):
        pass
    once = time.perf_counter()
    for _ in refocus_all(engine, [frame] * 4):
        pass
    once = (time.perf_counter() - once) / 4
    count = max(4, int(seconds / max(once, 1e-6)))
    begun = time.perf_counter()
    for _ in refocus_all(engine, (frame for _ in range(count))):
        pass
    return (time.perf_counter() - begun) / count


def measure(  # noqa: PLR0917
    name: str, engine: Engine, shape: tuple[int, int], flops: int, rate: float, seconds: float
) -> dict[str, Any]:
    """Measure one engine on one frame size; ``rate`` is the card's, in operations per second."""
    frame = warm_up_frame(shape, np.dtype(np.uint16))
    before = _memory_used()
    engine.warm_up(shape, frame.dtype)
    each = seconds_per_frame(engine, frame, seconds)
    row: dict[str, Any] = {
        "engine": name,
        "frame": f"{shape[0]}x{shape[1]}",
        "ms_per_frame": 1e3 * each,
        "fps": 1 / each,
    }
    stage_ms = getattr(engine, "stage_ms", None)
    stages = stage_ms(frame) if stage_ms else {}
    row |= stages
    if stages:
        row["overlap"] = row["ms_per_frame"] / max(stages.values())
    if rate:
        row["percent_of_matrix_rate"] = 1e5 * flops / rate / stages.get("compute", 1e3 * each)
        row["memory_gib"] = (_memory_used() - before) / 2**30
    return row


def _measure_judged(
    opener: Opener, model: Path, rows: list[dict[str, Any]], seconds: float
) -> None:
    """Add to an engine's rows what a frame takes with its judgement."""
    with _opened(opener, model, judged=True) as engine:
        for row in rows:
            height, width = (int(side) for side in row["frame"].split("x"))
            frame = warm_up_frame((height, width), np.dtype(np.uint16))
            engine.warm_up((height, width), frame.dtype)
            if engine.submit(frame)().judgement.verdict != "unrated":
                row["judged_ms"] = 1e3 * seconds_per_frame(engine, frame, seconds / 2)


def report_model(
    model: Path,
    shapes: list[tuple[int, int]],
    engines: dict[str, Opener],
    rate: float,
    seconds: float,
) -> dict[str, Any]:
    """Run every engine over one model: parity first, and speed only of those that agree."""
    proto, card = read_model(model)
    rows: list[dict[str, Any]] = []
    parity: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    reference = OpenVinoEngine(model, precision="f32", judged=False)
    for name, opener in engines.items():
        _say(f"{card.name}: {name}")
        try:
            with _opened(opener, model, judged=False) as engine:
                found = compare(reference, engine)
                worst = max(found, key=lambda d: (bool(d.problem), d.largest))
                parity[name] = {"largest": worst.largest, "mean": max(d.mean for d in found)}
                if not passed(found):
                    skipped[name] = f"does not agree: {worst.problem} on '{worst.frame}'"
                    continue
                for shape in shapes:
                    flops = operations(proto, shape)
                    rows.append(measure(name, engine, shape, flops, rate, seconds))
            if card.trust is not None:
                _measure_judged(opener, model, [r for r in rows if r["engine"] == name], seconds)
        except (RefocusError, ImportError, RuntimeError) as error:
            skipped[name] = str(error).splitlines()[0]
    reference.close()
    return {
        "model": card.name,
        "version": card.version,
        "sha256": card.sha256,
        "architecture": card.architecture,
        "parity": parity,
        "rows": rows,
        "skipped": skipped,
    }


def markdown(report: dict[str, Any]) -> str:
    """Lay a report out."""
    lines = [f"## {report['device']}, {report['date']}", ""]
    if report["matrix_tflops"]:
        lines += [f"Measured FP16 matrix rate: {report['matrix_tflops']:.0f} TFLOP/s.", ""]
    if report["conformance"]:
        lines += [f"Conformance: {report['conformance']}", ""]
    for model in report["models"]:
        lines += [f"### {model['model']} ({model['architecture']})", ""]
        columns = [c for c in COLUMNS if any(c in row for row in model["rows"])]
        if columns:
            lines += ["| " + " | ".join(COLUMNS[c] for c in columns) + " |"]
            lines += ["|" + "---|" * len(columns)]
        for row in model["rows"]:
            lines.append("| " + " | ".join(_cell(row.get(c, "")) for c in columns) + " |")
        lines.append("")
        for name, figures in model["parity"].items():
            text = f"largest {figures['largest']:.3%}, mean {figures['mean']:.4%} of the range"
            lines.append(f"- parity of {name} with OpenVINO: {text}")
        lines += [f"- {name} did not run: {why}" for name, why in model["skipped"].items()]
        lines.append("")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) and value < 100 else _whole(value)


def _whole(value: Any) -> str:
    return f"{value:.0f}" if isinstance(value, float) else str(value)


@contextmanager
def _opened(opener: Opener, model: Path, judged: bool) -> Iterator[Engine]:
    engine = opener(model, judged)
    try:
        yield engine
    finally:
        engine.close()


def _memory_used() -> int:
    if "torch" not in sys.modules or find_gpu() is None:
        return 0
    import torch

    free, total = torch.cuda.mem_get_info()
    return int(total - free)


def matrix_rate() -> float:
    """Measure the card's FP16 matrix product, in operations per second; 0.0 without PyTorch."""
    try:
        import torch
    except ImportError:
        return 0.0
    if not torch.cuda.is_available():
        return 0.0
    side, runs = 8192, 20
    a = torch.randn(side, side, device="cuda", dtype=torch.float16)
    for _ in range(3):
        a @ a
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(runs):
        a @ a
    torch.cuda.synchronize()
    return 2.0 * side**3 * runs / (time.perf_counter() - begun)


def _conformance() -> str:
    """Run the conformance suite on the GPU, and give pytest's last line."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/engine/test_conformance.py",
        "-q",
        "-m",
        "gpu",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[-1].strip("= ") if lines else "pytest said nothing"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _shape(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    return int(height), int(width)


def main(arguments: list[str] | None = None) -> int:
    """Run it; 2 where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, action="append", help="ONNX model; may be repeated")
    parser.add_argument("--frame", type=_shape, action="append", help="HxW; may be repeated")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="per figure")
    parser.add_argument("--json", type=Path, default=Path("gpu_report.json"))
    parser.add_argument("--markdown", type=Path, default=Path("gpu_report.md"))
    parser.add_argument("--cpu", action="store_true", help="measure the CPU engines instead")
    parser.add_argument("--no-conformance", action="store_true")
    given = parser.parse_args(arguments)
    gpu = find_gpu()
    if gpu is None and not given.cpu:
        _say(
            "gpu_report: no NVIDIA GPU found here; run it on a machine that has one, or give --cpu"
        )
        return 2
    try:
        rate = 0.0 if given.cpu else matrix_rate()
        engines = CPU_ENGINES if given.cpu else GPU_ENGINES
        shapes = given.frame or [_shape(text) for text in FRAMES]
        models = given.model or [default_model()]
        report = {
            "device": "CPU" if given.cpu or gpu is None else f"{gpu.name}, CUDA {gpu.driver}",
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "matrix_tflops": rate / 1e12,
            "conformance": "" if given.cpu or given.no_conformance else _conformance(),
            "models": [report_model(m, shapes, engines, rate, given.seconds) for m in models],
        }
        given.json.write_text(json.dumps(report, indent=2), encoding="utf-8")
        given.markdown.write_text(markdown(report), encoding="utf-8")
    except (EngineError, OSError) as error:
        _say(f"gpu_report: {error}")
        return 2
    print(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
