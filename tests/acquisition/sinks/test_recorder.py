"""The recorder: a partner in the refocused OME-Zarr for every frame of the raw one."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import useq

from refocus.acquisition import attach
from refocus.acquisition.pipeline.frame import CapturedFrame, FrameResult
from refocus.acquisition.pipeline.sink import Refused, RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.acquisition.sinks.recorder import Recorder
from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine

FAKE = FakeEngine().info
ENGINE = {**FAKE.describe(), "card": None}


def arrays(root: Path) -> dict[str, np.ndarray]:
    """Read every full-resolution array of an OME-Zarr, by its folder."""
    found = {}
    for array in sorted(root.rglob("0/zarr.json")):
        if json.loads(array.read_text())["node_type"] != "array":
            continue  # a position that is called 0
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(array.parent)}}
        name = str(array.parent.parent.relative_to(root))
        found[name] = tensorstore.open(spec, read=True).result().read().result()
    return found


def attributes(group: Path) -> dict:
    """Read the attributes of an OME-Zarr group."""
    return json.loads((group / "zarr.json").read_text())["attributes"]


def info(sequence=None, shape=(32, 40), dtype="uint16", summary=None, pixel_size_um=0.5):
    """Describe a run as the hook does."""
    camera = {"label": "Camera", "height": shape[0], "width": shape[1], "dtype": dtype}
    return RunInfo(
        run="r1",
        sequence=sequence,
        camera={**camera, "pixel_size_um": pixel_size_um},
        engine=ENGINE,
        summary_meta=summary,
    )


def result(number, index=None, shape=(32, 40), dtype=np.uint16, **about):
    """Make a result whose pixels tell its number."""
    captured = CapturedFrame(
        pixels=np.zeros(shape, dtype),
        frame=number,
        captured_utc="2026-01-01T00:00:00.000000+00:00",
        captured_ns=1_000_000_000 + number * 10_000_000,
        index={"t": number} if index is None else index,
        exposure_ms=10.0,
        position_um={"x": 1.0, "y": 2.0, "z": 3.0},
        **about,
    )
    pixels = np.full(shape, number + 1, dtype)
    return FrameResult(captured, pixels, True, number, 1.5, 2.5, FAKE)


def loops(count):
    """Describe a time-lapse without waits."""
    return useq.MDASequence(time_plan={"interval": 0, "loops": count})


SEQUENCES = {
    "time-lapse": loops(4),
    "z-stack": useq.MDASequence(z_plan={"range": 4, "step": 2}),
    "positions": useq.MDASequence(
        stage_positions=[(0, 0, 0), (50, 0, 0)], time_plan={"interval": 0, "loops": 2}
    ),
    "all axes": useq.MDASequence(
        axis_order="tpcz",
        time_plan={"interval": 0, "loops": 2},
        stage_positions=[(0, 0, 0), (50, 0, 0)],
        channels=["DAPI", "FITC"],
        z_plan={"range": 2, "step": 1},
    ),
    "grid": useq.MDASequence(
        stage_positions=[(0, 0, 0), (500, 0, 0)],
        grid_plan={"rows": 2, "columns": 2},
    ),
    "ragged": useq.MDASequence(
        channels=["DAPI", {"config": "FITC", "acquire_every": 2}],
        time_plan={"interval": 0, "loops": 3},
    ),
}


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("hardware", [True, False], ids=["hardware", "software"])
def test_every_raw_frame_has_its_partner(microscope, tmp_path, name, hardware):
    sequence = SEQUENCES[name]
    recorder = Recorder(tmp_path / "refocused.ome.zarr")
    core = microscope.core
    count = 0

    def start(sequence, summary):
        image = summary["image_infos"][0]
        shape = (image["height"], image["width"])
        run = info(sequence, shape, image["dtype"], summary, image["pixel_size_um"])
        recorder.start(run)

    def put(pixels, event, meta):
        nonlocal count
        index = {str(axis): place for axis, place in event.index.items()}
        captured = CapturedFrame(pixels, count, "", count, index=index)
        recorder.put(FrameResult(captured, np.invert(pixels), True, count, 0.0, 0.0))
        count += 1

    core.mda.engine.use_hardware_sequencing = hardware
    core.mda.events.sequenceStarted.connect(start)
    core.mda.events.frameReady.connect(put)
    core.mda.run(sequence, output=tmp_path / "raw.ome.zarr")
    recorder.close(Stats(received=count, published=count))

    raw, refocused = (arrays(tmp_path / f"{kind}.ome.zarr") for kind in ("raw", "refocused"))
    assert list(raw) == list(refocused)
    assert sum(a[..., 0, 0].size for a in raw.values()) == len(list(sequence))
    for position in raw:
        np.testing.assert_array_equal(np.invert(raw[position]), refocused[position])
        described = [
            attributes(tmp_path / f"{kind}.ome.zarr" / position)["ome"]
            for kind in ("raw", "refocused")
        ]
        assert described[0] == described[1]


def test_an_iterable_of_events_is_recorded_as_it_comes(microscope, tmp_path):
    recorder = Recorder(tmp_path / "refocused.ome.zarr")
    started = []
    microscope.core.mda.events.sequenceStarted.connect(lambda s, m: started.append((s, m)))
    events = iter([useq.MDAEvent(index={"t": 0}), useq.MDAEvent(index={"t": 5})])
    microscope.core.mda.run(events, output=tmp_path / "raw.ome.zarr")
    recorder.start(info(*started[0][:1], (96, 96), "uint16", started[0][1], 0.656))
    for number in range(2):
        recorder.put(result(number, {"t": number * 5}, (96, 96)))
    recorder.close(Stats())
    raw, refocused = (arrays(tmp_path / f"{kind}.ome.zarr")["."] for kind in ("raw", "refocused"))
    assert raw.shape == refocused.shape == (2, 96, 96)
    assert refocused[:, 0, 0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("fates", "expected"),
    [
        ("pppp", [1, 2, 3, 4]),
        ("spsp", [0, 2, 0, 4]),
        ("ppss", [1, 2, 0, 0]),
        ("ssss", [0, 0, 0, 0]),
        ("p..p", [1, 0, 0, 4]),  # never seen: lost by the camera
        ("pp..", [1, 2, 0, 0]),  # aborted
    ],
)
@pytest.mark.parametrize("planned", [True, False])
def test_a_frame_without_result_is_a_gap(tmp_path, fates, expected, planned):
    recorder = Recorder(tmp_path / "r.ome.zarr")
    recorder.start(info(loops(4) if planned else None))
    for number, fate in enumerate(fates):
        if fate == "p":
            recorder.put(result(number))
        elif fate == "s":
            recorder.skip(result(number).captured, "dropped")
    recorder.close(Stats(received=4, dropped=4))
    recorded = arrays(recorder.path)["."]
    if not planned:  # grows with the frames seen, and keeps no empty end for those that were not
        seen = max(i for i, fate in enumerate(fates) if fate != ".") + 1
        expected = expected[:seen]
    assert recorded[:, 0, 0].tolist() == expected
    about = attributes(recorder.path)
    assert about["refocus"]["gaps"]["count"] == fates.count("s")
    assert [gap["frame"] for gap in about["refocus"]["gaps"]["listed"]] == [
        number for number, fate in enumerate(fates) if fate == "s"
    ]
    assert about["refocus"]["frames"]["dropped"] == 4


def test_frames_lost_by_the_camera_do_not_shift_the_rest(tmp_path):
    sequence = useq.MDASequence(
        stage_positions=[(0, 0), (9, 0)], time_plan={"interval": 0, "loops": 3}, axis_order="pt"
    )
    recorder = Recorder(tmp_path / "r.ome.zarr")
    recorder.start(info(sequence))
    # the camera delivered one frame at the first position, three at the second
    indices = [{"p": 0, "t": 0}, *({"p": 1, "t": t} for t in range(3))]
    for number, index in enumerate(indices):
        recorder.put(result(number, index))
    recorder.close(Stats())
    recorded = arrays(recorder.path)
    assert [a[:, 0, 0].tolist() for a in recorded.values()] == [[1, 0, 0], [2, 3, 4]]


def test_several_cameras_have_an_axis(tmp_path):
    summary = {"image_infos": ({"num_camera_adapter_channels": 2},)}
    recorder = Recorder(tmp_path / "r.ome.zarr")
    recorder.start(info(loops(3), summary=summary))
    for number, index in enumerate([(0, 0), (0, 1), (1, 1), (2, 0), (2, 1)]):
        recorder.put(result(number, {"t": index[0], "cam": index[1]}))
    recorder.close(Stats())
    assert arrays(recorder.path)["."][:, :, 0, 0].tolist() == [[1, 2], [0, 3], [4, 5]]


def test_provenance_of_each_frame(tmp_path):
    recorder = Recorder(tmp_path / "r.ome.zarr")
    recorder.start(info(loops(2)))
    recorder.put(result(0, source="a.png"))
    recorder.put(result(1))
    recorder.close(Stats())
    first, second = attributes(recorder.path)["ome_writers"]["frame_metadata"]
    assert first["storage_index"] == [0]
    assert first["source"] == "a.png"
    assert second == {
        "delta_t": 0.01,
        "exposure_time": 0.01,
        "position_x": 1.0,
        "position_y": 2.0,
        "position_z": 3.0,
        "frame": 1,
        "number": 1,
        "refocused": True,
        "captured_utc": "2026-01-01T00:00:00.000000+00:00",
        "queued_ms": 1.5,
        "engine_ms": 2.5,
        "engine": "fake",
        "precision": "exact",
        "model_sha256": "",
        "storage_index": [1],
    }
    assert attributes(recorder.path)["refocus"]["engine"] == ENGINE


def test_without_a_description_the_first_frame_tells_the_size(tmp_path):
    recorder = Recorder(tmp_path / "r.ome.zarr")
    recorder.start(RunInfo(run="r1"))
    recorder.skip(result(0).captured, "dropped")
    recorder.put(result(1, dtype=np.uint8))
    recorder.close(Stats())
    recorded = arrays(recorder.path)["."]
    assert recorded.dtype == np.uint8
    assert recorded[:, 0, 0].tolist() == [0, 2]


def test_a_frame_of_another_size_is_a_gap(tmp_path):
    recorder = Recorder(tmp_path / "r.ome.zarr")
    recorder.start(info(loops(2)))
    with pytest.raises(Refused, match=r"DAPI are 16×16 uint16.*laid out for 40×32 uint16"):
        recorder.put(result(0, shape=(16, 16), channel="DAPI"))
    recorder.put(result(1))
    recorder.close(Stats())
    assert arrays(recorder.path)["."][:, 0, 0].tolist() == [0, 2]
    (gap,) = attributes(recorder.path)["refocus"]["gaps"]["listed"]
    assert gap["reason"] == "is 16×16 uint16, unlike the first frame"


def test_a_path_in_use_is_refused_unless_told(tmp_path):
    recorder = Recorder(tmp_path / "r.ome.zarr")
    for run in range(2):
        if run:
            with pytest.raises(RefocusError, match=r"r\.ome\.zarr: exists already"):
                recorder.start(info(loops(1)))
            recorder = Recorder(recorder.path, overwrite=True)
        recorder.start(info(loops(1)))
        recorder.put(result(run, {"t": 0}))
        recorder.close(Stats())
        recorder.close(Stats())
    assert arrays(recorder.path)["."][0, 0, 0] == 2


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RefocusError, match=r"r\.ome\.zarr: cannot be written") as caught:
        Recorder(tmp_path / "file" / "r.ome.zarr").start(info(loops(1)))
    assert "\n" not in str(caught.value)


def test_a_disk_that_fills_up_keeps_what_is_written(tmp_path, monkeypatch):
    recorder = Recorder(tmp_path / "r.ome.zarr")
    recorder.start(info(loops(3)))
    recorder.put(result(0))
    full = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: full)
    with pytest.raises(RefocusError, match=r"r\.ome\.zarr: the disk is full") as caught:
        recorder.put(result(1))
    assert "\n" not in str(caught.value)
    recorder.close(Stats())
    assert arrays(recorder.path)["."][:, 0, 0].tolist() == [1, 0, 0]
    assert len(attributes(recorder.path)["ome_writers"]["frame_metadata"]) == 1


def test_a_write_that_meets_with_a_file_that_is_gone_says_that(tmp_path, monkeypatch):
    def fail(*write):
        raise OSError(2, "Failed to rename")

    recorder = Recorder(tmp_path / "r.ome.zarr")
    recorder.start(info(loops(3)))
    recorder.put(result(0))
    monkeypatch.setattr(recorder, "_write", fail)
    recorder.path.rename(tmp_path / "elsewhere")
    with pytest.raises(RefocusError, match=r"r\.ome\.zarr.zarr\.json: is gone"):
        recorder.put(result(1))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_write_that_fails_is_told_before_the_end(tmp_path):
    import resource

    recorder = Recorder(tmp_path / "r.ome.zarr")
    shape = (256, 256)
    recorder.start(info(loops(60), shape))
    recorder.put(result(0, shape=shape))
    while not any((recorder.path / "0" / "c").glob("0/*/*")):  # it is written in the background
        time.sleep(0.01)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(RefocusError, match=r"r\.ome\.zarr: cannot be written"):  # noqa: PT012
            for number in range(1, 60):
                recorder.put(result(number, shape=shape))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    recorder.close(Stats())
    recorded = arrays(recorder.path)["."]
    assert recorded.shape == (60, 256, 256)
    assert recorded[0, 0, 0] == 1


def test_a_run_left_open_is_closed_by_the_next(tmp_path):
    recorder = Recorder(tmp_path / "r.ome.zarr", overwrite=True)
    recorder.start(info(loops(2)))
    recorder.put(result(0))
    recorder.start(info(loops(1)))
    recorder.put(result(6, {"t": 0}))
    recorder.close(Stats())
    assert arrays(recorder.path)["."][:, 0, 0].tolist() == [7]


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_frame_that_comes_late_fills_its_place(tmp_path, name):
    """In any order, every frame is where it would be in order."""
    events = [{str(a): n for a, n in event.index.items()} for event in SEQUENCES[name]]
    recorded = []
    for order in (range(len(events)), [1, 0, *range(len(events) - 1, 1, -1)]):
        recorder = Recorder(tmp_path / f"{len(recorded)}.ome.zarr")
        recorder.start(info(SEQUENCES[name]))
        for number in order:
            recorder.put(result(number, events[number], place=number))
        recorder.close(Stats())
        recorded.append(arrays(recorder.path))
        assert attributes(recorder.path)["refocus"]["gaps"]["count"] == 0
    assert list(recorded[0]) == list(recorded[1])
    for position, in_order in recorded[0].items():
        assert in_order.any(axis=(-2, -1)).all()
        np.testing.assert_array_equal(recorded[1][position], in_order)


def test_what_is_recorded_is_not_replaced_after_the_end(tmp_path):
    recorder = Recorder(tmp_path / "r.ome.zarr", overwrite=True)
    recorder.start(info(loops(1)))
    recorder.put(result(0))
    recorder.close(Stats())
    with pytest.raises(RefocusError, match=r"r\.ome\.zarr: the recording is over"):
        recorder.put(result(0))
    assert arrays(recorder.path)["."][0, 0, 0] == 1


def test_a_tilde_is_the_home_folder_to_all_who_write_and_read(tmp_path, monkeypatch, microscope):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    raw = "~/raw.ome.zarr"
    sink = Recorder(Path("~/refocused.ome.zarr"))
    with attach(microscope.core, engine=FakeEngine(), raw=raw, sinks=[sink]) as live:
        microscope.core.mda.run(loops(3), output=raw)
        live.wait(60)
    assert live.stats.published == 3
    assert not live.problems
    assert live.stats.saved["raw"]["on_disk"] == live.stats.saved["refocused"]["on_disk"] == 3
