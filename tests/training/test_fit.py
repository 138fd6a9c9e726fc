"""Training: what a run learns, keeps, survives and refuses."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from refocus.configs import RefocusError
from refocus.configs.training import TrainConfig
from refocus.training import fit as fit_module
from refocus.training.fit import fit
from refocus.training.network.checkpoint import build, load_model
from refocus.training.pairs.data import TrainingPairs

Small = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def reference(once: Callable[..., Path]) -> Path:
    """Give the output of a small run that nobody disturbed."""
    from .conftest import make_small  # type: ignore[import-not-found]

    return once("reference", lambda output: fit(make_small(), output, quiet=True))


def test_a_run_leaves_a_model_with_its_card_logs_and_pictures(reference: Path) -> None:
    network, card = load_model(reference / "model.safetensors")
    assert not network.training
    assert (card.name, card.architecture, card.defocus_um) == ("small", "compact", (3.0, 6.0))
    board = EventAccumulator(str(reference / "tensorboard"))
    board.Reload()
    assert board.Tags()["images"] == ["captured, refocused, in focus"]
    assert len(board.Images("captured, refocused, in focus")) == 3
    assert TrainConfig.model_validate_json((reference / "config.json").read_text()).steps == 6
    assert not list(reference.rglob("*.part"))


def run_until(
    config: TrainConfig, folder: Path, step: int, sent: signal.Signals
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that gets a signal in one of its steps."""
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    program = f"""
import os, signal, sys, torch
torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)
from refocus.training import cli, fit
step = fit.Refocusing.training_step
def until(self, batch, number):
    if self.global_step == {step}:
        os.kill(os.getpid(), {sent.value})
    return step(self, batch, number)
fit.Refocusing.training_step = until
sys.argv = ["refocus-train", "fit", "--config", {str(file)!r}]
sys.argv += ["--output", {str(folder / "run")!r}]
cli.main()
"""
    given = [sys.executable, "-c", program]
    return subprocess.run(given, capture_output=True, check=False, text=True)


def test_a_killed_run_goes_on_to_the_same_result(
    small: Small, reference: Path, tmp_path: Path
) -> None:
    killed = run_until(small(), tmp_path, 5, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "run" / "model.safetensors").exists()
    resumed = load_file(fit(small(), tmp_path / "run", resume=True, quiet=True))
    wanted = load_file(reference / "model.safetensors")
    for name, value in wanted.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0, msg=name)
    assert (tmp_path / "run" / "logs" / "resumed1" / "metrics.csv").is_file()


@pytest.mark.parametrize(
    ("sent", "status", "said", "at_step"),
    [(signal.SIGINT, 130, "interrupted", 5), (signal.SIGTERM, 143, "terminated", 0)],
)
def test_a_run_that_is_stopped_says_how_it_goes_on(  # noqa: PLR0917
    small: Small, tmp_path: Path, sent: signal.Signals, status: int, said: str, at_step: int
) -> None:
    stopped = run_until(small(), tmp_path, at_step, sent)
    way = "add --resume to go on from the last checkpoint" if at_step else "nothing was kept yet"
    assert (stopped.returncode, stopped.stderr) == (status, f"refocus-train: {said}; {way}\n")
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_short_run_keeps_its_end_and_a_long_one_its_decay(small: Small) -> None:
    def after(steps: int) -> float:
        module = fit_module.Refocusing(small(steps=steps))
        weight = next(module.network.parameters())
        for value in (0.0, 1.0):
            with torch.no_grad():
                weight.fill_(value)
            module.average.update_parameters(module.network)
        return float(next(module.average.module.parameters()).flatten()[0])

    assert after(50) == pytest.approx(0.1)
    assert after(3000) == pytest.approx(0.002)


@pytest.mark.slow
def test_resnet34_trains_with_the_full_feature_loss(small: Small, tmp_path: Path) -> None:
    config = small(architecture="resnet34", loss="feature", steps=3, checkpoint_every=3)
    torch.manual_seed(config.seed)
    before = build("resnet34").state_dict()
    network, card = load_model(fit(config, tmp_path, quiet=True))
    after = network.state_dict()
    assert card.architecture == "resnet34"
    assert all(torch.isfinite(v).all() for v in after.values())
    assert after["output.correction.weight"].abs().max() > 0
    assert before.keys() == after.keys()


