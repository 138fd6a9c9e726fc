import json
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from refocus.bench import busy as bench_busy
from refocus.bench import cli as bench
from refocus.bench import rows as bench_rows
from refocus.bench import transports as bench_transports
from refocus.bench.busy import BARE_SIDE, BusyRow, Keeping, measure_busy
from refocus.bench.calibrated_engine import CalibratedEngine, Unattached, rounds_per_second
from refocus.bench.figures import figures
from refocus.bench.markdown import BEGIN, END, write_markdown
from refocus.bench.rows import Case, HookRow, Plan, as_json, measure_hooks
from refocus.bench.transports import Sending, TransportRow, measure_transports
from refocus.bench.ways import WAYS, Acquired, BenchMicroscope, acquire
from refocus.configs import RefocusError

HOOK_KEYS = ["name", "frame", "sequencing", "paced", "load", "fps", "ratio", "lost"]
HOOK_KEYS += ["latency_p50_ms", "latency_p99_ms", "callback_p99_us", "peak_mb"]

SPEED = 1e5
"""Rounds of work per second: far too few, so that the engine is fast in tests."""

TINY = Plan(
    sides=(64,), loads=(1.0,), frames=5, runs=2, least_runs=1, brief_seconds=0.0, seconds=0.0
)
FEW = Sending(sides=(64,), frames=4, runs=1)
BRIEF = Keeping(cases=((64, 0.75), (BARE_SIDE, 1.0)), engine_ms=2.0, frames=20)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Let there be a camera of 64 x 64 pixels, and an engine that is measured in no time."""
    monkeypatch.setitem(bench_rows.FPS, 64, 500.0)
    for module in (bench_rows, bench_transports):
        monkeypatch.setattr(module, "rounds_per_second", lambda: SPEED)


@pytest.mark.parametrize("hardware", [True, False], ids=["hardware", "software"])
@pytest.mark.parametrize("name", WAYS)
def test_every_way_refocuses_what_the_acquisition_delivers(name, hardware):
    engine = CalibratedEngine(0.001, SPEED)
    threads = threading.active_count()
    with BenchMicroscope(64, fps=300.0) as microscope:
        microscope.warm_up(10)
        outcome = acquire(
            microscope, WAYS[name], engine, frames=12, hardware=hardware, period_s=1 / 300
        )
    assert threading.active_count() == threads
    assert outcome.missing == 0
    assert outcome.fps > 0
    assert len(outcome.callback_us) == 12
    assert min(outcome.callback_us) >= 0
    assert outcome.peak_mb > 1
    assert outcome.refocused == len(outcome.latency_ms)
    if name == "none":
        assert outcome.refocused == 0
    elif name == "refocus":
        assert 1 <= outcome.refocused <= 12  # the newest are refocused, the rest dropped
    else:
        assert outcome.refocused == 12
    assert all(ms > 0 for ms in outcome.latency_ms)
    assert bool(outcome.took_ms) is (name in ("none", "refocus"))


@pytest.mark.alone
def test_a_way_that_lets_the_ring_overflow_loses_frames_and_ours_does_not():
    engine = CalibratedEngine(0.01, rounds_per_second(0.1))
    with BenchMicroscope(64, fps=1000.0) as microscope:
        microscope.core.setCircularBufferMemoryFootprint(1)  # 128 frames
        outcomes = {
            name: acquire(microscope, WAYS[name], engine, frames=200, hardware=True, period_s=0.001)
            for name in ("callback", "refocus")
        }
    assert outcomes["callback"].missing > 0
    assert outcomes["refocus"].missing == 0


def test_the_engine_computes_without_the_gil_and_leaves_the_frame_alone():
    engine = CalibratedEngine(0.5, rounds_per_second(0.1))
    frame = np.arange(12, dtype=np.uint16).reshape(3, 4)
    frame.flags.writeable = False
    thread = threading.Thread(target=engine.refocus, args=(frame,))
    thread.start()
    assert thread.is_alive()  # with the GIL, this line would wait for the end of it
    thread.join()
    refocused = CalibratedEngine(0.0, SPEED).refocus(frame)
    assert (refocused.shape, refocused.dtype) == ((3, 4), np.uint16)
    assert engine.info.describe()["name"] == "calibrated"
    engine.close()


@pytest.mark.parametrize("period_s", [1e-4, 10.0])
def test_the_unattached_engine_works_until_it_is_stopped(period_s):
    threads = threading.active_count()
    with Unattached(CalibratedEngine(0.001, SPEED), period_s) as unattached:
        while not unattached.took_ms:
            pass
    assert threading.active_count() == threads
    assert min(unattached.took_ms) > 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets an earlier peak")
def test_peak_memory_is_of_what_was_measured():
    told = subprocess.run(  # in a process that has nothing else to give back meanwhile
        [sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True
    )
    before, during = map(float, told.stdout.split())
    assert 40 < during - before < 200


PEAKS = """
import numpy as np
from refocus.bench.calibrated_engine import PeakMemory

