"""The model of docs/scale.md, and the command that measures what it is made of."""

import json
import sys
from contextlib import closing
from dataclasses import replace

import pytest

from refocus.bench import cli, rates
from refocus.bench.plan_tables import said_bytes, said_time
from refocus.bench.planning import CAMPAIGN, PLATE, SEEN, SLIDE, Data, Nodes, Rates, plan
from refocus.bench.rates import Sizes, is_on_cores, kinds_of
from refocus.engine import open_engine

ROUND = Rates(
    engine=1e6, engines=2, files=4e6, plane_s=0.01, start_s=3.0, disk_read=1e8, disk_write=5e7
)
SMALL = Data("ten planes of 1000²", 10, 1000)


def test_what_is_done_by_the_cores_is_shared_by_them() -> None:
    found = plan(SMALL, Nodes("here", ROUND))
    command = 10e6 / 4e6 + 10 * 0.01
    assert found.parts == {
        "engine": pytest.approx((10 + command) / 2),
        "command": pytest.approx(command),
        "disk": pytest.approx(40e6 / 1e8 + 40e6 / 5e7),  # source and kept; kept and result
    }
    assert found.seconds == pytest.approx(3 + (10 + command) / 2)
    assert (found.result_bytes, found.kept_bytes) == (20e6, 20e6)


def test_a_large_plane_is_seen_with_what_lies_around_and_read_once_more() -> None:
    slide = Data("slide", 1, 10_000, levels=True)
    found = plan(slide, Nodes("here", replace(ROUND, on_cores=False, engines=1)))
    assert found.parts["engine"] == pytest.approx(100 * SEEN)
    assert found.parts["disk"] == pytest.approx(6e8 / 1e8 + (2e8 + 2e8 * 4 / 3) / 5e7)
    assert found.result_bytes == pytest.approx(2e8 * 4 / 3)


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({}, "engine"),
        ({"engine": 1e9, "engines": 1, "on_cores": False}, "command"),
        ({"disk_write": 1e6}, "disk"),
    ],
)
def test_the_slowest_decides(changes: dict[str, float], limit: str) -> None:
    assert plan(SMALL, Nodes("here", replace(ROUND, **changes))).limit == limit  # type: ignore[arg-type]


def test_nodes_share_the_work_but_not_the_command_of_one_data_set() -> None:
    alone, many = Nodes("one", ROUND), Nodes("32", ROUND, 32, network=1e12)
    one, by_many = plan(SMALL, alone), plan(SMALL, many)
    assert by_many.parts["engine"] == pytest.approx(one.parts["engine"] / 32)
    assert by_many.parts["command"] == one.parts["command"]
    assert by_many.limit == "command"
    sets = replace(SMALL, sets=64)
    assert plan(sets, many).seconds == pytest.approx(plan(sets, alone).seconds / 32)
    assert plan(sets, many).kept_bytes == 32 * one.kept_bytes
    assert plan(sets, replace(many, network=1e6)).limit == "network"


def test_the_campaign_is_a_thousand_plates_and_a_gpu_takes_no_core() -> None:
    here, with_gpu, many = kinds_of(ROUND, 1e9)
    assert PLATE.planes == 13_824
    assert plan(CAMPAIGN, here).seconds == pytest.approx(1000 * plan(PLATE, here).seconds)
    assert not with_gpu.rates.on_cores
    assert plan(SLIDE, with_gpu).seconds < plan(SLIDE, here).seconds
    assert many.count == 32


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (said_time(0.5), "0.5 s"),
        (said_time(119), "119 s"),
        (said_time(600), "10 min"),
        (said_time(9000), "2.5 h"),
        (said_time(1e6), "11.6 days"),
        (said_bytes(2.5e6), "2.5 MB"),
        (said_bytes(2e9), "2 GB"),
        (said_bytes(1.16e14), "116 TB"),
    ],
)
def test_figures_are_said_in_units_of_people(said: str, text: str) -> None:
    assert said == text


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["refocus-bench", *words])
    monkeypatch.setattr(rates, "QUICK", Sizes(slide=300, check=300, wells=6, field=32, disk_mb=1))
    return cli._main()


def test_the_command_measures_plans_and_checks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("scale", "--quick", "--engine", "fake", "--network", "100")
    assert command(monkeypatch, *words, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["rates"]["network"] == 1e8
    assert all(said["rates"][name] > 0 for name in ("engine", "files", "plane_s", "disk_read"))
    assert [one["data"] for one in said["plans"]] == [
        one.name for one in (SLIDE, PLATE, CAMPAIGN) for _ in range(3)
    ]
    assert [one["data"] for one in said["checks"]] == ["slide, 300²", "plate, 6 planes of 32²"]
    for one in said["checks"]:
        assert one["ratio"] == one["seconds"] / one["predicted_s"] > 0


def test_the_command_prints_where_each_rate_is_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "scale", "--quick", "--engine", "fake") == 0
    printed = capsys.readouterr().out
    for text in ("measured here", "docs/gpu.md", "told: --network", "1,000 such plates", "limit"):
        assert text in printed


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--quick", "scale"), "options of scale stand behind it"),
        (("scale", "--network", "0"), "--network"),
        (("scale", "--quick", "--engine", "none"), "engine 'none': not known"),
    ],
)
def test_bad_input_is_told_in_one_line(
    words: tuple[str, ...],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(monkeypatch, *words) == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("engine", "device"), [("fake", None), ("openvino", None), ("torch", "cpu"), ("auto", "cpu")]
)
def test_an_engine_on_the_processor_is_on_its_cores(engine: str, device: str | None) -> None:
    with closing(open_engine(engine, device=device)) as opened:
        assert is_on_cores(opened.info)
        assert not is_on_cores(replace(opened.info, device="NVIDIA H200"))
