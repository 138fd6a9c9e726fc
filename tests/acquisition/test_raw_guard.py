"""Raw frames keep their places, and one that does not fit the file is kept and told of."""

import numpy as np
import pytest
import tifffile
from pymmcore_plus.mda import MDAEngine

from refocus.acquisition import attach
from refocus.acquisition.raw_guard import guarded
from refocus.acquisition.sinks.recorder import Recorder
from refocus.engine.fake import FakeEngine

from ..conftest import loops, zarr_arrays


def test_a_frame_that_the_camera_fails_to_give_leaves_its_place_empty(core, tmp_path, monkeypatch):
    raw, calls, came = tmp_path / "raw.ome.zarr", [], []
    snap = core.snapImage

    def flaky():
        calls.append(None)
        if len(calls) in (2, 4):
            raise RuntimeError("timeout waiting for frame")
        snap()

    monkeypatch.setattr(core, "snapImage", flaky)
    core.mda.events.frameReady.connect(lambda pixels, event: came.append(event.index["t"]))
    with guarded(core, raw) as guard:
        core.mda.run(loops(6), output=raw)
    (saved,) = zarr_arrays(raw).values()
    assert np.flatnonzero(saved.any(axis=(1, 2))).tolist() == came == [0, 2, 4, 5]
    assert guard.error is None


def test_a_frame_of_another_size_is_kept_told_of_and_the_last(core, tmp_path):
    raw, came = tmp_path / "raw.ome.zarr", []

    def crop(pixels, event):
        came.append(event.index["t"])
        if len(came) == 3:
            core.setROI(0, 0, 128, 64)

    core.mda.events.frameReady.connect(crop)
    with guarded(core, raw) as guard:
        guard.stops = True
        core.mda.run(loops(20, channels=["DAPI"]), output=raw)
    (kept,) = guard.aside.iterdir()
    assert tifffile.imread(kept).shape == (64, 128)
    said = str(guard.error)
    assert "t=3 c=0 of channel DAPI is 128×64" in said
    assert "laid out for 512×512" in said
    assert str(guard.aside) in said
    (saved,) = zarr_arrays(raw).values()
    assert np.flatnonzero(saved.reshape(len(saved), -1).any(axis=1)).tolist() == came == [0, 1, 2]


def attached(core, folder, sequence):
    """Acquire and save with what ``attach`` gives; the raw and the refocused frames."""
    raw, sinks = folder / "raw.ome.zarr", [Recorder(folder / "refocused.ome.zarr")]
    with attach(core, engine=FakeEngine(), raw=raw, sinks=sinks) as live:
        core.mda.run(sequence, output=raw)
    saved = [zarr_arrays(folder / f"{name}.ome.zarr")["."] for name in ("raw", "refocused")]
    return live, *(one.reshape(-1, *one.shape[-2:]) for one in saved)


def test_with_attach_partners_stay_together_whatever_the_camera_fails_to_give(
    core, tmp_path, monkeypatch
):
    calls, snap = [], core.snapImage

    def flaky():
        calls.append(None)
        if len(calls) in (2, 4):
            raise RuntimeError("timeout waiting for frame")
        snap()

    monkeypatch.setattr(core, "snapImage", flaky)
    live, raw, refocused = attached(core, tmp_path, loops(6))
    assert np.flatnonzero(raw.any(axis=(1, 2))).tolist() == [0, 2, 4, 5]
    np.testing.assert_array_equal(refocused[[0, 2, 4, 5]], np.invert(raw[[0, 2, 4, 5]]))
    assert not refocused[[1, 3]].any()
    assert live.plan["missing"] == 2
    assert (live.stats.saved["raw"]["on_disk"], live.stats.saved["raw"]["planned"]) == (4, 6)


