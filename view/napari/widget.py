"""The napari widget: two layers, captured and refocused, that show the newest frame.

It works beside napari-micromanager, whose core it finds by itself. Pictures are brought by a feed
(``napari_feed``) on other threads; a timer looks for the newest one, so that the GUI neither waits
nor works through a backlog.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from refocus.configs import RefocusError
from refocus.view.napari.feed import CoreFeed, EndpointFeed, Handover, Picture, PictureSource

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

CAPTURED, REFOCUSED = "captured", "refocused"
ENDPOINT = "tcp://127.0.0.1:5556"
FROM_CORE, FROM_ENDPOINT = "the microscope of this napari", "a publisher"
EVERY_CHANNEL = "every channel"
OURS = "refocus"
"""Key of a layer's metadata that tells it as one of ours."""
UNITS = {"um": "micrometer", "pixel": "pixel"}
LOOK_MS = 33
PERCENTILES = (0.1, 99.9)


class RefocusWidget(QWidget):
    """Connects to a publisher, or to the core of this process, and shows what comes.

    Parameters
    ----------
    napari_viewer
        Where the layers go; napari gives it.
    """

    def __init__(self, napari_viewer: "Viewer") -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._running = _Running()
        self._build()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._tick)
        self._due = 0.0
        self._wait(LOOK_MS)
        # this widget is gone by then: what has to end is told directly
        self.destroyed.connect(self._running.stop)

    @property
    def connected(self) -> bool:
        """Whether a feed is running."""
        return self._running.feed is not None

    @property
    def status(self) -> str:
        """How the feed stands, or what was wrong, in one line."""
        return str(self._status.text())

    def connect_to_endpoint(self, endpoint: str, keys: Path | None = None) -> None:
        """Show what a publisher sends; what was shown before is no longer followed.

        Raises
        ------
        RefocusError
            The endpoint is not one, or there are no such keys.
        """
        handover = Handover()
        self._start(EndpointFeed(endpoint, handover, keys), handover)

    def connect_to_core(
        self, core: Any = None, engine: Any = "auto", publish: str | None = None
    ) -> None:
        """Refocus and show what a core acquires, live view included.

        Parameters
        ----------
        core
            A ``CMMCorePlus``; by default the one that napari-micromanager uses.
        engine
            ``"auto"``, the name of an engine, a model file, or an engine.
        publish
            ZeroMQ endpoint to publish on, too.
        """
        if core is None:
            from pymmcore_plus import CMMCorePlus

            core = CMMCorePlus.instance()
        handover = Handover()
        self._start(CoreFeed(core, handover, engine, publish), handover)

    def disconnect_feed(self) -> None:
        """Stop following; the layers stay."""
        self._running.stop()
        self._button.setText("Connect")
        self._source.setEnabled(True)
        self._status.setText("not connected")

    def show_side_by_side(self, beside: bool) -> None:
        """Show the layers in napari's grid, or one above the other."""
        self._beside.setChecked(beside)

    # -- the controls

    def _build(self) -> None:
        self._source = QComboBox()
        self._source.addItems([FROM_CORE, FROM_ENDPOINT])
        self._engine, self._endpoint, self._keys = (
            QLineEdit("auto"),
            QLineEdit(ENDPOINT),
            QLineEdit(),
        )
        self._engine.setToolTip("auto, the name of an engine, or the path of an ONNX model")
        self._keys.setPlaceholderText("folder of keys, if it asks for them")
        self._channel = QComboBox()
        self._channel.addItem(EVERY_CHANNEL)
        self._beside = QCheckBox("side by side")
        self._button = QPushButton("Connect")
        self._status = QLabel("not connected")
        self._figures = QLabel()
        for label in (self._status, self._figures):
            label.setWordWrap(True)
        self._form = QFormLayout()
        for name, field in (
            ("Frames from", self._source),
            ("Engine", self._engine),
            ("Endpoint", self._endpoint),
            ("Keys", self._keys),
            ("Show", self._channel),
        ):
            self._form.addRow(name, field)
        layout = QVBoxLayout(self)
        layout.addLayout(self._form)
        for widget in (self._beside, self._button, self._status, self._figures):
            layout.addWidget(widget)
        layout.addStretch()
        self._source.currentTextChanged.connect(self._choose_source)
        self._channel.currentIndexChanged.connect(self._choose_channel)
        self._beside.toggled.connect(self._place)
        self._button.clicked.connect(self._toggle)
        self._choose_source(FROM_CORE)

    def _choose_source(self, source: str) -> None:
        for field in (self._engine, self._endpoint, self._keys):
            mine = (field is self._engine) == (source == FROM_CORE)
            for part in (field, self._form.labelForField(field)):
                if part is not None:
                    part.setVisible(mine)

    def _choose_channel(self, number: int) -> None:
        channels = self._running.handover.channels
        self._running.handover.channel = channels[number - 1] if number > 0 else None

    def _place(self, beside: bool) -> None:
        grid = getattr(self._viewer, "canvas", self._viewer).grid  # at the viewer before 0.9
        grid.shape, grid.stride, grid.enabled = (1, -1), 1, beside

    def _toggle(self) -> None:
        if self.connected:
            self.disconnect_feed()
            return
        try:
            if self._source.currentText() == FROM_CORE:
                self.connect_to_core(engine=self._engine.text().strip() or "auto")
            else:
                keys = self._keys.text().strip()
                self.connect_to_endpoint(
                    self._endpoint.text().strip(), Path(keys) if keys else None
                )
        except (RefocusError, ImportError) as error:
            self._status.setText(str(error))

    def _start(self, feed: PictureSource, handover: Handover) -> None:
        self._running.stop()
        self._running.feed, self._running.handover = feed, handover
        self._channel.setCurrentIndex(0)
        while self._channel.count() > 1:
            self._channel.removeItem(1)
        self._button.setText("Disconnect")
        self._source.setEnabled(False)
        feed.start()

    # -- the pictures, on the GUI's thread

    def _tick(self) -> None:
        # come late, the GUI is busy, most likely with our last picture: leave it as much time again
        late_ms = 1000 * (time.monotonic() - self._due)
        self._look()
        self._wait(LOOK_MS + max(0, int(late_ms)))

    def _wait(self, milliseconds: int) -> None:
        self._due = time.monotonic() + milliseconds / 1000
        self._timer.start(milliseconds)

    def _look(self) -> None:
        feed, handover = self._running.feed, self._running.handover
        if feed is None:
            return
        if self._status.text() != feed.status:
            self._status.setText(feed.status)
        for channel in handover.channels[self._channel.count() - 1 :]:
            self._channel.addItem(channel or "(no name)")
        if (picture := handover.take()) is not None:
            self._show(picture)

    def _show(self, picture: Picture) -> None:
        told = "" if picture.was_refocused else ", handed on as captured"
        if picture.captured is None:
            told += "; the publisher sends no captured frames: it needs publish_raw=True"
        self._figures.setText(
            f"frame {picture.frame}{told}\n{picture.latency_ms:.0f} ms after its capture"
        )
        limits: tuple[float, float] | None = None
        for name, pixels in ((CAPTURED, picture.captured), (REFOCUSED, picture.refocused)):
            if pixels is None:
                continue
            layer = self._layer(name)
            if layer is not None and layer.data.dtype == pixels.dtype:
                layer.data = pixels
                self._scale(layer, picture)
                continue
            if layer is not None:  # other pixels need another contrast
                self._viewer.layers.remove(layer)
            limits = limits or _limits(pixels)  # one for both, or they could not be compared
            size, unit = self._measure(picture)
            layer = self._viewer.add_image(
                pixels,
                name=name,
                scale=(size, size),
                units=(unit, unit),
                colormap="gray",
                contrast_limits=limits,
                metadata={OURS: name},
            )
            layer.contrast_limits_range = (0, 2**picture.bit_depth - 1)
            layer.contrast_limits = limits
            self._viewer.reset_view()

    def _layer(self, name: str) -> "Image | None":
        """Find our layer, whatever it is called by now; None if it was never there or is gone."""
        found = (x for x in self._viewer.layers if x.metadata.get(OURS) == name)
        return next(found, None)

    def _scale(self, layer: "Image", picture: Picture) -> None:
        size, unit = self._measure(picture)
        if tuple(layer.scale) != (size, size):
            layer.scale = (size, size)
        if any(str(found) != UNITS[unit] for found in layer.units):
            layer.units = (unit, unit)

    def _measure(self, picture: Picture) -> tuple[float, str]:
        """Give the size of a pixel and its unit.

        napari draws layers of different units without any, and complains. The layers of
        napari-micromanager have µm for their scale and no unit, so beside them ours have none.
        """
        others = (x for x in self._viewer.layers if OURS not in x.metadata)
        plain = any(str(unit) != UNITS["um"] for layer in others for unit in layer.units)
        known = picture.pixel_size_um > 0
        return picture.pixel_size_um if known else 1.0, "um" if known and not plain else "pixel"


class _Running:
    """The feed in use, apart from the widget, which is destroyed first."""

    def __init__(self) -> None:
        self.feed: PictureSource | None = None
        self.handover = Handover()

    def stop(self) -> None:
        feed, self.feed = self.feed, None
        if feed is not None:
            feed.stop()


def _limits(pixels: Any) -> tuple[float, float]:
    low, high = np.percentile(pixels[::4, ::4], PERCENTILES)
    return float(low), float(max(high, low + 1))
