"""The recipe of the model that ships, for a minute: it learns to use what filters make of it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from refocus.configs.light_path import LightPath
from refocus.configs.training import ObjectivesConfig, SimulationConfig, TrainConfig
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.refocuser import Refocuser
from refocus.engine.shipped import shipped_models
from refocus.optics.transfer import blur_of
from refocus.training.fit import fit
from refocus.training.judging.objectives import OBJECTIVES, RUN, Case, examples, quality
from refocus.training.network.checkpoint_engine import CheckpointEngine

FRAMES = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network after a minute of training."""
    config = TrainConfig(
        name="a minute",
        training_data="synthetic specimens",
        architecture="compact-told",
        steps=160,
        batch=6,
        size=96,
        learning_rate=2e-3,
        loss="psnr+ssim",
        checkpoint_every=80,
        average=0.9,
        simulation=SimulationConfig(
            synthetic=32,
            kinds={"nuclei": 1, "filaments": 1, "membranes": 1, "tissue": 1},
            objectives=ObjectivesConfig(light_paths=48, exact_fraction=0.8, near_fraction=0.2),
        ),
    )
    return fit(config, tmp_path_factory.mktemp("run"), quiet=True)


@pytest.mark.parametrize("case", OBJECTIVES[1:4], ids=lambda case: case.name)
def test_it_beats_doing_nothing_on_other_objectives(model: Path, case: Case) -> None:
    optics = case.optics
    told = LightPath(
        optics.pixel_size_um,
        optics.na,
        optics.immersion_index,
        optics.emission_um,
        (blur_of(optics, case.defocus_um),),
    )
    refocuser = Refocuser(CheckpointEngine(model))
    gains = [
        quality(example, refocuser.refocus(example.frame, light_path=told).pixels)
        - quality(example, example.frame)
        for example in examples(case, FRAMES)
    ]
    assert np.mean(gains) > 0.3


@pytest.fixture(scope="module")
def shipped() -> Iterator[OpenVinoEngine]:
    engine = OpenVinoEngine(shipped_models()["any-objective"], precision="f32")
    yield engine
    engine.close()


@pytest.mark.parametrize("case", OBJECTIVES[:4], ids=lambda case: case.name)
def test_what_ships_leaves_frames_in_focus_as_good_as_they_are(
    shipped: OpenVinoEngine, case: Case
) -> None:
    in_focus, run = case.nearer(0), Refocuser(shipped, on_distrust="refocused")
    assert in_focus.name.endswith(", 0 µm")
    for number, example in enumerate(examples(in_focus, RUN + FRAMES)):
        given = run.refocus(example.frame).pixels
        if number >= RUN:
            assert quality(example, given) > quality(example, example.frame) - 0.2