before, during = PeakMemory(), PeakMemory()
with before.measured():
    pass
with during.measured():
    np.ones(64_000_000, np.uint8)
print(before.mb, during.mb)
"""


def outcome(fps=100.0, missing=0, refocused=50):
    return Acquired(
        fps=fps,
        missing=missing,
        latency_ms=[3.0] * refocused,
        callback_us=[10.0] * (100 - missing),
        peak_mb=200.0,
        took_ms=[20.0],
        refocused=refocused,
        seconds=1.0,
    )


def test_a_row_is_the_median_of_its_runs_and_lost_the_worst_beyond_none():
    rounds = [
        {"none": outcome(100, 0), "callback": outcome(50, 1)},
        {"none": outcome(80, 7), "callback": outcome(60, 9)},
        {"none": outcome(90, 5), "callback": outcome(63, 5)},
    ]
    row = bench_rows._row(Case(64, "hardware", True, 2.0), "callback", rounds)
    assert (row.fps, row.ratio, row.lost, row.runs) == (60, 0.7, 2, 3)
    assert row.busy == 1.0  # 50 frames of 20 ms in a second
    none = bench_rows._row(Case(64, "hardware", True, 2.0), "none", rounds)
    assert (none.fps, none.ratio, none.lost) == (90, 1.0, 0)
    assert none.latency_p50_ms == 20.0  # the engine's own time


@pytest.mark.parametrize(
    ("plan", "period_s", "frames"),
    [(Plan(), 0.01, 300), (Plan(run_seconds=0.2), 0.01, 30), (Plan(run_seconds=0.2), 0.002, 100)],
)
def test_a_quick_run_takes_fewer_frames_of_a_slow_camera(plan, period_s, frames):
    assert plan.frames_at(period_s) == frames


@pytest.mark.parametrize(
    ("made", "spent_s", "left_s", "enough"),
    [
        (2, 100.0, 50.0, False),  # fewer than the least
        (3, 45.0, 50.0, True),  # another would take longer than what is left
        (4, 30.0, 50.0, False),
        (5, 30.0, 50.0, True),
        (5, 1.0, 50.0, False),  # soon over, so more often
        (24, 4.8, 50.0, False),
        (25, 5.0, 50.0, True),
        (20, 7.9, 50.0, True),
    ],
)
def test_acquisitions_are_repeated_as_the_time_allows(made, spent_s, left_s, enough):
    assert Plan().enough(made, spent_s, left_s) is enough


def test_transports_carry_every_frame_to_another_process():
    rows = {row.name: row for row in measure_transports(FEW)}
    assert rows.keys() <= bench_transports.TRANSPORTS.keys()
    assert {"tcp", "shared-memory", "publisher-tcp", "publisher-shared-memory"} <= rows.keys()
    for name, row in rows.items():
        assert row.lost == 0
        assert row.gb_per_s == pytest.approx(row.fps * 64 * 64 * 2 / 1e9)
        assert row.latency_p50_ms <= row.latency_p99_ms
        assert row.ratio == 1.0 or name.startswith("publisher")


def test_an_engine_that_overlaps_has_several_frames_under_way_and_every_result_is_read():
    rows = measure_busy(BRIEF)
    assert [(row.frame, row.trusted) for row in rows] == list(BRIEF.cases)
    for row in rows:
        assert row.under_way == 3
        assert row.published == row.received == bench_busy.WARM + BRIEF.frames
        assert 0 < row.busy <= 1
        assert 0 < row.alone <= 1
        assert row.worker_ms > 0


def busy_row(frame, busy, worker_ms):
    return BusyRow(frame, 1.0, 5.0, busy, 1.0, worker_ms, 3, 9, 9)


def hook_row(name, ratio, *, paced=True, callback_p99_us=30.0, busy=1.0, lost=0):
    times = {"latency_p50_ms": 1.0, "latency_p99_ms": 2.0, "peak_mb": 200.0, "refocused": 9}
    case = {"frame": 64, "sequencing": "hardware", "paced": paced, "load": 2.0}
    values = {"callback_p99_us": callback_p99_us, "busy": busy, "lost": lost, "runs": 5}
    return HookRow(name=name, fps=100 * ratio, ratio=ratio, **case, **values, **times)


def transport_row(name, ratio, gb_per_s):
    return TransportRow(name, 64, 1.0, 2.0, ratio, 100.0, gb_per_s, 0)


def test_a_reader_that_does_not_come_is_told_at_once(monkeypatch):
    monkeypatch.setattr(bench_transports, "TRANSPORTS", {"tcp": ("no such kind", "tcp")})
    with pytest.raises(RefocusError, match="reader does not come"):
        measure_transports(FEW)


def test_figures_are_met_or_missed():
    hooks = [
        hook_row("none", 1.0),
        hook_row("refocus", 0.995),
        hook_row("refocus", 0.9, paced=False, callback_p99_us=500.0, busy=0.96),
        hook_row("output", 0.8, paced=False),
    ]
    transports = [
        transport_row("tcp", 1.0, 2.0),
        transport_row("shared-memory", 1.0, 7.0),
        transport_row("publisher-tcp", 1.2, 2.0),
        transport_row("publisher-shared-memory", 1.4, 6.5),
    ]
    kept = [busy_row(2048, 0.96, 2.0), busy_row(BARE_SIDE, 0.9, 0.4)]
    assert all(figure.met for figure in figures(hooks, transports, kept))
    worse = [
        hook_row("refocus", 0.98, callback_p99_us=101.0, busy=0.9, lost=1),
        hook_row("refocus", 0.84, paced=False, busy=0.9),
        hook_row("callback", 0.85, paced=False),
    ]
    slow = [
        transport_row("tcp", 1.0, 2.0),
        transport_row("shared-memory", 1.0, 5.0),
        transport_row("publisher-tcp", 1.6, 2.0),
        transport_row("publisher-shared-memory", 1.0, 5.0),
    ]
    idle = [busy_row(2048, 0.94, 2.0), busy_row(BARE_SIDE, 1.0, 0.6)]
    found = figures(worse, slow, idle)
    assert len(found) == len(figures(hooks, transports, kept)) == 12
    assert not any(figure.met for figure in found)
    assert figures([], [], []) == []


def test_markdown_replaces_what_is_between_its_marks_and_no_more(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text(f"# Speed\n\n{BEGIN}\nold\n{END}\n\nThe rest.\n")
    hooks = [hook_row("none", 1.0), hook_row("refocus", 0.98)]
    for row in (transport_row("tcp", 1.0, 2.0), transport_row("ipc", 1.0, 3.0)):
        busy = [busy_row(2048, 0.96, 2.0)]
        write_markdown(page, hooks, [row], busy, command="refocus-bench", seconds=61.4)
    text = page.read_text()
    assert text.startswith(f"# Speed\n\n{BEGIN}\n```sh\nrefocus-bench    # took 61 s\n```\n")
    assert text.endswith(f"{END}\n\nThe rest.\n")
    assert "old" not in text
    assert "| `tcp` |" not in text
    assert "| `ipc` | 64² | 1.00 / 2.00 | 1.00 | 3.00 | 0 |" in text
    assert "| 64² | 2 | **`refocus`** | 98 | 0.980 | 0 | 1.0 / 2.0 | 30 | 200 | 1.00 | 5 |" in text
    assert "≥ 0.99 | 0.980 | missed |" in text
    assert "| 2048² | 1.00 | 0.960 | 1.000 | 2.00 | 3 | 9 of 9 |" in text
    lines = text.splitlines()
    tables = [line.count("|") for line in lines if line.startswith("|")]
    assert all(count > 4 for count in tables)


def command(monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", ["refocus-bench", *map(str, args)])
    return bench._main()


def every_way_has_a_row_in_every_case(rows, told):
    cases = [("hardware", False), ("software", False), ("hardware", True), ("software", True)]
    assert [(row.sequencing, row.paced) for row in rows[::5]] == cases
    assert [row.name for row in rows] == list(WAYS) * 4
    for row in rows:
        assert list(as_json(row)) == HOOK_KEYS
        assert (row.frame, row.load, row.runs) == (64, 1.0, 1)
        assert row.fps > 0
        assert row.ratio == 1.0 or row.name != "none"
        assert 0 < row.latency_p50_ms <= row.latency_p99_ms
    assert told[-1] == ("64² software paced, load 1", 0.75)


def test_the_command_measures_every_way_writes_the_rows_and_draws_them(
    monkeypatch, tmp_path, capsys
):
    def measured(plan, tell):
        told = []
        rows = measure_hooks(plan, lambda *said: (told.append(said), tell(*said)))
        every_way_has_a_row_in_every_case(rows, told)
        return rows

    monkeypatch.setattr(bench_rows, "measure_hooks", measured)
    monkeypatch.setattr(bench_rows, "QUICK", TINY)
    monkeypatch.setattr(bench_transports, "QUICK", FEW)
    monkeypatch.setattr(bench_busy, "QUICK", BRIEF)
    names = ("tcp", "publisher-tcp")
    some = {name: bench_transports.TRANSPORTS[name] for name in names}
    monkeypatch.setattr(bench_transports, "TRANSPORTS", some)
    rows, plot, page = (tmp_path / f"bench.{kind}" for kind in ("json", "png", "md"))
    args = ("--json", rows, "--plot", plot, "--markdown", page)
    assert command(monkeypatch, "--quick", *args) == 0
    assert page.read_text().count("thread-per-frame") == 4
    content = json.loads(rows.read_text())
    assert content.keys() == {"hooks", "transports", "busy"}
    assert all(list(row) == HOOK_KEYS for row in content["hooks"])
    assert {row["name"] for row in content["hooks"]} == set(WAYS)
    with Image.open(plot) as picture:
        assert picture.format == "PNG"
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 4
    printed = capsys.readouterr().out
    for text in ("Ways of hooking", "thread-per-frame", "publisher-tcp", "Figures to reach"):
        assert text in printed


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--only", "nothing"], "--only nothing: not known; choose hooks, transports, busy"),
        (["--json", "no/such/folder/x.json"], "no/such/folder/x.json: there is no such folder"),
        (["--markdown", "README.md"], "README.md: exists, and has no lines <!-- refocus-bench -->"),
        (["--slow"], "No such option: --slow"),
    ],
)
def test_bad_input_is_told_in_one_line(monkeypatch, capsys, args, says):
    assert command(monkeypatch, *args) == 2
    told = capsys.readouterr().err
    assert told.startswith("refocus-bench: ")
    assert says in told
    assert told.count("\n") == 1
