"""The installed command, in a process of its own, as a user runs it."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
from numpy.typing import NDArray
from PIL import Image

COMMAND = str(Path(sys.executable).parent / "refocus-live")
PATIENCE = 600.0
"""Only what hangs takes so long: a command that compares hundreds of frames, on a busy machine."""

REPORT_KEYS = {
    "frames": ["received", "published", "deferred", "dropped", "failed"],
    "latency_ms": ["p50", "p99", "max"],
    "engine_ms": ["p50", "p99"],
    "engine": ["name", "model", "sha256", "precision"],
    "plan": ["planned", "received", "added", "missing", "short"],
    "saved": ["raw", "refocused"],
    "quality": ["psnr_before", "psnr_after", "ssim_before", "ssim_after", "n"],
}


def refocus_live(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **options,
    )


def free_endpoint() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def read_report(path: Path, quality: bool) -> dict[str, Any]:
    """Read a report, and check its keys and that every frame is accounted for."""
    report: dict[str, Any] = json.loads(path.read_text())
    expected = {"fps", "verdicts", *REPORT_KEYS} - (set() if quality else {"quality"})
    expected -= set() if (path.parent / "raw.ome.zarr").exists() else {"saved"}
    # where nothing came out, it says why
    beside = {"error"} if report["frames"]["published"] else {"error", "nothing"}
    assert set(report) - beside == expected
    for key in expected - {"fps", "verdicts"}:
        assert list(report[key]) == REPORT_KEYS[key]
    frames = report["frames"]
    # after the end nothing is in flight
    parts = (frames[k] for k in ("published", "deferred", "dropped", "failed"))
    assert frames["received"] == sum(parts)
    return report


def read_zarr(path: Path) -> NDArray[Any]:
    """Read every array of an OME-Zarr, positions one after the other: ``(N, H, W)``."""
    arrays = []
    for document in sorted(path.rglob("zarr.json")):
        if json.loads(document.read_text())["node_type"] == "array":
            spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(document.parent)}}
            array = np.asarray(tensorstore.open(spec).result().read().result())
            arrays.append(array.reshape(-1, *array.shape[-2:]))
    return np.concatenate(arrays)


def write_images(folder: Path, count: int = 5, blur: int = 0) -> Path:
    """Write a folder of small frames ``00.png``..., in focus or not."""
    folder.mkdir()
    for number in range(count):
        image = np.random.default_rng(number).integers(200, 60_000, (64, 80))
        for _ in range(blur):
            image = (image + np.roll(image, 1, 0) + np.roll(image, 1, 1)) // 3
        Image.fromarray(image.astype(np.uint16)).save(folder / f"{number:02d}.png")
    return folder


def start(*arguments: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def running() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start commands, and see that none outlives its test."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: Any) -> subprocess.Popen[str]:
        started.append(start(*arguments))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def one_line(text: str) -> str:
    """Check that a message is one clear line, and give it."""
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("refocus-live: ")
    return lines[0]