def test_with_attach_a_frame_of_another_size_is_kept_and_the_acquisition_goes_on(core, tmp_path):
    came = []

    def crop(pixels, event):
        came.append(event.index["t"])
        if len(came) == 3:
            core.setROI(0, 0, 128, 64)

    core.mda.events.frameReady.connect(crop)
    _, raw, refocused = attached(core, tmp_path, loops(5))
    kept = sorted((tmp_path / "raw-unfit").iterdir())
    assert [tifffile.imread(file).shape for file in kept] == [(64, 128)] * 2
    assert [file.stem.partition("_")[2] for file in kept] == ["t3", "t4"]
    assert np.flatnonzero(raw.any(axis=(1, 2))).tolist() == came == [0, 1, 2]
    np.testing.assert_array_equal(refocused[:3], np.invert(raw[:3]))


def cropping_after(core, frames):
    came = []

    def crop(pixels, event):
        came.append(event)
        if len(came) == frames:
            core.setROI(0, 0, 128, 64)

    core.mda.events.frameReady.connect(crop)


class GivesLists(MDAEngine):
    def exec_event(self, event):
        return list(super().exec_event(event))


class GivesNothingAtFirst(MDAEngine):
    def exec_event(self, event):
        return super().exec_event(event) if event.index["t"] else None


@pytest.mark.parametrize(("engine", "first"), [(GivesLists, 0), (GivesNothingAtFirst, 1)])
def test_whatever_an_engine_gives_is_handed_on(core, tmp_path, engine, first):
    core.mda.set_engine(engine(core, use_hardware_sequencing=False))
    live, raw, _ = attached(core, tmp_path, loops(3))
    assert np.flatnonzero(raw.any(axis=(1, 2))).tolist() == list(range(first, 3))
    assert live.stats.received == 3 - first


def test_what_one_run_set_aside_the_next_leaves_alone(core, tmp_path):
    for well in ("A1", "A2"):
        core.clearROI()
        cropping_after(core, 2)
        with guarded(core, tmp_path / f"{well}.ome.zarr") as guard:
            core.mda.run(loops(3), output=tmp_path / f"{well}.ome.zarr")
        assert guard.error is not None
    kept = sorted(file.name for file in (tmp_path / "raw-unfit").iterdir())
    assert kept == ["0000_t2.tif", "0001_t2.tif"]


def test_guards_leave_in_any_order(core, tmp_path):
    cropping_after(core, 2)
    first = attach(core, engine=FakeEngine(), raw=tmp_path / "a.ome.zarr")
    second = attach(core, engine=FakeEngine(), raw=tmp_path / "b.ome.zarr")
    first.detach()
    core.mda.run(loops(3), output=tmp_path / "b.ome.zarr")
    second.detach()
    assert [file.name for file in (tmp_path / "raw-unfit").iterdir()] == ["0000_t2.tif"]
    assert "exec_event" not in vars(core.mda.engine)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_run_that_is_not_saved_is_not_taken_for_the_one_before(core, tmp_path, elsewhere):
    raw = tmp_path / "raw.ome.zarr"
    with attach(core, engine=FakeEngine(), raw=raw) as live:
        core.mda.run(loops(3), output=raw)
        assert live.wait(60)
        assert live.stats.saved["raw"]["on_disk"] == 3
        core.mda.run(loops(3), output=tmp_path / "other.ome.zarr" if elsewhere else None)
        assert live.wait(60)
    assert "raw" not in live.stats.saved
    assert [f"{raw}: this run is not saved there; give run_mda output={raw}"] == list(live.problems)


def test_an_acquisition_that_saves_elsewhere_is_left_alone(core, tmp_path):
    came = []
    core.mda.events.frameReady.connect(lambda pixels: came.append(pixels.shape))
    core.mda.events.frameReady.connect(lambda pixels: core.setROI(0, 0, 128, 64))
    with guarded(core, tmp_path / "raw.ome.zarr") as guard:
        core.mda.run(loops(2))
    assert came == [(512, 512), (64, 128)]
    assert guard.error is None
    assert not guard.aside.exists()