def test_pairs_grow_in_the_last_part_of_a_run(small: Small) -> None:
    pairs = TrainingPairs(small(final_size=96, final_part=0.5))
    sides = [pairs[i]["frame"].shape[-1] for i in range(len(pairs))]
    assert sides == [64] * 6 + [96] * 6


def test_examples_depend_on_the_seed_alone(small: Small) -> None:
    first, again, other = (TrainingPairs(small(seed=s))[3] for s in (1, 1, 2))
    torch.testing.assert_close(first, again, rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(first["frame"], other["frame"])


@pytest.mark.slow
def test_two_processes_share_the_steps_of_one(
    small: Small, reference: Path, tmp_path: Path
) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(yaml.safe_dump(small(devices=2).model_dump(mode="json")))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "refocus.training.cli", "fit"),
            *("--config", str(config), "--output", str(tmp_path / "run")),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    together = load_file(tmp_path / "run" / "model.safetensors")
    # batch statistics are each process's own on a CPU, so the weights are near, not equal
    alone = load_file(reference / "model.safetensors")
    assert together.keys() == alone.keys()
    assert all(torch.isfinite(value).all() for value in together.values())
    assert not list((tmp_path / "run").rglob("*.part"))


def test_processes_take_the_examples_of_one_between_them(
    small: Small,
) -> None:
    def first_epoch(devices: int, rank: int) -> list[float]:
        examples = fit_module.TrainingData(small(devices=devices, batch=4))
        examples.trainer = SimpleNamespace(global_step=0, global_rank=rank)
        return [float(f.sum()) for b in examples.train_dataloader() for f in b["frame"]]

    alone, zero, one = first_epoch(1, 0), first_epoch(2, 0), first_epoch(2, 1)
    assert len(alone) == 8
    assert alone == [value for pair in zip(zero, one, strict=True) for value in pair]


def test_it_refuses_to_resume_nothing_or_another_run_and_to_overwrite(
    small: Small, reference: Path, tmp_path: Path
) -> None:
    with pytest.raises(RefocusError, match="nothing to resume from"):
        fit(small(), tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()
    with pytest.raises(RefocusError, match="was made with 'seed: 0', not 9"):
        fit(small(seed=9, based_on="another", version="9"), reference, resume=True)
    with pytest.raises(RefocusError, match="holds a run already; add --resume"):
        fit(small(), reference)


def test_a_checkpoint_of_another_architecture_is_refused(
    small: Small, reference: Path, tmp_path: Path
) -> None:
    model = reference / "model.safetensors"
    with pytest.raises(RefocusError, match="weights do not fit the network"):
        fit(small(architecture="resnet34", weights=model), tmp_path / "run", quiet=True)
    other = tmp_path / "other.safetensors"
    from safetensors import safe_open

    with safe_open(model, framework="pt") as opened:
        card = opened.metadata()["refocus"].replace('"compact"', '"resnet34"')
    save_file(load_file(model), other, metadata={"refocus": card})
    with pytest.raises(RefocusError, match=r"other.safetensors \(architecture resnet34\)"):
        load_model(other)


def test_a_truncated_run_is_named(small: Small, reference: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    whole = (reference / "run" / "run.safetensors").read_bytes()
    (tmp_path / "run" / "run.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RefocusError, match=r"run\.safetensors: cannot resume from it"):
        fit(small(), tmp_path, resume=True, quiet=True)


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (float("nan"), "the loss became nan at step 0; lower 'learning_rate'"),
        (torch.OutOfMemoryError("CUDA"), "out of memory with batch 2 of 64²; lower 'batch'"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory"),
    ],
)
def test_what_stops_a_run_is_said_in_one_line(
    small: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: float | Exception,
    expected: str,
) -> None:
    def forward(self: torch.nn.Module, pixels: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        if isinstance(what, Exception):
            raise what
        return pixels.sum() * what

    monkeypatch.setattr(fit_module.ImageLoss, "forward", forward)
    with pytest.raises(RefocusError, match=expected) as caught:
        fit(small(), tmp_path, quiet=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model.safetensors").exists()
