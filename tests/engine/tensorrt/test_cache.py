"""Plans on disk: what is loaded, and what is built again."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from refocus.engine import EngineError
from refocus.engine.cache_folder import cache_folder
from refocus.engine.tensorrt.cache import cache_key, cached_plan, read_plan

DESCRIPTION = {"model_sha256": "ab", "runtime": "tensorrt-rtx", "profile": [[1, 64, 64]]}


class Builder:
    """Counts what it builds."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> bytes:
        self.count += 1
        return b"plan %d" % self.count


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def _plan(folder: Path) -> Path:
    return folder / f"{cache_key(DESCRIPTION)}.plan"


def test_built_once(folder: Path) -> None:
    build = Builder()
    assert cached_plan(DESCRIPTION, build, folder) == b"plan 1"
    assert cached_plan(DESCRIPTION, build, folder) == b"plan 1"
    assert build.count == 1
    assert cached_plan({**DESCRIPTION, "driver": "13.0"}, build, folder) == b"plan 2"
    assert sorted(p.suffix for p in folder.iterdir()) == [".json", ".json", ".plan", ".plan"]


def test_folder_and_files_are_the_users_alone(folder: Path) -> None:
    cached_plan(DESCRIPTION, Builder(), folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in folder.iterdir()} == {0o600}


def _plan_altered(plan: Path, beside: Path) -> None:
    plan.write_bytes(b"something else")


def _plan_cut(plan: Path, beside: Path) -> None:
    plan.write_bytes(plan.read_bytes()[:3])


def _json_missing(plan: Path, beside: Path) -> None:
    beside.unlink()


def _json_cut(plan: Path, beside: Path) -> None:
    beside.write_text(beside.read_text()[:20])


def _json_no_object(plan: Path, beside: Path) -> None:
    beside.write_text("[]")


def _json_deep(plan: Path, beside: Path) -> None:
    beside.write_text("[" * 100_000)


def _json_a_pipe(plan: Path, beside: Path) -> None:
    beside.unlink()
    os.mkfifo(beside)


def _json_altered(plan: Path, beside: Path) -> None:
    described = json.loads(beside.read_text())
    beside.write_text(json.dumps({**described, "model_sha256": "cd"}))


def _json_with_more(plan: Path, beside: Path) -> None:
    described = json.loads(beside.read_text())
    beside.write_text(json.dumps({**described, "trusted": True}))


def _others_may_write(plan: Path, beside: Path) -> None:
    plan.chmod(0o666)


@pytest.mark.parametrize(
    "damage",
    [
        _plan_altered,
        _plan_cut,
        _json_missing,
        _json_cut,
        _json_no_object,
        _json_deep,
        _json_a_pipe,
        _json_altered,
        _json_with_more,
        _others_may_write,
    ],
)
def test_what_does_not_match_is_built_again(
    folder: Path, damage: Callable[[Path, Path], None]
) -> None:
    build = Builder()
    cached_plan(DESCRIPTION, build, folder)
    plan = _plan(folder)
    damage(plan, plan.with_name(plan.name + ".json"))
    with pytest.raises(EngineError):
        read_plan(plan, DESCRIPTION)
    assert cached_plan(DESCRIPTION, build, folder) == b"plan 2"
    assert cached_plan(DESCRIPTION, build, folder) == b"plan 2"


def test_another_users_plan_is_built_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = Builder()
    cached_plan(DESCRIPTION, build, folder)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(EngineError, match="belongs to another user"):
        read_plan(_plan(folder), DESCRIPTION)
    with pytest.raises(EngineError, match="REFOCUS_CACHE"):
        cached_plan(DESCRIPTION, build, folder)
    assert build.count == 1


def test_folder_that_others_may_write_to_is_refused(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(EngineError, match="chmod go-w"):
        cached_plan(DESCRIPTION, Builder(), folder)


def test_interrupted_build_leaves_nothing(folder: Path) -> None:
    def interrupted() -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_plan(DESCRIPTION, interrupted, folder)
    assert list(folder.iterdir()) == []


def test_full_disk_gives_the_plan_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert cached_plan(DESCRIPTION, Builder(), folder) == b"plan 1"
    assert "No space left on device" in caplog.text
    assert list(folder.iterdir()) == []


def test_folder_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REFOCUS_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
