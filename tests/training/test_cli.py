"""The command, from a preset to a table."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refocus.configs import RefocusError
from refocus.configs.presets import load_train_config, preset_files
from refocus.training.judging import samples
from refocus.training.judging.candidate import open_candidate

Command = Callable[..., int]


@pytest.mark.slow
def test_fifty_steps_beat_doing_nothing(
    trained: Path,
    tmp_path: Path,
    command: Command,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(samples, "FIELDS", 2)
    assert command("evaluate", trained, "--output", tmp_path / "report") == 0
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert [g["plane"] for g in metrics["planes"]] == ["-8 µm", "+4 µm", "+8 µm", "+12 µm"]
    gains = [
        g["rows"]["model"]["psnr"] - g["rows"]["do nothing"]["psnr"] for g in metrics["planes"]
    ]
    assert np.mean(gains) > 0.3
    assert min(gains) > 0.0
    assert metrics["in_focus"]["psnr"] > 28
    assert metrics["equivariance_error"] < 0.005
    assert metrics["seconds_per_megapixel"] > 0
    shown = capsys.readouterr().out
    assert "Richardson-Lucy, 12 µm" in shown
    assert "equivariance error" in shown
    with Image.open(tmp_path / "report" / "sheet_+8_um_nuclei.png") as sheet:
        assert sheet.size[0] > 1600


def test_onnx_is_judged_like_its_checkpoint(checkpoint_file: Path, model_file: Path) -> None:
    frame = np.random.default_rng(0).integers(100, 4000, (90, 70)).astype(np.uint16)
    both = (checkpoint_file, model_file)
    by_torch, by_onnx = (open_candidate(p)(frame).astype(int) for p in both)
    assert abs(by_torch - frame).max() > 100  # it changes the frame
    assert abs(by_torch - by_onnx).max() <= 4


@pytest.mark.parametrize("name", sorted(preset_files()))
def test_every_preset_is_read_by_name_and_by_path(name: str) -> None:
    assert load_train_config(name) == load_train_config(str(preset_files()[name]))
    assert load_train_config(name).name == name


def test_a_run_based_on_another_changes_what_it_gives_alone(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\nbased_on: any-objective-base\nseed: 5\n"
        "simulation: {objectives: {worst: 2}, specimens: []}\n"
    )
    base, mine = load_train_config("any-objective-base"), load_train_config(str(file))
    assert (mine.name, mine.seed, mine.steps) == ("mine", 5, base.steps)
    assert base.simulation is not None
    assert mine.simulation is not None
    assert mine.simulation.specimens == []
    assert mine.simulation.objectives == base.simulation.objectives.model_copy(update={"worst": 2})


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("based_on: nothing", "mine.yaml, line 2: based_on: nothing: no such file, nor a preset"),
        ("based_on: 3", "mine.yaml, line 2: based_on: 3 is no run; name its file or preset"),
        ("based_on: ''", "mine.yaml, line 2: based_on: '' is no run; name its file or preset"),
        ("based_on: mine.yaml", "mine.yaml, line 2: the run is based on itself; name another"),
        ("based_on: other/../mine.yaml", "the run is based on itself; name another"),
        (
            "based_on: any-objective-base\nsimulation: 3",
            "mine.yaml, line 3: simulation: input should be a valid dict",
        ),
        ("based_on: other/base.yaml", "base.yaml, line 3: steps: input should be greater than"),
        ("based_on: other/base.yaml\nsteps: -1", "mine.yaml, line 3: steps: input should be"),
        (
            "based_on: other/base.yaml\nsteps: 9\noptics: {pixel_size_um: 1}\n"
            "stacks:\n  - fraction: 1",
            "mine.yaml, line 6: key 'stacks.0.folder' is missing",
        ),
        (
            "based_on: other/base.yaml\nsteps: 9\noptics: {na: 0.4}",
            "base.yaml, line 6: optics.pixel_size_um: input should be",
        ),
    ],
)
def test_a_run_based_on_what_cannot_be(tmp_path: Path, lines: str, expected: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "base.yaml").write_text(
        "name: base\ntraining_data: none\nsteps: 0\nstacks: [{folder: stacks}]\n"
        "optics:\n  pixel_size_um: -1\n"
    )
    file = tmp_path / "mine.yaml"
    file.write_text(f"name: mine\n{lines}\n")
    with pytest.raises(RefocusError, match=re.escape(expected)):
        load_train_config(str(file))


def test_a_run_has_a_name_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("based_on: any-objective-base\n")
    with pytest.raises(RefocusError, match=r"mine\.yaml: key 'name' is missing; add it"):
        load_train_config(str(file))


def test_the_presets_are_those_promised(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("show") == 0
    names = ["bbbc006-compact", "bbbc006-resnet34", "own-stack", "simulated-nuclei-compact"]
    assert set(names) <= set(capsys.readouterr().out.split())
    assert command("show", "own-stack") == 0
    assert "folder: stacks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "wrong", "expected"),
    [
        ("batch: 8", "bach: 8", "unknown key 'bach'; did you mean 'batch'?"),
        ("seed: 0", "seed: many", "seed: input should be a valid integer"),
        ("architecture: compact", "architecture: unet", "'compact-told' or 'resnet34', got 'unet'"),
        ("architecture: compact", "architecture: compact-told", "go together; give both or"),
        ("  psfs: 64", "  objectives: {}", "go together; give both or neither"),
        ("loss: l1+ssim", "loss: l2", "'feature' or 'feature+ssim', got 'l2'"),
        ("size: 128", "size: 100", "multiple of 32"),
        ("    na: 0.5", "    na: 5", "simulation.optics.na: input should be less than 1.6"),
        ("optics: {}", "optics: {na: 1.2}", "an aperture is below the index; water"),
        ("  psfs: 64", "  psf: 64", "unknown key 'psf'; did you mean 'psfs'?"),
        ("  zoom: [0.7, 1.5]", "  zoom: [0.7, wide]", "simulation.zoom.1: input should be a valid"),
        ("seed: 0", "seed: -1", "seed: input should be greater than or equal to 0, got -1"),
        ("seed: 0", "seed: 4294967296", "seed: input should be less than 4294967296"),
        ("name: simulated-nuclei-compact", "name: ''", "name: string should have at least 1"),
        ("  na: [0.45, 0.55]", "  na: [0.55, 0.45]", "na: [0.55, 0.45] ends before it begins"),
        (
            "  na: [0.45, 0.55]",
            "  na: [0.9, 1.0]",
            "na: [0.9, 1.0]' reaches the index of immersion",
        ),
        ("  defocus_um: [4.0, 14.0]", "  defocus_um: [-4, 14]", "defocus_um.0: input should be"),
        ("  near_um: [3.5, 10.0]", "  near_um: [9, 3]", "near_um: [9, 3] ends before it begins"),
        ("  zoom: [0.7, 1.5]", "  zoom: [0, 1]", "zoom.0: input should be greater than 0"),
        (
            "  peak_electrons: [1000.0, 20000.0]",
            "  peak_electrons: [0, 0]",
            "peak_electrons.0: inp",
        ),
        ("  kinds: {nuclei: 1}", "  kinds: {}", "kinds: no kind has a weight; give one"),
        ("  kinds: {nuclei: 1}", "  kinds: {nuclei: -1}", "kinds.nuclei: input should be greater"),
        (
            "  kinds: {nuclei: 1}",
            "  kinds: {cells: 1}",
            "kinds: 'cells' is not known; allowed: nuc",
        ),
        ("stacks: []", "stacks: [{folder: a, distances_um: []}]", "distances_um: list should have"),
        ("stacks: []", "stacks: [{folder: a, z_step_um: 300}]", "z_step_um: 300 µm is no step bet"),
        ("batch: 8", "seed: 0", "key 'seed' was already given on line"),
        ("devices: 1", "devices: 3", "batch 8 cannot be shared by 3 devices"),
        ("name: simulated-nuclei-compact", "", "key 'name' is missing"),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_its_line(  # noqa: PLR0917
    tmp_path: Path,
    command: Command,
    capsys: pytest.CaptureFixture[str],
    line: str,
    wrong: str,
    expected: str,
) -> None:
    text = preset_files()["simulated-nuclei-compact"].read_text()
    assert line in text
    file = tmp_path / "run.yaml"
    file.write_text(text.replace(line, wrong, 1))
    assert command("fit", "--config", file, "--output", tmp_path / "run") == 2
    message = capsys.readouterr().err
    assert expected in message
    assert message.count("\n") == 1
    # what is wrong with several keys, or with one that is not there, has no line
    if not any(
        word in expected
        for word in ("shared", "missing", "together", "reaches", "below", "allowed: nuc")
    ):
        first = [i for i, t in enumerate(file.read_text().splitlines(), 1) if t.startswith(wrong)]
        assert any(f"{file}, line {number}: " in message for number in first)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["fit", "--config", "nowhere"], "no such file, nor a preset; presets: any-objective"),
        (["fit"], "Missing option '--config'. See `"),
        (["fit", "--config", "own-stack", "--max-steps", "0"], "--max-steps"),
        (["fit", "--config", "own-stack", "--seed", "4294967296"], "--seed"),
        (["fit", "--config", "own-stack"], "stacks: no such folder"),
        (["fit", "--config", "bbbc006-compact"], "run 'refocus-train fetch bbbc006"),
        (["evaluate", "none.safetensors"], "none.safetensors: no such checkpoint"),
        (["evaluate", "none.onnx"], "none.onnx: no such model"),
        (["evaluate", "model.pt"], "give a .safetensors checkpoint or a .onnx model"),
        (["evaluate", "x.onnx", "--frames", "a"], "--frames and --reference belong together"),
        (["evaluate", "x.onnx", "--vgg", "big"], "allowed are random and imagenet"),
        (["evaluate", "x.onnx", "--na", "0.5"], "na 0.5 with pixel size 0: an aperture is told"),
        (["evaluate", "x.onnx", "--emission-um", "520"], "--emission-um: 520 µm is no wavelength"),
        (
            ["measure", "--frames", "a", "--reference", "b", "--near-um", "8", "--na", "1.3"],
            "na 1.3 with immersion not told: an aperture is below the index; did you mean",
        ),
        (["fetch", "mnist"], "mnist: is not known; allowed: bbbc006"),
        (["fetch", "bbbc006", "--z", "1,two"], "give plane numbers"),
        (["fetch", "bbbc006", "--z", "34"], "BBBC006 has planes 0 to 33"),
    ],
)
def test_bad_input_is_one_line_and_status_2(  # noqa: PLR0917
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(*arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("refocus-train: ")
    assert expected in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("output", ["mine.txt", "folder.onnx", "file/mine.onnx"])
def test_where_nothing_can_be_written_is_told_before_the_work(  # noqa: PLR0917
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
    capsys: pytest.CaptureFixture[str],
    model_file: Path,
    output: str,
) -> None:
    monkeypatch.setattr("refocus.training.judging.hard_sets.calibration_frames", pytest.fail)
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").touch()
    assert command("calibrate", model_file, "--output", tmp_path / output) == 2
    message = capsys.readouterr().err
    assert str(tmp_path / Path(output).parts[0]) in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx"])
def test_a_damaged_model_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not a model" * 20)
    with pytest.raises(RefocusError, match=rf"{name}: not a readable") as caught:
        open_candidate(tmp_path / name)
    assert "\n" not in str(caught.value)
