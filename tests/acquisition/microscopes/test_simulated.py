"""The simulated microscope, behind a real core and its acquisition engine."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import useq
from PIL import Image

from refocus.acquisition.microscopes import simulated
from refocus.acquisition.microscopes.scene import FIELDS_HELD
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.configs import Optics, RefocusError
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import defocus
from refocus.optics.focus import tenengrad
from refocus.optics.specimens import nuclei

BOTH = pytest.mark.parametrize("hardware", [True, False], ids=["hardware", "software"])


def acquire(microscope, sequence, hardware=True):
    """Run a sequence and give its ``(pixels, event, metadata)``."""
    frames = []

    def keep(pixels, event, meta):
        frames.append((pixels, event, meta))

    microscope.core.mda.engine.use_hardware_sequencing = hardware
    microscope.core.mda.events.frameReady.connect(keep)
    try:
        microscope.core.mda.run(sequence)
    finally:
        microscope.core.mda.events.frameReady.disconnect(keep)
    return frames


def test_a_sequence_that_is_being_started_is_not_forgotten_when_somebody_asks():
    with SimulatedMicroscope(frame_shape=(32, 32), fps=1000) as microscope:
        core = microscope.core
        asked = threading.Thread(target=lambda: None)
        core._acquisition_thread = asked  # as it is for a moment, before it is started
        assert core.isSequenceRunning()
        assert core._acquisition_thread is asked
        asked.start()
        asked.join()
        assert not core.isSequenceRunning()
        over = threading.Event()

        def ask():
            while not over.is_set():
                core.isSequenceRunning()

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            counts = [len(acquire(microscope, microscope.sequence(3))) for _ in range(20)]
        finally:
            over.set()
            asking.join()
    assert counts == 20 * [3]


@BOTH
@pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint8), (12, np.uint16), (16, np.uint16)])
def test_frames_have_the_cameras_shape_and_type(hardware, bits, dtype):
    with SimulatedMicroscope(frame_shape=(48, 80), bit_depth=bits) as microscope:
        frames = acquire(microscope, microscope.sequence(4), hardware)
    assert len(frames) == 4
    for number, (pixels, _, meta) in enumerate(frames):
        assert pixels.shape == (48, 80)
        assert pixels.dtype == dtype
        assert pixels.max() < 1 << bits
        assert meta.get("hardware_triggered", False) is hardware
        assert meta["camera_metadata"]["capture"] == str(number)
        assert meta["pixel_size_um"] == 0.656
    assert not np.array_equal(frames[0][0], frames[1][0])  # each has noise of its own


@BOTH
def test_a_z_stack_moves_the_stage_once_per_frame(microscope, hardware):
    sequence = useq.MDASequence(z_plan={"range": 16, "step": 4}, stage_positions=[(0, 0, 0)])
    frames = acquire(microscope, sequence, hardware)
    z_um = [microscope.truth(frame).z_um for frame in range(5)]
    assert z_um == pytest.approx([-8, -4, 0, 4, 8], abs=0.01)
    sharpness = [tenengrad(pixels.astype(np.float32)) for pixels, _, _ in frames]
    assert np.argmax(sharpness) == 2
    assert microscope.core.getZPosition() == 8
    tags = [float(meta["camera_metadata"]["stage_z_um"]) for _, _, meta in frames]
    assert tags == [-8, -4, 0, 4, 8]


@BOTH
def test_the_truth_is_the_specimen_in_focus(hardware):
    with SimulatedMicroscope(frame_shape=(96, 96), z_um=0.0) as microscope:
        (pixels, _, _), *_ = acquire(microscope, microscope.sequence(2), hardware)
        truth = microscope.truth(0)
    assert truth.frame == 0
    assert truth.in_focus.shape == pixels.shape
    assert truth.in_focus.dtype == pixels.dtype
    error = pixels.astype(float) - truth.in_focus
    assert abs(error.mean()) < 1.0
    noise = np.sqrt((truth.in_focus.astype(float) - 100) / 0.5 + (1.6 / 0.5) ** 2)
    assert (error / noise).std() == pytest.approx(1.0, abs=0.1)


def test_a_frame_out_of_focus_is_the_truth_blurred(microscope):
    microscope.core.setZPosition(9.0)
    (pixels, _, _), *_ = acquire(microscope, microscope.sequence(1))
    truth = microscope.truth(0)
    assert truth.z_um == pytest.approx(9.0, abs=0.01)
    blurred = defocus(truth.in_focus.astype(np.float32), Optics(), 9.0)
    away = np.abs(pixels - truth.in_focus.astype(float)).mean()
    assert np.abs(pixels - blurred).mean() < away / 2


@BOTH
def test_a_region_of_interest_is_the_same_part_of_the_field(microscope, hardware):
    microscope.core.setROI(10, 20, 40, 32)
    (pixels, _, _), *_ = acquire(microscope, microscope.sequence(2), hardware)
    region = microscope.truth(0).in_focus
    microscope.core.clearROI()
    acquire(microscope, microscope.sequence(1), hardware)
    whole = microscope.truth(0).in_focus
    assert pixels.shape == region.shape == (32, 40)
    np.testing.assert_array_equal(region, whole[20:52, 10:50])


def test_a_region_outside_the_sensor_is_refused(microscope):
    with pytest.raises(ValueError, match="exceeds sensor bounds"):
        microscope.core.setROI(40, 40, 64, 64)


def test_light_follows_the_exposure(microscope):
    levels = []
    for exposure in (5.0, 20.0):
        sequence = useq.MDASequence(channels=[{"config": "DAPI", "exposure": exposure}])
        (pixels, _, meta), *_ = acquire(microscope, sequence)
        assert meta["exposure_ms"] == exposure
        levels.append(pixels.mean() - 100)
    assert levels[1] / levels[0] == pytest.approx(4.0, rel=0.05)


def test_a_saturated_camera_stays_in_its_range():
    camera = CameraModel(bit_depth=8, offset=2, electrons_per_count=1.0)
    with SimulatedMicroscope(frame_shape=(64, 64), camera=camera) as microscope:
        (pixels, _, _), *_ = acquire(microscope, microscope.sequence(2))
        truth = microscope.truth(0).in_focus
    assert (pixels[truth == 255] >= 250).all()
    assert (pixels[truth < 10] < 60).all()  # no dark pixel wrapped around


@BOTH
def test_focus_drifts(hardware):
    with SimulatedMicroscope(frame_shape=(32, 32), drift_um_per_min=600, fps=100) as microscope:
        acquire(microscope, microscope.sequence(8), hardware)
        z_um = [microscope.truth(frame).z_um for frame in range(8)]
    assert (np.diff(z_um) < 0).all()  # the focal plane moves up and away from the stage
    assert z_um[0] - z_um[-1] >= 7 * 0.1 * 0.5


def test_an_unpaced_camera_waits_for_a_slow_reader(microscope):
    core = microscope.core
    core.setCircularBufferMemoryFootprint(1)  # room for 56 frames
    waiting = []

    def read_slowly(pixels, event, meta):
        time.sleep(0.002)
        waiting.append(meta["images_remaining_in_buffer"])

    core.mda.events.frameReady.connect(read_slowly)
    core.mda.run(microscope.sequence(150))
    assert len(waiting) == 150
    assert max(waiting) < 20


def test_an_unpaced_camera_does_not_wait_for_ever(microscope, monkeypatch):
    monkeypatch.setattr("refocus.acquisition.microscopes.devices.PATIENCE_S", 0.05)
    core = microscope.core
    core.setCircularBufferMemoryFootprint(1)
    core.startSequenceAcquisition(20, 0, True)
    while core.isSequenceRunning():
        time.sleep(0.01)
    assert core.getRemainingImageCount() == 20


def test_a_paced_camera_lets_the_ring_overflow():
    with SimulatedMicroscope(frame_shape=(96, 96), fps=1000) as microscope:
        microscope.core.setCircularBufferMemoryFootprint(1)
        microscope.core.mda.events.frameReady.connect(lambda *_: time.sleep(0.01))
        with pytest.raises(MemoryError):
            microscope.core.mda.run(microscope.sequence(150))


def test_the_camera_keeps_to_its_rate():
    with SimulatedMicroscope(frame_shape=(32, 32), fps=200) as microscope:
        acquire(microscope, microscope.sequence(2))
        started = time.perf_counter()
        acquire(microscope, microscope.sequence(41))
        assert time.perf_counter() - started >= 40 / 200


def test_every_position_has_its_own_field(microscope):
    width = 96 * 0.656
    sequence = useq.MDASequence(stage_positions=[(0, 0), (width, 0), (0, 0)])
    acquire(microscope, sequence)
    here, there, back = (microscope.truth(frame).in_focus for frame in range(3))
    np.testing.assert_array_equal(here, back)
    assert not np.array_equal(here, there)


def test_fields_that_a_sequence_is_going_to_see_are_drawn_beforehand(monkeypatch):
    drawn = []

    def draw(shape, rng, **settings):
        drawn.append(shape)
        return nuclei(shape, rng, **settings)

    monkeypatch.setattr(simulated, "nuclei", draw)
    width = 32 * Optics().pixel_size_um
    sequence = useq.MDASequence(stage_positions=[(i * width, 0, 2.0 * i) for i in range(6)])
    with SimulatedMicroscope(frame_shape=(32, 32), fps=1000) as microscope:
        microscope.look_ahead(sequence)
        assert len(drawn) == FIELDS_HELD
        microscope.warm_up(3)
        acquire(microscope, sequence.replace(stage_positions=sequence.stage_positions[:4]))
        assert len(drawn) == FIELDS_HELD
        assert microscope.truth(3).z_um == pytest.approx(6.0)


def test_channels_positions_and_planes_together(microscope):
    sequence = useq.MDASequence(
        axis_order="tpcz",
        time_plan={"interval": 0, "loops": 2},
        stage_positions=[(0, 0, 0), (100, 0, 0)],
        channels=["DAPI", "FITC"],
        z_plan={"range": 2, "step": 1},
    )
    frames = acquire(microscope, sequence)
    assert len(frames) == 24
    assert [dict(event.index) for _, event, _ in frames] == [dict(e.index) for e in sequence]
    for number, (_, event, _) in enumerate(frames):
        assert microscope.truth(number).z_um == pytest.approx(event.z_pos, abs=0.01)


def test_runs_count_from_zero_again(microscope):
    for count in (3, 2):
        acquire(microscope, microscope.sequence(count))
        assert microscope.truth(count - 1).frame == count - 1
        with pytest.raises(RefocusError, match=f"frame {count}: the camera has not captured"):
            microscope.truth(count)


def test_a_known_focus_direction_restores_the_stage(microscope):
    core = microscope.core
    core.setFocusDirection("Z", 1)
    core.setROI(8, 8, 32, 48)
    core.setZPosition(3.0)
    frames = acquire(microscope, useq.MDASequence(z_plan={"absolute": [0, 5, 9]}))
    assert [event.z_pos for _, event, _ in frames] == [0, 5, 9]
    assert str(core.mda.status.phase) == "idle"
    assert core.getZPosition() == 3.0
    assert list(core.getROI()) == [8, 8, 32, 48]


def test_live_mode_numbers_its_frames(microscope):
    core = microscope.core
    core.startContinuousSequenceAcquisition()
    while core.getRemainingImageCount() < 3:
        time.sleep(0.005)
    core.stopSequenceAcquisition()
    _, meta = core.getLastImageAndMD()
    number = int(meta["capture"])
    assert number == int(meta["ImageNumber"])
    assert microscope.truth(number).in_focus.shape == (96, 96)


def test_a_cancelled_run_ends(microscope):
    frames = []

    def cancel(pixels, event, meta):
        frames.append(pixels)
        if len(frames) == 2:
            microscope.core.mda.cancel()

    microscope.core.mda.events.frameReady.connect(cancel)
    microscope.core.mda.run(useq.MDASequence(time_plan={"interval": 0.001, "loops": 50}))
    assert len(frames) < 50
    assert not microscope.core.isSequenceRunning()


@pytest.mark.parametrize("hardware", [True, False])
def test_a_cancelled_run_does_not_wait_for_a_frame_that_is_far_off(hardware):
    with SimulatedMicroscope(frame_shape=(32, 32), fps=0.001) as microscope:
        mda = microscope.core.mda
        mda.engine.use_hardware_sequencing, mda.engine.timeout_base = hardware, 1000
        thread = microscope.core.run_mda(microscope.sequence(3))
        until = time.monotonic() + 60  # of 1000 s for a frame
        while thread.is_alive() and time.monotonic() < until:
            mda.cancel()
            thread.join(0.1)
        assert not thread.is_alive()


def test_closing_ends_a_run():
    captured = threading.Event()
    with SimulatedMicroscope(frame_shape=(32, 32), fps=50) as microscope:
        microscope.core.mda.events.frameReady.connect(lambda *frame: captured.set())
        thread = microscope.core.run_mda(microscope.sequence(10_000))
        # not isSequenceRunning(): asked while the sequence starts, it makes the core forget it
        assert captured.wait(30)
    thread.join(2)
    assert not thread.is_alive()


@pytest.mark.parametrize("shape", [None, (64, 64), (40, 100)])
def test_a_folder_of_sharp_images_as_the_specimen(tmp_path, shape):
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 255, (48, 56), dtype=np.uint8)).save(tmp_path / name)
    with SimulatedMicroscope(frame_shape=shape, specimen=tmp_path) as microscope:
        height, width = shape or (48, 56)
        step = width * 0.656
        sequence = useq.MDASequence(stage_positions=[(0, 0), (step, 0), (2 * step, 0)])
        frames = acquire(microscope, sequence)
        first, second, third = (microscope.truth(i).in_focus for i in range(3))
    assert frames[0][0].shape == (height, width)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, third)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"specimen": Path("nowhere")}, "nowhere: no such folder"),
        ({"fps": 0}, "fps: 0"),
        ({"bit_depth": 24}, "bit_depth: 24"),
        ({"frame_shape": (0, 10)}, "frame_shape"),
    ],
)
def test_settings_without_sense_are_refused(settings, message):
    with pytest.raises(RefocusError, match=message):
        SimulatedMicroscope(**settings)


def test_the_process_ends_in_peace_with_a_core_still_open():
    script = (
        "from refocus.acquisition.microscopes.simulated import SimulatedMicroscope as S\n"
        "m = S(frame_shape=(32, 32)); m.core.mda.run(m.sequence(3)); m.core.snapImage()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"ERROR" not in done.stderr


def test_closing_twice_and_warming_up():
    microscope = SimulatedMicroscope(frame_shape=(32, 32))
    microscope.warm_up(4)
    acquire(microscope, microscope.sequence(2))
    assert microscope.truth(1).frame == 1
    microscope.close()
    microscope.close()
    assert microscope.core.getLoadedDevices() == ("Core",)
