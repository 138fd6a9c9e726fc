"""The widget in a real napari: ``make napari``, which needs a display or xvfb."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import useq

from refocus.acquisition.hook import attach
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
    widget.disconnect_feed()


def acquire(core: Any, loops: int = LOOPS, **plans: Any) -> None:
    core.run_mda(useq.MDASequence(time_plan={"interval": 0, "loops": loops}, **plans))


def both(viewer: Any) -> list[Any]:
    return [layer for layer in viewer.layers if layer.name in ("captured", "refocused")]


def test_a_core_of_this_process(viewer, widget, qtbot, microscope: SimulatedMicroscope) -> None:
    widget.connect_to_core(microscope.core, FakeEngine())
    qtbot.waitUntil(lambda: widget._status.text().startswith("attached"), timeout=30_000)
    acquire(microscope.core)
    qtbot.waitUntil(lambda: f"frame {LOOPS - 1}\n" in widget._figures.text(), timeout=30_000)
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
    qtbot.waitUntil(lambda: widget._status.text().startswith("attached"), timeout=30_000)
    acquire(microscope.core)
    qtbot.waitUntil(lambda: len(both(viewer)) == 2, timeout=30_000)
    captured, refocused = both(viewer)
    captured.name, captured.contrast_limits = "mine", (5, 500)
    viewer.layers.remove(refocused)
    acquire(microscope.core)
    qtbot.waitUntil(lambda: "refocused" in viewer.layers, timeout=30_000)
    assert len(viewer.layers) == 2
    assert viewer.layers["mine"].contrast_limits == [5, 500]


def test_a_publisher(viewer, widget, qtbot, microscope: SimulatedMicroscope) -> None:
    with attach(
        microscope.core, engine=FakeEngine(), publish="tcp://127.0.0.1:*", publish_raw=True
    ) as live:
        widget.connect_to_endpoint(live.endpoint)
        qtbot.waitUntil(lambda: live.wait_subscribers(1, 0.0), timeout=30_000)
        acquire(microscope.core)
        qtbot.waitUntil(lambda: f"frame {LOOPS - 1}\n" in widget._figures.text(), timeout=30_000)
        assert len(both(viewer)) == 2
        widget.disconnect_feed()
    assert not widget.connected


def test_beside_layers_without_units_ours_have_none_either(
    viewer, widget, qtbot, microscope: SimulatedMicroscope
) -> None:
    """As those of napari-micromanager are; napari refuses to mix them."""
    viewer.add_image(np.zeros((8, 8), np.uint16), name="preview", scale=(0.656, 0.656))
    widget.connect_to_core(microscope.core, FakeEngine())
    qtbot.waitUntil(lambda: widget._status.text().startswith("attached"), timeout=30_000)
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
    assert said in widget._status.text()
    assert not widget.connected


def test_side_by_side(viewer, widget) -> None:
    widget._beside.setChecked(True)
    grid = getattr(viewer, "canvas", viewer).grid
    assert grid.enabled
    widget._beside.setChecked(False)
    assert not grid.enabled
