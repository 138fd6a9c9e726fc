// Which part of the picture is seen, the same for both sides, and the gestures that change it.

const LARGEST = 64; // screen pixels per pixel

export class Viewport {
  constructor() {
    this.size = [1, 1]; // of the picture, pixels
    this.pane = [1, 1]; // of one pane, CSS pixels
    this.center = [0.5, 0.5];
    this.zoom = 1; // CSS pixels per pixel of the picture
    this.fitted = true;
  }

  get fitZoom() {
    return Math.min(this.pane[0] / this.size[0], this.pane[1] / this.size[1]);
  }

  // Keep what is seen in proportion when the picture or the window changes its size.
  resize(size, pane) {
    if (size[0] !== this.size[0] || size[1] !== this.size[1]) this.fitted = true;
    this.size = size;
    this.pane = pane;
    if (this.fitted) this.fit();
    else this.clamp();
  }

  fit() {
    this.fitted = true;
    this.zoom = this.fitZoom;
    this.center = this.size.map((length) => length / 2);
  }

  // Zoom about a point, given in CSS pixels from the middle of a pane.
  zoomAt(factor, at = [0, 0]) {
    const before = this.zoom;
    const least = Math.min(this.fitZoom, 1) / 2;
    this.zoom = Math.min(LARGEST, Math.max(least, this.zoom * factor));
    this.center = this.center.map((c, i) => c + at[i] / before - at[i] / this.zoom);
    this.fitted = false;
    this.clamp();
  }

  pan(by) {
    this.center = this.center.map((c, i) => c - by[i] / this.zoom);
    this.fitted = false;
    this.clamp();
  }

  clamp() {
    this.center = this.center.map((c, i) => Math.min(this.size[i], Math.max(0, c)));
  }

  // The pixel under a point, given in CSS pixels from the middle of a pane.
  pixelAt(at) {
    return this.placeAt(at).map(Math.floor);
  }

  // The same, to parts of a pixel.
  placeAt(at) {
    return this.center.map((c, i) => c + at[i] / this.zoom);
  }
}

// Turn gestures on an element into changes of a viewport.
// fromMiddle(event) gives a point in CSS pixels from the middle of the pane under it.
export function listen(element, viewport, fromMiddle, changed) {
  const fingers = new Map();
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
  };
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    element.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, event);
  });
  element.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before || fingers.size > 2) return;
    const apart = fingers.size === 2 ? spread() : 0;
    fingers.set(event.pointerId, event);
    const share = 1 / fingers.size; // two fingers that move together move the picture once
    viewport.pan([
      (event.clientX - before.clientX) * share,
      (event.clientY - before.clientY) * share,
    ]);
    if (apart > 0) {
      const points = [...fingers.values()].map(fromMiddle);
      const middle = [0, 1].map((i) => (points[0][i] + points[1][i]) / 2);
      viewport.zoomAt(spread() / apart, middle);
    }
    changed();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    element.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }
  element.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const lines = event.deltaMode === 1 ? 30 : 1;
      viewport.zoomAt(Math.exp((-event.deltaY * lines) / 500), fromMiddle(event));
      changed();
    },
    { passive: false },
  );
  element.addEventListener("dblclick", (event) => {
    if (viewport.fitted) viewport.zoomAt(1 / viewport.zoom, fromMiddle(event));
    else viewport.fit();
    changed();
  });
}
