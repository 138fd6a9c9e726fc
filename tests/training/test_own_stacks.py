"""Own z-stacks: the model that ships is tuned to them, and judged on those it never saw."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml

from refocus.configs import ModelCard, Optics, RefocusError
from refocus.configs.presets import find_config
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.shipped import shipped_models
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import defocus
from refocus.optics.specimens import nuclei
from refocus.training.judging.hard_sets import SIDE, calibration_frames
from refocus.training.judging.measured_windows import measured_frames
from refocus.training.network.checkpoint import build, load_model
from refocus.training.pairs.measured import MeasuredField
from refocus.training.start import first_weights

Command = Callable[..., int]
OPTICS = Optics(na=0.75, pixel_size_um=0.325, emission_um=0.52)
DISTANCES = (-4.0, -2.0, 0.0, 2.0, 4.0, 6.0)


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stacks")
    for number in range(3):
        rng = np.random.default_rng(number)
        light = nuclei((128, 128), rng, count=40, radius_um=(4.0, 6.0)) * 3000 + 50
        planes = [CameraModel().expose(defocus(light, OPTICS, z), rng) for z in DISTANCES]
        metadata = {"axes": "ZYX", "spacing": 2.0, "unit": "um"}
        tifffile.imwrite(folder / f"{number}.tif", np.stack(planes), imagej=True, metadata=metadata)
    return folder


def configured(stacks: Path, file: Path, held_out: int | None) -> Path:
    """Change the preset as its reader is told to."""
    settings = yaml.safe_load(find_config("own-stack").read_text(encoding="utf-8"))
    settings["optics"] |= OPTICS.model_dump(include={"na", "pixel_size_um", "emission_um"})
    settings["stacks"][0] |= {"folder": str(stacks), "held_out": held_out}
    settings |= {"steps": 2, "batch": 2, "size": 64, "workers": 0}
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def tuned(stacks: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    config = configured(stacks, folder / "mine.yaml", 0)
    assert command("fit", "--config", config, "--output", folder / "run") == 0
    return folder / "run" / "model.safetensors"


def test_it_starts_from_the_model_that_ships(tuned: Path) -> None:
    network, card = load_model(tuned)
    shipped = OpenVinoEngine(shipped_models()["refocus-compact"], precision="f32")
    frame = np.random.default_rng(0).normal(0.3, 0.2, (1, 1, 64, 96)).astype(np.float32)
    wanted = shipped.outputs((frame[0, 0] * 4000 + 1000).clip(0, 65535).astype(np.uint16))
    shipped.close()
    start = build("compact")
    start.load_state_dict(first_weights(Path("refocus-compact"), start))
    with torch.inference_mode():
        before = start.eval()(torch.from_numpy(wanted[0].seen[None, None])).pixels[0, 0].numpy()
        after = network(torch.from_numpy(wanted[0].seen[None, None])).pixels[0, 0].numpy()
    np.testing.assert_allclose(before, wanted[1].refocused, atol=1e-4)
    change = np.abs(after - before).mean()
    assert 0 < change < 0.2 * np.abs(before - wanted[0].seen).mean()  # two small steps from there
    assert card.optics.na == OPTICS.na


def test_its_card_says_how_far_the_stacks_reach(tuned: Path) -> None:
    _, card = load_model(tuned)
    assert card.defocus_um == (2.0, 6.0)


def test_it_is_judged_on_the_stacks_held_out(
    tuned: Path, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("evaluate", tuned, "--output", tmp_path) == 0
    shown = capsys.readouterr().out
    assert "judged on 5 planes of the stacks held out: 0.tif" in shown
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    planes = ["-4 µm", "-2 µm", "+2 µm", "+4 µm", "+6 µm"]
    assert [group["plane"] for group in metrics["planes"]] == planes
    assert [group["richardson_lucy_um"] for group in metrics["planes"]] == [-4, -2, 2, 4, 6]
    assert "judged on 5 planes" in (tmp_path / "table.md").read_text()


def test_a_stack_that_came_later_does_not_move_what_is_judged(
    tuned: Path, stacks: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    later = stacks / "-1.tif"
    later.write_bytes((stacks / "1.tif").read_bytes())
    splits = [[], ["--split", tuned.parents[1] / "mine.yaml"]]
    try:
        for split in splits:
            assert command("evaluate", tuned, *split) == 0
            assert "judged on 5 planes of the stacks held out: 0.tif" in capsys.readouterr().out
        (stacks / "0.tif").rename(stacks / "0.gone")
        assert command("evaluate", tuned) == 2
        assert "0.tif, which the run held out, is missing" in capsys.readouterr().err
    finally:
        later.unlink()
        (stacks / "0.gone").rename(stacks / "0.tif")


def test_a_stack_that_cannot_be_judged_on_is_told_of_before_the_first_step(
    stacks: Path, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in stacks.iterdir():
        (tmp_path / file.name).write_bytes(
            file.read_bytes()[: 5000 if file.name == "0.tif" else None]
        )
    config = configured(tmp_path, tmp_path / "mine.yaml", 0)
    assert command("fit", "--config", config, "--output", tmp_path / "run") == 2
    assert "0.tif: " in capsys.readouterr().err
    assert not (tmp_path / "run" / "run").exists()


def test_where_none_is_held_out_it_says_so_in_one_line(
    tuned: Path,
    stacks: Path,
    command: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = configured(stacks, tmp_path / "all.yaml", None)
    assert command("evaluate", tuned, "--split", config) == 2
    message = capsys.readouterr().err
    assert "every stack of" in message
    assert "set 'held_out: 0' and train again" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("any-objective", "is of another 'architecture' than this run"),
        ("refocus-compct", "no such checkpoint, nor a model; models: any-objective, refocus-comp"),
        ("nowhere.onnx", "nowhere.onnx: no such model"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights: str, expected: str) -> None:
    with pytest.raises(RefocusError, match=expected):
        first_weights(Path(weights), build("compact"))


def test_small_fields_are_mirrored_to_the_size_that_is_calibrated_on() -> None:
    pixels = np.random.default_rng(0).integers(100, 4000, (90, 70)).astype(np.uint16)
    frames = list(measured_frames([MeasuredField("a", lambda: (pixels, pixels), 4.0)], 0))
    assert {f.frame.shape for f in frames} == {(SIDE, SIDE)}
    np.testing.assert_array_equal(frames[0].frame[:90, :70], pixels)
    np.testing.assert_array_equal(frames[0].frame[89], frames[0].frame[90])


def card(**changes: object) -> ModelCard:
    said = {"name": "mine", "version": "1", "architecture": "compact", "optics": OPTICS}
    said |= {"defocus_um": (2.0, 6.0), "training_data": "stacks", "licence": "none"}
    return ModelCard(**{**said, **changes})  # type: ignore[arg-type]


def test_frames_to_calibrate_on_stay_within_what_the_objective_can_do() -> None:
    immersed = card(optics=Optics(na=1.2, immersion_index=1.333, pixel_size_um=0.512))
    drawn = [f for f in calibration_frames(immersed, 30, seed=0) if f.familiar]
    assert drawn
    assert all(np.isfinite(f.frame).all() and np.ptp(f.frame) > 0 for f in drawn)
    assert max(abs(f.distance_um) for f in drawn) <= 6.0


def test_a_card_without_distances_cannot_be_calibrated() -> None:
    with pytest.raises(RefocusError, match="does not say how far from focus it was trained"):
        next(calibration_frames(card(defocus_um=(0.0, 0.0)), 60, seed=0))
