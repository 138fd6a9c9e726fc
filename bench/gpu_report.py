#!/usr/bin/env python3
"""Measure every engine of a GPU machine: conformance, parity, speed alone and in a live run.

    make gpu-report
    python -m refocus.bench.gpu_report --model resnet34.onnx --frame 2048x2048 --markdown report.md

Writes JSON and Markdown, anew after each engine, and states nothing that did not run on this
machine. The engines of this project come first, so that a run that is cut short has them.
"""

import argparse
import gc
import json
import logging
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refocus.bench.gpu_engines import CPU_ENGINES, GPU_ENGINES, Opener
from refocus.bench.gpu_rates import Rates, Work, card_rates, work_of
from refocus.bench.live_rows import measure_live
from refocus.configs import RefocusError, sentence_of
from refocus.configs.command import INTERRUPTED
from refocus.configs.files import is_no_file, replacing
from refocus.engine import Engine
from refocus.engine.model_file import read_model
from refocus.engine.nvidia import find_gpu
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.parity import Difference, adversarial_frames, compare, passed
from refocus.engine.prepare import SMALLEST
from refocus.engine.protocol import Frame, log, refocus_all
from refocus.engine.shipped import default_model

ROOT = Path(__file__).resolve().parents[1]
CONFORMANCE = "tests/engine/test_conformance.py"
MARKED = "gpu"
CONFORMANCE_S = 600.0
"""What the suite may take; a driver that hangs would keep it for ever."""
FRAMES = ("512x512", "1024x1024", "2048x2048", "4432x2368")
SECONDS = 3.0
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
    frame = frame_of(shape)
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
    return row | work.shares(rates, stages.get("compute", 1e3 * each))


