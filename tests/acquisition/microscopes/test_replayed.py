"""The replay microscope: frames are the files, and bad folders are named."""

import os
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from refocus.acquisition.microscopes.replayed import ReplayMicroscope
from refocus.configs import RefocusError
from refocus.optics.images import read_image


def record(folder, names, shape=(40, 52), dtype=np.uint16, seed=0):
    """Write random images into a folder, and give them by name."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    images = {}
    for name in names:
        images[name] = rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
        if name.endswith(".png"):
            Image.fromarray(images[name]).save(folder / name)
        else:
            tifffile.imwrite(folder / name, images[name])
    return images


def replay(microscope, frames=None, hardware=True):
    """Run the replay, and give each frame's pixels and source."""
    got = []

    def keep(pixels, event, meta):
        got.append((pixels, meta["camera_metadata"]["source"]))

    microscope.core.mda.engine.use_hardware_sequencing = hardware
    microscope.core.mda.events.frameReady.connect(keep)
    microscope.core.mda.run(microscope.sequence(frames))
    microscope.core.mda.events.frameReady.disconnect(keep)
    return got


@pytest.mark.parametrize("hardware", [True, False], ids=["hardware", "software"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_frames_are_the_files_bit_for_bit(tmp_path, hardware, dtype, suffix):
    names = [f"{name}{suffix}" for name in ("b", "a", "a10", "a9")]
    as_counted = [f"{name}{suffix}" for name in ("a", "a9", "a10", "b")]
    images = record(tmp_path / "frames", names, dtype=dtype)
    with ReplayMicroscope(tmp_path / "frames") as microscope:
        assert microscope.sources == as_counted
        got = replay(microscope, hardware=hardware)
        assert microscope.truth(0).in_focus is None
        assert microscope.truth(0).z_um is None
    assert [source for _, source in got] == as_counted
    for pixels, source in got:
        assert pixels.dtype == dtype
        np.testing.assert_array_equal(pixels, images[source])


def test_partners_are_found_by_name(tmp_path):
    names = ["a.png", "b.png", "c.png"]
    record(tmp_path / "frames", names)
    partners = record(tmp_path / "sharp", ["a.png", "c.png", "z.png"], seed=1)
    with ReplayMicroscope(tmp_path / "frames", tmp_path / "sharp") as microscope:
        replay(microscope)
        for number, name in enumerate(names):
            truth = microscope.truth(number)
            assert truth.source == name
            if name in partners:
                np.testing.assert_array_equal(truth.in_focus, partners[name])
            else:
                assert truth.in_focus is None


def test_after_the_last_file_the_first_comes_again(tmp_path):
    record(tmp_path / "frames", ["a.tif", "b.tif"])
    with ReplayMicroscope(tmp_path / "frames") as microscope:
        got = replay(microscope, frames=5)
        assert microscope.truth(4).source == "a.tif"
    assert [source for _, source in got] == ["a.tif", "b.tif", "a.tif", "b.tif", "a.tif"]


def test_files_beyond_memory_are_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr("refocus.acquisition.microscopes.replayed.HELD_BYTES", 5000)
    images = record(tmp_path / "frames", ["a.tif", "b.tif", "c.tif"])
    with ReplayMicroscope(tmp_path / "frames") as microscope:
        for pixels, source in replay(microscope):
            np.testing.assert_array_equal(pixels, images[source])


def test_a_region_of_interest_crops_frame_and_partner(tmp_path):
    images = record(tmp_path / "frames", ["a.tif"])
    with ReplayMicroscope(tmp_path / "frames", tmp_path / "frames") as microscope:
        microscope.core.setROI(4, 8, 32, 16)
        ((pixels, _),) = replay(microscope)
        expected = images["a.tif"][8:24, 4:36]
        np.testing.assert_array_equal(pixels, expected)
        np.testing.assert_array_equal(microscope.truth(0).in_focus, expected)


def _broken(folder):
    (folder / "m.png").write_bytes(b"no picture")


def _coloured(folder):
    Image.fromarray(np.zeros((40, 52, 3), np.uint8)).save(folder / "m.png")


def _larger(folder):
    tifffile.imwrite(folder / "m.tif", np.zeros((41, 52), np.uint16))


def _narrower(folder):
    tifffile.imwrite(folder / "m.tif", np.zeros((40, 52), np.uint8))


def _floating(folder):
    tifffile.imwrite(folder / "m.tif", np.zeros((40, 52), np.float32))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_broken, r"m\.png: not a readable image"),
        (_coloured, r"m\.png: has shape \(40, 52, 3\)"),
        (_larger, r"m\.tif: is 52×41 uint16, but a\.tif is 52×40 uint16"),
        (_narrower, r"m\.tif: is 52×40 uint8, but a\.tif is 52×40 uint16"),
        (_floating, r"m\.tif: has pixels of float32"),
    ],
)
@pytest.mark.parametrize("where", ["frames", "sharp"])
def test_a_bad_image_is_named(tmp_path, spoil, message, where):
    record(tmp_path / "frames", ["a.tif", "m.tif", "m.png"])
    record(tmp_path / "sharp", ["a.tif"])
    spoil(tmp_path / where)
    with pytest.raises(RefocusError, match=message) as caught:
        ReplayMicroscope(tmp_path / "frames", tmp_path / "sharp")
    assert "\n" not in str(caught.value)


def test_a_bad_folder_is_named(tmp_path):
    record(tmp_path / "frames", ["a.tif"])
    record(tmp_path / "sharp", ["b.tif"])
    (tmp_path / "empty").mkdir()
    for frames, reference, message in [
        ("nowhere", None, "nowhere: no such folder"),
        ("empty", None, "empty: holds no image"),
        ("frames", "nowhere", "nowhere: no such folder"),
        ("frames", "sharp", "sharp: no image has the name of a frame"),
    ]:
        with pytest.raises(RefocusError, match=message):
            ReplayMicroscope(tmp_path / frames, reference and tmp_path / reference)


def test_real_fields_replay_exactly(shared_data):
    folder = shared_data / "bbbc006_pairs"
    with ReplayMicroscope(folder / "defocus_mid", folder / "infocus") as microscope:
        got = replay(microscope)
        assert len(got) == 28
        for number, (pixels, source) in enumerate(got):
            np.testing.assert_array_equal(pixels, read_image(folder / "defocus_mid" / source))
            truth = microscope.truth(number).in_focus
            np.testing.assert_array_equal(truth, read_image(folder / "infocus" / source))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_a_file_whose_name_is_no_text_is_a_frame_like_any_other(tmp_path):
    images = {b"a1.tif": 1, b"m\xfcller2.tif": 2, b"z3.tif": 3}
    for name, number in images.items():
        tifffile.imwrite(tmp_path / "any", np.full((16, 16), number, np.uint16))
        (tmp_path / "any").rename(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    taken = []
    with ReplayMicroscope(tmp_path) as microscope:
        microscope.core.mda.events.frameReady.connect(
            lambda pixels, event, meta: taken.append((pixels[0, 0], meta["camera_metadata"]))
        )
        microscope.core.mda.run(microscope.sequence())
    assert [number for number, _ in taken] == [1, 2, 3]
    assert [tags["source"] for _, tags in taken] == ["a1.tif", "m?ller2.tif", "z3.tif"]
