"""What is shown, as OME-TIFF."""

import json
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

from .wire import get, tab_at

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


def test_a_snapshot_holds_the_exact_pixels_and_all_that_is_known(stream, viewer, gradient):
    host, _ = viewer
    refocused = gradient((6, 7))
    stream.run()
    trust = {"verdict": "refocused", "score": 0.9, "share": 1.0}
    with tab_at(host) as tab:
        stream.frame(refocused, np.invert(refocused), index={"p": 1}, channel="a/b", trust=trust)
        header, _ = tab.frame()
        stream.frame(refocused // 2, refocused, index={"p": 1}, channel="µ")
        other, _ = tab.frame()
        response, body = get(
            host, f"/snapshot.ome.tif?serials={header['serial']},{other['serial']}"
        )
        assert response.status == 200
        assert response.headers["Content-Type"] == "image/tiff"
        name = "refocus_first_frame000000_p1_a_b.ome.tif"
        assert name in response.headers["Content-Disposition"]
    with tifffile.TiffFile(BytesIO(body)) as tiff:
        assert tiff.is_ome
        (series,) = tiff.series
        assert series.axes == "CYX"
        expected = [np.invert(refocused), refocused, refocused, refocused // 2]
        np.testing.assert_array_equal(series.asarray(), expected)
        assert tiff.pages[0].tags["XResolution"].value == (20000, 1)  # pixels per cm, 0.5 µm each
        image = ElementTree.fromstring(tiff.ome_metadata).find(f"{OME}Image")
    pixels = image.find(f"{OME}Pixels")
    assert (pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit")) == ("0.5", "µm")
    assert [one.get("Name") for one in pixels.findall(f"{OME}Channel")] == [
        *("a/b captured", "a/b refocused", "µ captured", "µ refocused")
    ]
    assert [one.get("ExposureTime") for one in pixels.findall(f"{OME}Plane")] == ["10.0"] * 4
    told = json.loads(image.find(f"{OME}Description").text)["frames"]
    assert [one["channel"] for one in told] == ["a/b", "µ"]
    assert (told[0]["trust"]["verdict"], told[0]["schema"]) == ("refocused", "refocus/1")


@pytest.mark.parametrize(
    ("serials", "status", "words"),
    [("99", 404, "not held"), ("x", 400, "not numbers"), ("", 400, "not numbers")],
)
def test_what_cannot_be_saved_is_told(viewer, serials, status, words):
    response, body = get(viewer[0], f"/snapshot.ome.tif?serials={serials}")
    assert response.status == status
    assert words in body.decode()


def test_channels_of_two_sizes_are_saved_one_by_one(stream, viewer, gradient):
    stream.run()
    with tab_at(viewer[0]) as tab:
        stream.frame(gradient((4, 4)))
        stream.frame(gradient((5, 5)), channel="FITC")
        until = [tab.frame()[0]["serial"]]
        while until[-1] != 2:
            until.append(tab.frame()[0]["serial"])
    response, body = get(viewer[0], "/snapshot.ome.tif?serials=1,2")
    assert response.status == 409
    assert b"save them one by one" in body
    assert get(viewer[0], "/snapshot.ome.tif?serials=1")[0].status == 200  # without any tab


def test_names_and_sizes_that_no_file_takes_do_not_keep_pixels_from_being_saved(
    stream, viewer, gradient
):
    host, _ = viewer
    refocused = gradient((4, 4))
    stream.run()
    odd = ("\x01", "\x02", "\ufffe")
    with tab_at(host) as tab:
        serials = []
        for name in odd:
            stream.frame(refocused, channel=name, pixel_size_um=1e-300, captured_utc=name)
            serials.append(str(tab.frame()[0]["serial"]))
        response, body = get(host, f"/snapshot.ome.tif?serials={','.join(serials)}")
    assert response.status == 200
    with tifffile.TiffFile(BytesIO(body)) as tiff:
        assert tiff.series[0].shape == (len(odd), 4, 4)
        image = ElementTree.fromstring(tiff.ome_metadata).find(f"{OME}Image")
    pixels = image.find(f"{OME}Pixels")
    assert pixels.get("PhysicalSizeX") is None
    names = [one.get("Name") for one in pixels.findall(f"{OME}Channel")]
    assert names == ["\N{REPLACEMENT CHARACTER} refocused"] * len(odd)
    told = json.loads(image.find(f"{OME}Description").text)["frames"]
    assert [one["channel"] for one in told] == list(odd)
