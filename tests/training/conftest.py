"""What tests of training share: small runs, and one trained model."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from refocus.configs.training import SimulationConfig, TrainConfig
from refocus.training import cli


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Leave the machine to the other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small() -> Callable[..., TrainConfig]:
    """Give a maker of runs that take seconds."""
    return make_small


def make_small(**changes: Any) -> TrainConfig:
    simulation = SimulationConfig(
        synthetic=3,
        synthetic_size=96,
        kinds={"nuclei": 1.0},
        psfs=4,
        defocus_um=(3.0, 6.0),
        near_um=(3.0, 6.0),
    )
    settings: dict[str, Any] = {
        "name": "small",
        "training_data": "a test",
        "steps": 6,
        "batch": 2,
        "size": 64,
        "checkpoint_every": 2,
        "simulation": simulation,
    }
    return TrainConfig(**{**settings, **changes})


def run_command(*arguments: object) -> int:
    """Run ``refocus-train`` in this process, and give its exit status."""
    before = sys.argv
    sys.argv = ["refocus-train", *map(str, arguments)]
    try:
        return cli._main()
    finally:
        sys.argv = before


@pytest.fixture(scope="session")
def command() -> Callable[..., int]:
    """Give :func:`run_command`."""
    return run_command


@pytest.fixture(scope="session")
def trained(once: Callable[..., Path]) -> Path:
    """Train the shipped preset for fifty steps, as the README does, and give the model."""
    preset = Path(__file__).parents[2] / "configs" / "train" / "simulated-nuclei-compact.yaml"

    def train(output: Path) -> None:
        assert run_command("fit", "--config", preset, "--max-steps", 50, "--output", output) == 0

    return once("nuclei", train) / "model.safetensors"
