#!/usr/bin/env python3
"""Measure every engine of a GPU machine: conformance, parity, speed alone and in a live run.

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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refocus.bench.gpu_rates import Rates, Work, card_rates, work_of
from refocus.bench.live_rows import measure_live
from refocus.configs import RefocusError
from refocus.engine import Engine, EngineError
from refocus.engine.model_file import default_model, read_model
from refocus.engine.nvidia import find_gpu
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.parity import compare, passed
from refocus.engine.prepare import warm_up_frame
from refocus.engine.protocol import UNKNOWN, EngineInfo, Frame, refocus_all
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
    "percent_of_bandwidth": "% of memory bandwidth",
    "memory_gib": "GPU memory, GiB",
}
LIVE_COLUMNS = {
    "engine": "live, judged",
    "frame": "frame",
    "camera": "camera",
    "alone_fps": "engine alone, frames/s",
    "published_fps": "published, frames/s",
    "over_alone": "of what can be",
    "latency_p50_ms": "capture to publish, ms",
    "latency_p99_ms": "p99, ms",
    "published": "published",
    "dropped": "dropped",
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
        from refocus.engine.light_path.sight import open_sight
        from refocus.engine.torch.filters import TensorFilters
        from refocus.engine.torch.graph import TorchGraph

        proto, self._card = read_model(model)
        self._sight = open_sight(proto, self._card, str(model))
        self._filters = TensorFilters(torch.device("cuda"))
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

        from refocus.engine.light_path.filters import tables
        from refocus.engine.torch.counts import as_frame, as_tensor, refocus_counts

        with torch.inference_mode():
            show = None
            if self._sight is not None:
                told = torch.from_numpy(tables(self._sight.likely(frame, UNKNOWN)))[None].cuda()
                show = partial(self._filters.show, tables=told)
            counted = refocus_counts(as_tensor(frame).cuda(), lambda x: (self._network(x),), show)
            return as_frame(counted.counts.cpu())

    def close(self) -> None:
        """Free the network."""
        self._network = None


GPU_ENGINES: dict[str, Opener] = {
    "PyTorch eager FP32": lambda model, judged: UserCallback(model, compiled=False),
    "torch.compile FP16": lambda model, judged: UserCallback(model, compiled=True),
    "CUDA graphs FP16": lambda model, judged: _torch(model, "cuda", judged, compiled=False),
    "CUDA graphs FP16, compiled": lambda model, judged: _torch(model, "cuda", judged),
    "TensorRT FP16": lambda model, judged: TensorRtEngine(model, "tensorrt", judged),
    "TensorRT-RTX FP16": lambda model, judged: TensorRtEngine(model, "tensorrt-rtx", judged),
}
CPU_ENGINES: dict[str, Opener] = {
    "OpenVINO": lambda model, judged: OpenVinoEngine(model, judged=judged),
    "OpenVINO f32": lambda model, judged: OpenVinoEngine(model, precision="f32", judged=judged),
    "PyTorch CPU": lambda model, judged: _torch(model, "cpu", judged),
}


def _torch(model: Path, device: str, judged: bool, compiled: bool = True) -> Engine:
    from refocus.engine.torch.engine import TorchEngine

    return TorchEngine(model, device, judged=judged, compiled=compiled)


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
    name: str, engine: Engine, shape: tuple[int, int], work: Work, rates: Rates, seconds: float
) -> dict[str, Any]:
    """Measure one engine on one frame size; ``rates`` are the card's."""
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
    row |= work.shares(rates, stages.get("compute", 1e3 * each))
    if rates.matrix:
        row["memory_gib"] = (_memory_used() - before) / 2**30
    return row


def _measure_judged(engine: Engine, rows: list[dict[str, Any]], seconds: float) -> None:
    """Add to an engine's rows what a frame takes with its judgement."""
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
    rates: Rates,
    seconds: float,
) -> dict[str, Any]:
    """Run every engine over one model: parity first, and speed only of those that agree."""
    proto, card = read_model(model)
    rows: list[dict[str, Any]] = []
    parity: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    live: list[dict[str, Any]] = []
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
                    work = work_of(proto, shape)
                    rows.append(measure(name, engine, shape, work, rates, seconds))
            with _opened(opener, model, judged=True) as engine:
                if card.trust is not None:
                    _measure_judged(engine, [r for r in rows if r["engine"] == name], seconds)
                for shape in shapes:
                    live += measure_live(
                        name,
                        engine,
                        shape,
                        seconds,
                        partial(seconds_per_frame, seconds=seconds / 2),
                    )
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
        "live": live,
        "skipped": skipped,
    }


def markdown(report: dict[str, Any]) -> str:
    """Lay a report out."""
    lines = [f"## {report['device']}, {report['date']}", ""]
    if report["matrix_tflops"]:
        lines += [
            f"Measured: {report['matrix_tflops']:.0f} TFLOP/s of FP16 matrices, "
            f"{report['memory_gb_per_s']:.0f} GB/s of memory.",
            "",
        ]
    if report["conformance"]:
        lines += [f"Conformance: {report['conformance']}", ""]
    for model in report["models"]:
        lines += [f"### {model['model']} ({model['architecture']})", ""]
        lines += [*_table(COLUMNS, model["rows"]), "", *_table(LIVE_COLUMNS, model["live"]), ""]
        for name, figures in model["parity"].items():
            text = f"largest {figures['largest']:.3%}, mean {figures['mean']:.4%} of the range"
            lines.append(f"- parity of {name} with OpenVINO: {text}")
        lines += [f"- {name} did not run: {why}" for name, why in model["skipped"].items()]
        lines.append("")
    return "\n".join(lines)


def _table(names: dict[str, str], rows: list[dict[str, Any]]) -> Iterator[str]:
    columns = [c for c in names if any(c in row for row in rows)]
    if columns:
        yield "| " + " | ".join(names[c] for c in columns) + " |"
        yield "|" + "---|" * len(columns)
    for row in rows:
        yield "| " + " | ".join(_cell(row.get(c, "")) for c in columns) + " |"


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
        rates = Rates() if given.cpu else card_rates()
        engines = CPU_ENGINES if given.cpu else GPU_ENGINES
        shapes = given.frame or [_shape(text) for text in FRAMES]
        models = given.model or [default_model()]
        report = {
            "device": "CPU" if given.cpu or gpu is None else f"{gpu.name}, CUDA {gpu.driver}",
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "matrix_tflops": rates.matrix / 1e12,
            "memory_gb_per_s": rates.memory / 1e9,
            "conformance": "" if given.cpu or given.no_conformance else _conformance(),
            "models": [report_model(m, shapes, engines, rates, given.seconds) for m in models],
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