def frame_of(shape: tuple[int, int]) -> Frame:
    """Make a frame of cells, that there is something to judge in it."""
    cells = adversarial_frames()["cells"]
    times = [-(-n // m) for n, m in zip(shape, cells.shape, strict=True)]
    frame: Frame = np.tile(cells, times)[: shape[0], : shape[1]].copy()
    return frame


def _judged_ms(engine: Engine, shape: tuple[int, int], seconds: float) -> dict[str, float]:
    """Measure what a frame takes with its judgement; nothing where there is none."""
    frame = frame_of(shape)
    engine.warm_up(shape, frame.dtype)
    if engine.submit(frame)().judgement.verdict == "unrated":
        return {}
    return {"judged_ms": 1e3 * seconds_per_frame(engine, frame, seconds)}


def report_model(
    model: Path,
    shapes: list[tuple[int, int]],
    engines: dict[str, Opener],
    rates: Rates,
    seconds: float,
) -> Iterator[dict[str, Any]]:
    """Run every engine over one model: parity first, and speed only of those that agree.

    Yields
    ------
    dict
        The same one after each engine, with what was found so far.
    """
    proto, card = read_model(model)
    found: dict[str, Any] = {
        "model": card.name,
        "version": card.version,
        "sha256": card.sha256,
        "architecture": card.architecture,
        "parity": {},
        "rows": [],
        "live": [],
        "skipped": {},
        "notes": [],
    }
    reference = OpenVinoEngine(model, precision="f32", judged=False)
    for name, opener in engines.items():
        _say(f"{card.name}: {name}")
        notes = _Notes(found["notes"], name)
        log.addHandler(notes)
        try:
            with _opened(opener, model, judged=False) as engine:
                differences = compare(reference, engine)
            found["parity"][name] = _said_of(differences)
            if not passed(differences):
                raise RefocusError(f"does not agree: {_worst(differences).problem}")
            for shape in shapes:
                used = _memory_used()
                with _opened(opener, model, judged=False) as engine:
                    row = measure(name, engine, shape, work_of(proto, shape), rates, seconds)
                    if rates.matrix:
                        row["memory_gib"] = (_memory_used() - used) / 2**30
                found["rows"].append(row)
                with _opened(opener, model, judged=True) as engine:
                    row |= _judged_ms(engine, shape, seconds / 2) if card.trust else {}
                    alone = partial(seconds_per_frame, seconds=seconds / 2)
                    found["live"] += measure_live(name, engine, shape, seconds, alone)
        except Exception as error:  # of whichever library: the other engines go on
            found["skipped"][name] = sentence_of(error)[:400]
        finally:
            log.removeHandler(notes)
        yield found
    reference.close()


class _Notes(logging.Handler):
    """Keeps what an engine warns of, as of a network that runs step by step after all."""

    def __init__(self, notes: list[str], engine: str) -> None:
        super().__init__(logging.WARNING)
        self._notes, self._engine = notes, engine

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, once."""
        note = f"{self._engine} warned: {record.getMessage()}"
        if note not in self._notes:
            self._notes.append(note)


def _worst(differences: list[Difference]) -> Difference:
    return max(differences, key=lambda d: (bool(d.problem), d.largest))


def _said_of(differences: list[Difference]) -> dict[str, Any]:
    worst = _worst(differences)
    largest, mean = worst.largest, max(d.mean for d in differences)
    finite = math.isfinite(largest + mean)
    return {
        "largest": largest if finite else None,
        "mean": mean if finite else None,
        "frame": worst.frame,
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
            text = f"NaN or infinity on '{figures['frame']}'"
            if figures["mean"] is not None:
                text = f"largest {figures['largest']:.3%}, mean {figures['mean']:.4%} of the range"
            lines.append(f"- parity of {name} with OpenVINO: {text}")
        lines += [
            f"- {name} did not run to its end: {why}" for name, why in model["skipped"].items()
        ]
        lines += [*(f"- {note}" for note in model["notes"]), ""]
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
    """Give what all programs have of the GPU, without what PyTorch keeps and nobody uses."""
    if "torch" not in sys.modules or find_gpu() is None:
        return 0
    import torch

    gc.collect()
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    return int(total - free)


def _conformance() -> str:
    """Run the conformance suite on the GPU, and give pytest's last line."""
    if not (ROOT / CONFORMANCE).is_file():
        return f"not run: {CONFORMANCE} is not there; it needs a clone of the repository"
    command = [sys.executable, "-m", "pytest", CONFORMANCE, "-q", "-m", MARKED]
    # a file: what is left of a suite that was killed would keep a pipe open
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        suite = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        try:
            status = suite.wait(CONFORMANCE_S)
        except subprocess.TimeoutExpired:
            return f"was not over after {CONFORMANCE_S:g} s"
        finally:
            suite.kill()
            suite.wait()
        said.seek(0)
        lines = said.read().strip().splitlines() or ["pytest said nothing"]
    last = lines[-1].strip("= ")
    return last if status in (0, 1) else f"ended with status {status}: {last}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _shape(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()) or min(int(height), int(width)) < SMALLEST:
        raise argparse.ArgumentTypeError(f"{text}: give HxW, {SMALLEST} or more each")
    return int(height), int(width)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds <= 600.0:
        raise argparse.ArgumentTypeError(f"{text}: give more than 0 and at most 600 seconds")
    return seconds


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("gpu_report", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, action="append", help="ONNX model; may be repeated")
    parser.add_argument("--frame", type=_shape, action="append", help="HxW; may be repeated")
    parser.add_argument(
        "--engine",
        action="append",
        choices=[*GPU_ENGINES, *CPU_ENGINES],
        metavar="NAME",
        help="as it stands in the report, instead of all; may be repeated",
    )
    parser.add_argument("--seconds", type=_seconds, default=SECONDS, help="per figure")
    parser.add_argument("--json", type=Path, default=Path("gpu_report.json"))
    parser.add_argument("--markdown", type=Path, default=Path("gpu_report.md"))
    parser.add_argument("--cpu", action="store_true", help="measure the CPU engines instead")
    parser.add_argument("--no-conformance", action="store_true")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run it; 2 where there is no GPU, 1 where nothing could be measured."""
    given = _parsed(arguments)
    gpu = find_gpu()
    if gpu is None and not given.cpu:
        _say("gpu_report: no NVIDIA GPU here; run it on a machine that has one, or give --cpu")
        return 2
    known = CPU_ENGINES if given.cpu else GPU_ENGINES
    engines = {name: known[name] for name in given.engine or known if name in known}
    if not engines:
        _say(f"gpu_report: no such engine here; name one of: {', '.join(known)}")
        return 2
    shapes = given.frame or [_shape(text) for text in FRAMES]
    models = given.model or [default_model()]
    report: dict[str, Any] = {
        "device": "CPU" if given.cpu or gpu is None else f"{gpu.name}, CUDA {gpu.driver}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "matrix_tflops": 0.0,
        "memory_gb_per_s": 0.0,
        "conformance": "",
        "models": [],
    }

    def keep() -> None:
        told = {given.json: json.dumps(report, indent=2), given.markdown: markdown(report)}
        for path, text in told.items():
            with replacing(path) as part:
                part.write_text(text, encoding="utf-8")

    try:
        for model in models:
            read_model(model)
        for path in (given.json, given.markdown):
            if is_no_file(path) or not os.access(path.parent, os.W_OK):
                raise RefocusError(f"{path}: no file can be written there; name another")
        rates = Rates() if given.cpu else card_rates()
        report["matrix_tflops"], report["memory_gb_per_s"] = rates.matrix / 1e12, rates.memory / 1e9
        for model in models:
            before = list(report["models"])
            for found in report_model(model, shapes, engines, rates, given.seconds):
                report["models"] = [*before, found]
                keep()
        if not (given.cpu or given.no_conformance):
            _say("conformance")
            report["conformance"] = _conformance()
            keep()
    except (RefocusError, OSError) as error:
        _say(f"gpu_report: {error}")
        return 2
    except KeyboardInterrupt:
        _say(f"gpu_report: interrupted; {given.markdown} has what was measured")
        return INTERRUPTED
    print(markdown(report))
    return 0 if all(found["rows"] for found in report["models"]) else 1


if __name__ == "__main__":
    sys.exit(main())
