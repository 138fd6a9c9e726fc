"""The newest frame of an endpoint in a real ndv, which needs the extra [ndv] and a Qt."""

import os

import numpy as np
import pytest

from refocus.view.places import Wanted

pytest.importorskip("ndv")
# its window makes a Qt application, through which cores of later tests in this process would signal
pytestmark = [pytest.mark.napari, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def live(stream, monkeypatch):
    monkeypatch.setitem(os.environ, "QT_QPA_PLATFORM", "offscreen")
    from refocus.view.ndv.live import LiveView

    with LiveView(stream.endpoint) as live:
        stream.wait_reader()
        yield live


def shown(live, eventually, frame):
    import ndv

    def there():
        ndv.process_events()
        return f"frame {frame}," in live.caption

    eventually(there)
    return live.viewer.data


def test_captured_and_refocused_are_its_channels(live, stream, eventually, gradient):
    stream.run()
    stream.frame(gradient(), gradient()[::-1] // 2)
    data = shown(live, eventually, 0)
    np.testing.assert_array_equal(data[0], gradient()[::-1] // 2)
    np.testing.assert_array_equal(data[1], gradient())
    assert live.viewer.display_model.channel_axis == 0
    stream.frame(gradient() // 3, gradient())
    assert shown(live, eventually, 1) is data  # written into, so that contrast and zoom stay
    np.testing.assert_array_equal(data[1], gradient() // 3)
    stream.frame(gradient((32, 48), np.uint8))
    assert shown(live, eventually, 2).shape == (2, 32, 48)


def test_it_says_verdict_distance_queue_and_drops(live, stream, eventually, gradient):
    stream.run()
    trust = {"verdict": "beyond", "share": 0.0, "score": 0.25}
    focus = {"distance_um": 31.25, "sigma_um": 4.0}
    stream.frame(gradient(), trust=trust, focus=focus)
    shown(live, eventually, 0)

    def says():
        # again and again: a window that opens slowly takes the silence meanwhile for the end
        stream.stats(queued=3, frames={"dropped": 2})
        return "running, 3 of 8 waiting, 2 dropped" in live.caption

    eventually(says)
    assert live.caption.splitlines()[0] == (
        "frame 0, DAPI, beyond, 31.2 ± 4.0 µm from focus, score 0.25, 5 ms after its capture"
    )


def test_it_stays_at_the_channel_that_is_wanted(live, stream, eventually, gradient):
    live.wanted = Wanted(c="FITC")
    stream.run()
    stream.frame(gradient(), channel="FITC")
    stream.frame(gradient(), channel="DAPI")
    stream.stats(queued=1)
    shown(live, eventually, 0)
    eventually(lambda: "1 of 8 waiting" in live.caption)
    assert "FITC" in live.caption
