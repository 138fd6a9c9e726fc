"""The napari widget: two layers, captured and refocused, that show the newest frame.

It works beside napari-micromanager, whose core it finds by itself. What comes is taken on other
threads, from a publisher as the page takes it, or from that core (``core`` beside this); a timer
looks for the newest frame, so that the GUI neither waits nor works through a backlog.
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
from refocus.stream.messages import FrameHeader
from refocus.view.caption import of_engine, of_frame, of_stream
from refocus.view.choice import AXES, Choice
from refocus.view.listener import Listener
from refocus.view.napari.core import HERE, AttachedCore
from refocus.view.places import Shown

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

CAPTURED, REFOCUSED = "captured", "refocused"
ENDPOINT = "tcp://127.0.0.1:5556"
FROM_CORE, FROM_ENDPOINT = HERE, "a publisher"
FOLLOW = "follow the run"
OURS = "refocus"
"""Key of a layer's metadata that tells it as one of ours."""
UNITS = {"um": "micrometer", "pixel": "pixel"}
LOOK_MS = 33
PERCENTILES = (0.1, 99.9)


Source = Listener | AttachedCore


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
        self._choice = Choice()
        self._state: dict[str, Any] | None = None
        self._revision = -1
        self._shown: Shown | None = None
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
        """Whether something is followed."""
        return self._running.source is not None

    @property
    def status(self) -> str:
        """How the run stands, what waits and what was dropped, or what was wrong."""
        return str(self._status.text())

    @property
    def caption(self) -> str:
        """What is known of the frame that is shown: verdict, distance from focus, age."""
        return str(self._caption.text())

    def connect_to_endpoint(self, endpoint: str, keys: Path | None = None) -> None:
        """Show what a publisher sends; what was shown before is no longer followed.

        Raises
        ------
        RefocusError
            The endpoint is not one, or there are no such keys.
        """
        self._start(Listener(endpoint, keys))

    def connect_to_core(
        self, core: Any = None, engine: Any = "auto", publish: str | None = None, **options: Any
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
        options
            Further ones of :func:`refocus.acquisition.attach`.
        """
        if core is None:
            from pymmcore_plus import CMMCorePlus

            core = CMMCorePlus.instance()
        self._start(AttachedCore(core, engine, publish, **options))

    def disconnect_source(self) -> None:
        """Stop following; the layers stay."""
        self._running.stop()
        self._button.setText("Connect")
        self._source.setEnabled(True)
        self._status.setText("not connected")

    def show_side_by_side(self, beside: bool) -> None:
        """Show the layers in napari's grid, or one above the other."""
        self._beside.setChecked(beside)

    def choose(self, axis: str, name: str | None) -> None:
        """Stay at a place, in the runs that come, too.

        Parameters
        ----------
        axis
            ``"p"``, ``"c"`` or ``"z"``: position, channel or plane.
        name
            As the widget lists it; None follows the run.
        """
        self._choice.names[axis] = name
        self._boxes[axis].setCurrentText(name or FOLLOW)
        self._offer()

    # -- the controls

    def _build(self) -> None:
        self._source = QComboBox()
        self._source.addItems([FROM_CORE, FROM_ENDPOINT])
        self._engine, self._region = QLineEdit("auto"), QLineEdit()
        self._stacks = QCheckBox("planes of z-stacks, too")
        self._endpoint, self._keys = QLineEdit(ENDPOINT), QLineEdit()
        self._engine.setToolTip("auto, the name of an engine, or the path of an ONNX model")
        self._region.setPlaceholderText("X,Y,W,H in pixels; else all of a frame")
        self._keys.setPlaceholderText("folder of keys, if it asks for them")
        self._boxes = {axis: QComboBox() for axis in AXES}
        self._beside = QCheckBox("side by side")
        self._button = QPushButton("Connect")
        self._status, self._caption = QLabel("not connected"), QLabel()
        self._form = QFormLayout()
        for name, field in {
            "Frames from": self._source,
            "Engine": self._engine,
            "Refocus": self._stacks,
            "Region": self._region,
            "Endpoint": self._endpoint,
            "Keys": self._keys,
            **{name.capitalize(): self._boxes[axis] for axis, name in AXES.items()},
        }.items():
            self._form.addRow(name, field)
        layout = QVBoxLayout(self)
        layout.addLayout(self._form)
        for widget in (self._beside, self._button, self._status, self._caption):
            layout.addWidget(widget)
        layout.addStretch()
        for label in (self._status, self._caption):
            label.setWordWrap(True)
        for axis, box in self._boxes.items():
            box.addItem(FOLLOW)
            box.activated.connect(lambda at, axis=axis: self.choose(axis, self._name(axis, at)))
        self._source.currentTextChanged.connect(self._choose_source)
        self._beside.toggled.connect(self._place)
        self._button.clicked.connect(self._toggle)
        self._choose_source(FROM_CORE)

    def _choose_source(self, source: str) -> None:
        of_core, of_endpoint = (
            (self._engine, self._stacks, self._region),
            (self._endpoint, self._keys),
        )
        for field in (*of_core, *of_endpoint):
            mine = (field in of_core) == (source == FROM_CORE)
            for part in (field, self._form.labelForField(field)):
                if part is not None:
                    part.setVisible(mine)

    def _name(self, axis: str, number: int) -> str | None:
        return self._boxes[axis].itemText(number) if number else None

    def _place(self, beside: bool) -> None:
        grid = getattr(self._viewer, "canvas", self._viewer).grid  # at the viewer before 0.9
        grid.shape, grid.stride, grid.enabled = (1, -1), 1, beside

    def _toggle(self) -> None:
        if self.connected:
            self.disconnect_source()
            return
        try:
            if self._source.currentText() == FROM_CORE:
                self.connect_to_core(
                    engine=self._engine.text().strip() or "auto",
                    refocus_z=self._stacks.isChecked(),
                    region=self._region.text().strip() or None,
                )
            else:
                keys = self._keys.text().strip()
                self.connect_to_endpoint(
                    self._endpoint.text().strip(), Path(keys) if keys else None
                )
        except (RefocusError, ImportError) as error:
            self._status.setText(str(error))

    def _start(self, source: Source) -> None:
        self._running.stop()
        self._running.source = source
        self._state, self._revision, self._shown = None, -1, None
        self._caption.setText("")
        self._button.setText("Disconnect")
        self._source.setEnabled(False)
        source.start()

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
        source = self._running.source
        if source is None:
            return
        self._revision, state = source.state(self._revision)
        if state is not None:
            self._state = state
            self._choice.update(state)
            self._offer()
        if self._state is None:
            return
        engine = "" if source.obstacle else of_engine(self._state)
        said = [source.obstacle or of_stream(self._state), engine, self._choice.lacking]
        _say(self._status, "\n".join(filter(None, said)))
        shown = source.newest(self._choice.wanted)
        if shown is not None and shown is not self._shown:
            self._shown = shown
            self._show(shown)

    def _offer(self) -> None:
        """List what the run has, and what is chosen though it has not come."""
        for axis, there in self._choice.offered.items():
            box, wanted = self._boxes[axis], self._choice.names[axis]
            names = [FOLLOW, *there, *({wanted} - {None, *there})]
            if names != [box.itemText(i) for i in range(box.count())]:  # an open list stays open
                box.clear()
                box.addItems(names)
                box.setCurrentText(wanted or FOLLOW)

    def _show(self, shown: Shown) -> None:
        header = shown.frame.header
        told = "" if shown.captured is not None else "; captured frames are not sent: publish_raw"
        self._caption.setText(of_frame(header) + told)
        limits: tuple[float, float] | None = None
        for name, pixels in ((CAPTURED, shown.captured), (REFOCUSED, shown.frame.pixels)):
            if pixels is None:
                continue
            layer = self._layer(name)
            if layer is not None and layer.data.dtype == pixels.dtype:
                layer.data = pixels
                self._scale(layer, header)
                continue
            if layer is not None:  # other pixels need another contrast
                self._viewer.layers.remove(layer)
            limits = limits or _limits(pixels)  # one for both, or they could not be compared
            size, unit = self._measure(header)
            layer = self._viewer.add_image(
                pixels,
                name=name,
                scale=(size, size),
                units=(unit, unit),
                colormap="gray",
                contrast_limits=limits,
                metadata={OURS: name},
            )
            layer.contrast_limits_range = (0, 2**header.bit_depth - 1)
            layer.contrast_limits = limits
            self._viewer.reset_view()

    def _layer(self, name: str) -> "Image | None":
        """Find our layer, whatever it is called by now; None if it was never there or is gone."""
        found = (x for x in self._viewer.layers if x.metadata.get(OURS) == name)
        return next(found, None)

    def _scale(self, layer: "Image", header: FrameHeader) -> None:
        size, unit = self._measure(header)
        if tuple(layer.scale) != (size, size):
            layer.scale = (size, size)
        if any(str(found) != UNITS[unit] for found in layer.units):
            layer.units = (unit, unit)

    def _measure(self, header: FrameHeader) -> tuple[float, str]:
        """Give the size of a pixel and its unit.

        napari draws layers of different units without any, and complains. The layers of
        napari-micromanager have µm for their scale and no unit, so beside them ours have none.
        """
        others = (x for x in self._viewer.layers if OURS not in x.metadata)
        plain = any(str(unit) != UNITS["um"] for layer in others for unit in layer.units)
        known = header.pixel_size_um > 0
        return header.pixel_size_um if known else 1.0, "um" if known and not plain else "pixel"


class _Running:
    """The source in use, apart from the widget, which is destroyed first."""

    def __init__(self) -> None:
        self.source: Source | None = None

    def stop(self) -> None:
        source, self.source = self.source, None
        if source is not None:
            source.close()


def _say(label: QLabel, text: str) -> None:
    if label.text() != text:
        label.setText(text)


def _limits(pixels: Any) -> tuple[float, float]:
    low, high = np.percentile(pixels[::4, ::4], PERCENTILES)
    return float(low), float(max(high, low + 1))
