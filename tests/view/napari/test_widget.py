"""The widget in a real napari: ``make napari``, which needs a display or xvfb."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import useq

from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.engine.fake import FakeEngine

pytestmark = pytest.mark.napari
pytest.importorskip("napari")

LOOPS = 3


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any]) -> Any:
    return make_napari_viewer()


@pytest.fixture
def widget(viewer: Any) -> Any:
    _, widget = viewer.window.add_plugin_dock_widget("refocus-live")
    yield widget
    widget.disconnect_source()


def acquire(core: Any, loops: int = LOOPS, **plans: Any) -> None:
    core.run_mda(useq.MDASequence(time_plan={"interval": 0, "loops": loops}, **plans))


def both(viewer: Any) -> list[Any]:
    return [layer for layer in viewer.layers if layer.name in ("captured", "refocused")]


def test_a_core_of_this_process(viewer, widget, qtbot, microscope: SimulatedMicroscope) -> None:
    widget.connect_to_core(microscope.core, FakeEngine())
    qtbot.waitUntil(lambda: "no run yet" in widget.status, timeout=30_000)
    acquire(microscope.core)
    qtbot.waitUntil(lambda: f"frame {LOOPS - 1}," in widget.caption, timeout=30_000)
    captured, refocused = both(viewer)
    assert (captured.name, refocused.name) == ("captured", "refocused")
    np.testing.assert_array_equal(refocused.data, np.invert(captured.data))
    for layer in (captured, refocused):
        np.testing.assert_allclose(layer.scale, (0.656, 0.656))
        assert [str(unit) for unit in layer.units] == ["micrometer", "micrometer"]
        assert not layer.data.flags.writeable
    assert captured.contrast_limits == refocused.contrast_limits


def test_layers_are_kept_as_the_user_has_them(
    viewer, widget, qtbot, microscope: SimulatedMicroscope
) -> None:
    widget.connect_to_core(microscope.core, FakeEngine())
    qtbot.waitUntil(lambda: "no run yet" in widget.status, timeout=30_000)
    acquire(microscope.core)
    qtbot.waitUntil(lambda: len(both(viewer)) == 2, timeout=30_000)
    captured, refocused = both(viewer)
    captured.name, captured.contrast_limits = "mine", (5, 500)
    viewer.layers.remove(refocused)
    acquire(microscope.core)
    qtbot.waitUntil(lambda: "refocused" in viewer.layers, timeout=30_000)
    assert len(viewer.layers) == 2
    assert viewer.layers["mine"].contrast_limits == [5, 500]


def listed(box: Any) -> list[str]:
    return [box.itemText(i) for i in range(box.count())]


@pytest.fixture
def follows(widget, stream, qtbot) -> Callable[[str], None]:
    """Have the widget follow a publisher that says what a test wants."""
    widget.connect_to_endpoint(stream.endpoint)
    stream.wait_reader()
    return lambda text: qtbot.waitUntil(
        lambda: text in f"{widget.status}\n{widget.caption}", timeout=30_000
    )


def test_it_says_verdict_distance_queue_and_drops(widget, stream, follows, gradient) -> None:
    stream.run()
    trust = {"verdict": "beyond", "share": 0.0, "score": 0.25}
    focus = {"distance_um": 31.25, "sigma_um": 4.0}
    stream.frame(gradient(), gradient(), trust=trust, focus=focus)
    stream.stats(queued=3, frames={"dropped": 2})
    follows("2 dropped")
    follows("frame 0")
    assert widget.caption == (
        "frame 0, DAPI, beyond, 31.2 ± 4.0 µm from focus, score 0.25, 5 ms after its capture"
    )
    first, engine = widget.status.splitlines()
    assert first == "running, 3 of 8 waiting, 2 dropped"
    assert engine == "refocus-compact openvino bf16 CPU"
    stream.stats(end=True)
    follows("the run is over")


def test_a_publisher_that_goes_and_another_schema_are_said(stream, follows) -> None:
    follows("no run yet")
    stream.foreign()
    follows("not understood: ")
    stream.close()
    follows("nobody publishes at tcp://127.0.0.1:")


def test_position_channel_and_plane_can_be_chosen(
    viewer, widget, stream, follows, gradient
) -> None:
    stream.run()
    for number, index in enumerate(({"p": 0, "z": 0}, {"p": 0, "z": 1}, {"p": 1, "z": 1})):
        stream.frame(gradient() // (1 + number), gradient(), index=index)
    stream.frame(gradient() // 9, gradient(), index={"p": 1, "z": 1}, channel="FITC")
    follows("frame 3, FITC")
    boxes = widget._boxes
    assert listed(boxes["p"]) == ["follow the run", "left", "right"]
    assert listed(boxes["c"]) == ["follow the run", "DAPI", "FITC"]
    assert listed(boxes["z"]) == ["follow the run", "z 0", "z 1"]
    for axis, at in (("p", 1), ("z", 2)):
        boxes[axis].setCurrentIndex(at)
        boxes[axis].activated.emit(at)
    follows("frame 1, DAPI")
    np.testing.assert_array_equal(viewer.layers["refocused"].data, gradient() // 2)
    widget.choose("z", None)
    widget.choose("c", "FITC")
    stream.run("second", positions=("right", "left"))
    stream.frame(gradient(), gradient(), index={"p": 1}, channel="FITC")
    follows("frame 0, FITC")  # left is there by its name, at another number
    stream.run("third", positions=("middle",))
    stream.frame(gradient(), gradient(), index={"p": 0}, channel="FITC")
    follows("nothing of left in this run yet")
    assert listed(boxes["p"]) == ["follow the run", "middle", "left"]
    assert boxes["p"].currentText() == "left"


def test_what_is_chosen_is_shown_before_it_has_come(widget) -> None:
    widget.choose("c", "FITC")
    assert widget._boxes["c"].currentText() == "FITC"
    widget.choose("c", None)
    assert widget._boxes["c"].currentText() == "follow the run"


def test_frames_that_come_without_their_captured_ones(
    viewer, widget, stream, follows, gradient
) -> None:
    stream.run()
    stream.frame(gradient(), refocused=False)
    follows("handed on as captured")
    assert len(both(viewer)) == 2
    viewer.layers.clear()
    stream.frame(gradient())
    follows("captured frames are not sent: publish_raw")
    assert [layer.name for layer in both(viewer)] == ["refocused"]


def test_beside_layers_without_units_ours_have_none_either(
    viewer, widget, qtbot, microscope: SimulatedMicroscope
) -> None:
    """As those of napari-micromanager are; napari refuses to mix them."""
    viewer.add_image(np.zeros((8, 8), np.uint16), name="preview", scale=(0.656, 0.656))
    widget.connect_to_core(microscope.core, FakeEngine())
    qtbot.waitUntil(lambda: "no run yet" in widget.status, timeout=30_000)
    acquire(microscope.core)
    qtbot.waitUntil(lambda: len(both(viewer)) == 2, timeout=30_000)
    for layer in both(viewer):
        np.testing.assert_allclose(layer.scale, (0.656, 0.656))
        assert [str(unit) for unit in layer.units] == ["pixel", "pixel"]


@pytest.mark.parametrize(
    ("endpoint", "said"), [("C:\\pipe", "not one to connect to"), ("", "not one to connect to")]
)
def test_bad_input_is_said_in_the_widget(viewer, widget, endpoint: str, said: str) -> None:
    from refocus.view.napari.widget import FROM_ENDPOINT

    widget._source.setCurrentText(FROM_ENDPOINT)
    widget._endpoint.setText(endpoint)
    widget._button.click()
    assert said in widget.status
    assert not widget.connected


def test_side_by_side(viewer, widget) -> None:
    widget._beside.setChecked(True)
    grid = getattr(viewer, "canvas", viewer).grid
    assert grid.enabled
    widget._beside.setChecked(False)
    assert not grid.enabled


def test_what_is_refocused_is_chosen_before_it_connects(
    widget, qtbot, microscope: SimulatedMicroscope, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = SimpleNamespace(instance=lambda: microscope.core)  # as napari-micromanager leaves one
    monkeypatch.setattr("pymmcore_plus.CMMCorePlus", found)
    widget._engine.setText("fake")
    widget._stacks.setChecked(True)
    widget._region.setText("1,2")
    widget._button.click()
    qtbot.waitUntil(lambda: "give X,Y,WIDTH,HEIGHT" in widget.status, timeout=30_000)
    widget._button.click()
    widget._region.setText("0,0,32,32")
    widget._button.click()
    qtbot.waitUntil(lambda: "no run yet" in widget.status, timeout=30_000)
    stack = {"range": 2.0, "step": 1.0}
    microscope.core.run_mda(useq.MDASequence(z_plan=stack))
    qtbot.waitUntil(lambda: "frame 2," in widget.caption, timeout=30_000)
    assert "as captured" not in widget.caption
    assert "z 2" in listed(widget._boxes["z"])
