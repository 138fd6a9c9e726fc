"""A compiled network is taken where it is the same and faster; otherwise the log says why not."""

import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from refocus.engine.torch.compiled import compile_network, fastest, why_not

EXAMPLE = torch.linspace(-1, 1, 32 * 48).reshape(1, 1, 32, 48)


@pytest.fixture
def small() -> nn.Module:
    """Give a network of what the large ones are made of."""
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)
    return nn.Sequential(*layers, nn.PixelShuffle(2)).eval()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what is compiled in a folder of the test's own."""
    monkeypatch.setenv("REFOCUS_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "torch"))
    return tmp_path / "torch"


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_what_is_compiled_is_the_same_and_kept(small: nn.Module, folder: Path) -> None:
    with torch.inference_mode():
        given = compile_network(small)(EXAMPLE)
        wanted = small(EXAMPLE)

    torch.testing.assert_close(given, wanted)
    assert list(folder.rglob("*.so")), "kept for the next run"


def test_every_size_of_a_run_is_compiled_however_many_there_are(
    small: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    with torch.inference_mode():
        for width in range(32, 32 + 10):
            compile_network(small)(torch.zeros(1, 1, 32, width))


def test_a_network_that_cannot_be_compiled_runs_as_it_is(
    small: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    def asks(pixels: Tensor) -> Tensor:
        return small(pixels) * (2.0 if pixels.sum().item() > 1e9 else 1.0)

    assert fastest(asks, EXAMPLE) is asks

    warned = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warned) == 1
    assert warned[0].startswith("the network runs step by step for 32×48: ")
    assert "\n" not in warned[0]


@pytest.mark.parametrize("name", ["torch", "elsewhere"])
def test_a_folder_of_others_is_not_compiled_into(
    small: nn.Module,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    folder = tmp_path / name
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
    folder.mkdir()
    folder.chmod(0o777)

    assert fastest(small, EXAMPLE) is small

    assert "other users may write to it" in caplog.text


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda given: given + 1.0, "gives something else"),
        (lambda given: given * float("nan"), "gives something else"),
        (lambda given: [given.sort().values for _ in range(300)] and given, "no faster"),
    ],
)
def test_what_differs_or_is_slower_is_not_taken(small: nn.Module, other, words: str) -> None:
    with torch.inference_mode():
        why = why_not(small, lambda pixels: other(small(pixels)), EXAMPLE)

    assert words in why
