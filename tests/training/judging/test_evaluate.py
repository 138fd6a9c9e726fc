"""Judging: nuclei, deconvolution, samples and contact sheets."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from refocus.configs import ModelCard, Optics, RefocusError
from refocus.configs.training import MeasuredConfig, TrainConfig
from refocus.engine.fake import FakeEngine
from refocus.engine.protocol import EngineInfo, Frame
from refocus.engine.shipped import shipped_models
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import defocus
from refocus.optics.metrics import gtn, psnr
from refocus.optics.specimens import nuclei
from refocus.training.judging.candidate import Candidate, Result, open_candidate
from refocus.training.judging.evaluate import equivariance_error, evaluate, markdown, write_metrics
from refocus.training.judging.restore import best_richardson_lucy, richardson_lucy
from refocus.training.judging.samples import Sample, folder_samples, simulated_samples
from refocus.training.judging.segment import Nuclei, compare, segment
from refocus.training.judging.sheet import Row, draw_sheet
from refocus.training.pairs.data import with_split

CARD = ModelCard(
    name="identity",
    version="1",
    architecture="compact",
    optics=Optics(),
    defocus_um=(4.0, 8.0),
    training_data="none",
    licence="BSD-3-Clause",
)


def discs(*places: tuple[int, int, int], side: int = 128) -> NDArray[np.uint16]:
    yy, xx = np.mgrid[:side, :side]
    inside = np.zeros((side, side), bool)
    for y, x, radius in places:
        inside |= np.hypot(yy - y, xx - x) <= radius
    return np.where(inside, 2000, 100).astype(np.uint16)


class Identity(FakeEngine):
    """Gives every frame back as it is, or bent."""

    def __init__(self, power: int = 1) -> None:
        super().__init__()
        self._power = power

    @property
    def info(self) -> EngineInfo:
        return EngineInfo("identity", "none", "exact", CARD)

    def refocus(self, frame: Frame) -> Frame:
        return (frame.astype(float) ** self._power / 60000 ** (self._power - 1)).astype(frame.dtype)


def identity() -> Candidate:
    return Candidate(Identity())


def test_frames_of_a_plane_and_channel_are_a_run_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = []
    judged = Candidate.judged

    def note(self: Candidate, frame: Frame, run: str) -> Result:
        runs.append(run)
        return judged(self, frame, run)

    monkeypatch.setattr(Candidate, "judged", note)
    frame = discs((40, 40, 10))
    samples = [
        Sample(f"{plane} {number}", plane, "DAPI", lambda: (frame, frame), 4.0)
        for plane in ("-4", "+4")
        for number in range(2)
    ]
    evaluate(identity(), samples)
    assert runs[:4] == ["-4 DAPI", "-4 DAPI", "+4 DAPI", "+4 DAPI"]
    assert len(set(runs[4:])) == len(runs[4:]) > 2  # and what is measured beside, each by itself


@pytest.mark.parametrize(
    ("places", "count"),
    [
        (((40, 40, 10),), 1),
        (((40, 40, 10), (90, 90, 14)), 2),
        (((60, 50, 12), (60, 70, 12)), 2),  # touching
        (((20, 20, 2), (60, 60, 10)), 1),  # one is dirt
        (((0, 0, 15), (127, 64, 15)), 2),  # cut by the edge
    ],
)
def test_nuclei_are_counted(places: tuple[tuple[int, int, int], ...], count: int) -> None:
    labels = segment(discs(*places))
    assert len(np.unique(labels)) - 1 == count


def test_a_constant_frame_has_no_nuclei() -> None:
    flat = np.full((64, 64), 7, np.uint8)
    assert segment(flat).max() == 0
    assert compare(flat, flat).f1 == 1.0


def test_nuclei_are_compared_one_by_one() -> None:
    truth = discs((30, 30, 10), (30, 90, 10), (90, 30, 10))
    found = discs((30, 30, 10), (30, 96, 10), (90, 90, 10))  # one kept, one moved, one invented
    result = compare(truth, found)
    assert (result.reference, result.found, result.invented) == (3, 3, 1)
    assert result.matched == 2 if result.area_error else result.matched >= 1
    assert compare(truth, truth) == Nuclei(3, 3, 3, 0, 0.0, 0.0)
    half = compare(truth, (truth // 2).astype(np.uint16))
    assert half.describe()["f1"] == 1.0
    assert half.describe()["intensity_error"] == pytest.approx(0.5, abs=0.01)
    bigger = compare(discs((60, 60, 10)), discs((60, 60, 12)))
    assert bigger.describe()["area_error"] == pytest.approx(0.44, abs=0.06)


@pytest.mark.parametrize("distance", [4.0, 8.0, -16.0])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_richardson_lucy_sharpens(distance: float, dtype: type[np.generic]) -> None:
    rng = np.random.default_rng(1)
    camera = CameraModel(bit_depth=8 * np.dtype(dtype).itemsize, offset=10, read_noise_e=1)
    peak = 100 if dtype is np.uint8 else 4000
    light = nuclei((96, 130), rng, radius_um=(5.0, 8.0), count=10) * peak + 5
    truth = camera.digitise(light)
    captured = camera.expose(defocus(light, Optics(), distance), rng)
    restored = richardson_lucy(captured, Optics(), distance)
    assert restored.dtype == dtype

    def quality(found: NDArray[Any]) -> float:
        return psnr(*gtn(truth, found))

    best = best_richardson_lucy(captured, Optics(), distance, quality)
    assert best.dtype == dtype
    assert quality(best) >= quality(restored) > quality(captured) + 0.5


def test_a_model_that_does_nothing_scores_as_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for number in range(3):
        light = nuclei((160, 160), rng, radius_um=(5.0, 8.0), count=12) * 3000 + 100
        planes = {"focus": 0.0, "near": 4.0, "far": 10.0}
        for plane, distance in planes.items():
            folder = tmp_path / "stack" / plane
            folder.mkdir(parents=True, exist_ok=True)
            frame = CameraModel().expose(defocus(light, Optics(), distance), rng)
            tifffile.imwrite(folder / f"a0{number}_s1.tif", frame)
    stack = tmp_path / "stack"
    samples = folder_samples(stack, stack / "focus", folder_per_plane=True)
    told: list[int] = []
    metrics = evaluate(
        identity(), samples, sheets=tmp_path / "out", told=lambda _, done, __: told.append(done)
    )
    assert told == [1, 2, 3, 4, 5, 6]
    far, near = metrics["planes"]
    assert (far["plane"], near["plane"], near["channel"]) == ("far", "near", "all")
    assert near["rows"]["model"] == near["rows"]["do nothing"]
    assert near["rows"]["model"]["psnr"] > far["rows"]["model"]["psnr"]
    assert near["rows"]["model"]["feature_distance"] < far["rows"]["model"]["feature_distance"]
    assert near["rows"]["Richardson-Lucy"]["psnr"] > near["rows"]["do nothing"]["psnr"]
    assert near["richardson_lucy_um"] in (3.0, 5.0)
    assert metrics["in_focus"] == {"frames": 6, "psnr": 100.0, "psnr_worst": 100.0}
    assert metrics["equivariance_error"] == 0.0
    write_metrics(metrics, tmp_path / "out")
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"metrics.json", "table.md", "sheet_far_all.png", "sheet_near_all.png"}
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics
    assert markdown(metrics).count("| do nothing |") == 2


def test_a_model_that_bends_photometry_is_found_out() -> None:
    samples = simulated_samples(CARD)[:1]
    metrics = evaluate(Candidate(Identity(power=2)), samples)
    assert metrics["equivariance_error"] > 0.05
    assert metrics["in_focus"]["psnr"] < 30


class Overshooting(Identity):
    """Adds as much again of what is brighter than the mean, as far as counts go."""

    def refocus(self, frame: Frame) -> Frame:
        plain = frame.astype(float)
        return np.clip(2 * plain - plain.mean(), 0, 65535).astype(frame.dtype)


@pytest.mark.parametrize("top", [150, 17_000, 65_535])
def test_what_counts_cannot_hold_is_no_error_of_the_model(top: int) -> None:
    frame = (discs((40, 40, 20)).astype(float) - 100) * top / 1900
    samples = [Sample("a", "p", "c", lambda: (frame.astype(np.uint16), frame.astype(np.uint16)))]
    error = equivariance_error(Candidate(Overshooting()), samples)
    assert error is not None
    assert error < 0.001
    frame[:] = 7
    assert equivariance_error(Candidate(Overshooting()), samples) is None


def test_where_the_light_path_is_known_the_limit_stands_beside_the_model() -> None:
    card = CARD.model_copy(update={"defocus_um": (7.0, 9.0)})
    samples = simulated_samples(card)[:5:4]  # a field at -8 and one at +8 µm
    for group in evaluate(identity(), samples)["planes"]:
        rows = {name: row["psnr"] for name, row in group["rows"].items()}
        assert " ".join(rows) == "do nothing Richardson-Lucy Wiener, told all model published"
        assert rows["Wiener, told all"] > rows["do nothing"] + 3


def test_simulated_samples_stay_in_the_range_of_the_card() -> None:
    samples = simulated_samples(CARD)
    assert {s.distance_um for s in samples} == {-8.0, 4.0, 8.0}
    frame, reference = samples[0].read()
    again, _ = simulated_samples(CARD)[0].read()
    np.testing.assert_array_equal(frame, again)
    assert frame.dtype == reference.dtype == np.uint16


def write(path: Path, shape: tuple[int, int] = (40, 40), value: int | None = None) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    pixels = np.random.default_rng(0).integers(0, 99, shape) if value is None else value
    tifffile.imwrite(path, np.broadcast_to(pixels, shape).astype(np.uint16))


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda d: write(d / "in" / "b.tif"), r"a\.tif: has no partner in focus"),
        (lambda d: write(d / "in" / "a.tif", (40, 50)), r"a\.tif: is \(40, 40\), its partner"),
        (lambda d: write(d / "in" / "a.tif", value=3), r"a\.tif: is constant"),
        (lambda d: None, r"in: no such folder"),
    ],
)
def test_frames_that_cannot_be_paired_are_named(
    tmp_path: Path, prepare: Callable[[Path], None], expected: str
) -> None:
    write(tmp_path / "out" / "a.tif")
    prepare(tmp_path)
    with pytest.raises(RefocusError, match=expected):
        evaluate(identity(), folder_samples(tmp_path / "out", tmp_path / "in"))


@pytest.mark.parametrize(
    ("folder_is_there", "noted", "held_out"),
    [(True, False, ["a05"]), (False, True, ["a05"]), (False, False, ["a02"])],
)
def test_wells_are_held_out_of_all_that_the_run_had(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    folder_is_there: bool,
    noted: bool,
    held_out: list[str],
) -> None:
    folders = {"data": range(1, 9), "out": (2, 5, 6), "in": (2, 5, 6)}
    for folder, numbers in folders.items():
        for number in numbers:
            write(tmp_path / folder / f"a0{number}_s1.tif")
    source = MeasuredConfig(
        out_of_focus=tmp_path / "data", in_focus=tmp_path, fraction=1.0, held_out=0
    )
    run = TrainConfig(name="mine", training_data="none", measured=[source])
    run = with_split(run) if noted else run
    if not folder_is_there:
        (tmp_path / "data").rename(tmp_path / "elsewhere")
    samples = folder_samples(tmp_path / "out", tmp_path / "in", split=run)
    assert [s.name[:3] for s in samples] == held_out
    said = [line for line in caplog.messages if "only if they are all that the run had" in line]
    assert len(said) == (not folder_is_there and not noted)


def test_a_sheet_has_a_row_for_each_field() -> None:
    frame = discs((60, 60, 20))
    row = Row(
        "a field with a name that is much too long to be written over one panel", *[frame] * 3
    )
    one, two = (draw_sheet("title", [row] * n) for n in (1, 2))
    assert one.width == two.width == 12 + 4 * 412
    assert two.height - one.height == 400 + 30 + 12
    difference = np.asarray(one)[46 + 30 + 10 : 46 + 30 + 390, 12 + 3 * 412 + 5 : -20]
    assert difference.max() == 0


def test_frames_by_themselves_are_told_nothing_by_those_before() -> None:
    """A model that pools what it learns of a run would judge one frame by another."""
    candidate = open_candidate(shipped_models()["any-objective"])
    sharp, blurred = (
        CameraModel().expose(defocus(light, Optics(), distance), np.random.default_rng(4))
        for light in [nuclei((160, 160), np.random.default_rng(3)) * 3000 + 100]
        for distance in (0.0, 12.0)
    )
    alone = candidate(sharp)
    for _ in range(3):
        candidate(blurred)
    np.testing.assert_array_equal(candidate(sharp), alone)
