// The pictures: one canvas, cut into panes by the way of viewing, and what is written over it.

import { CanvasPainter } from "./paint_2d.js";
import { GlPainter } from "./paint_gl.js";
import { Viewport, listen } from "./viewport.js";

const GAP = 2; // CSS pixels between panes
const FLICKER_MS = 600; // slow enough for anybody's eyes
const VERDICTS = {
  "in-focus": ["●", "in focus, left alone"],
  refocused: ["✓", "refocused"],
  beyond: ["▲", "too far from focus to restore"],
  unfamiliar: ["✕", "unlike anything trained on"],
  blank: ["□", "nothing to see but noise"],
  unrated: ["○", "not judged"],
};

const $ = (id) => document.getElementById(id);

// The side of focus is named where it is likely enough to turn a knob by.
function distanceInWords(focus, verdict) {
  const far = `${focus.distance_um.toFixed(1)} ± ${focus.sigma_um.toFixed(1)} µm from focus`;
  const side = focus.positive_side ?? 0.5;
  return verdict === "in-focus" || Math.abs(side - 0.5) < 0.3 ? far : `${far}, ${side > 0.5 ? "+" : "−"}\u00a0side`;
}

export class Stage {
  // changed() is called whenever the stage wants to be drawn again.
  constructor(changed) {
    this.changed = changed;
    this.root = $("stage");
    this.canvas = $("picture");
    this.open();
    this.viewport = new Viewport();
    this.mode = "side";
    this.wipe = 0.5;
    this.flicker = { side: "refocused", timer: null };
    this.peeking = false;
    this.frame = null;
    this.panes = [];
    listen(this.canvas, this.viewport, (event) => this.fromMiddle(event), changed);
    this.listenWipe();
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    new ResizeObserver(() => changed()).observe(this.root);
  }

  open() {
    const forced = new URLSearchParams(location.search).get("painter"); // "webgl" or "canvas"
    const trial = document.createElement("canvas"); // a canvas has one kind of context for life
    const withGl = forced !== "canvas" && GlPainter.open(trial, forced === "webgl");
    this.painter = withGl ? GlPainter.open(this.canvas, true) : new CanvasPainter(this.canvas);
    this.canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    this.canvas.addEventListener("webglcontextrestored", () => {
      this.painter.prepare();
      if (this.frame) this.show(this.frame);
      this.changed();
    });
  }

  get withWebGl() {
    return this.painter instanceof GlPainter;
  }

  // Give the graphics a frame, to be drawn next.
  show(frame) {
    if (!this.painter.takes(frame.width, frame.height)) {
      // a canvas has one kind of context for life
      const fresh = this.canvas.cloneNode();
      this.canvas.replaceWith(fresh);
      this.canvas = fresh;
      this.painter = new CanvasPainter(fresh);
      listen(fresh, this.viewport, (event) => this.fromMiddle(event), this.changed);
    }
    this.frame = frame;
    this.asCaptured = isAsCaptured(frame);
    this.painter.show("refocused", frame.refocused, frame.width, frame.height);
    if (frame.captured) this.painter.show("captured", frame.captured, frame.width, frame.height);
  }

  setMode(mode) {
    this.mode = mode;
    clearInterval(this.flicker.timer);
    this.flicker = { side: "refocused", timer: null };
    if (mode === "flicker") this.keepFlickering();
    this.changed();
  }

  keepFlickering() {
    this.flicker.timer = setInterval(() => this.flip(), FLICKER_MS);
  }

  flip() {
    this.flicker.side = this.flicker.side === "refocused" ? "captured" : "refocused";
    this.changed();
  }

  // Stop at one side, and go from one to the other by hand.
  step() {
    if (this.mode !== "flicker") return;
    clearInterval(this.flicker.timer);
    this.flip();
  }

  setWipe(share) {
    this.wipe = Math.min(1, Math.max(0, share));
    this.changed();
  }

  // While it is held, show the captured frame everywhere.
  peek(on) {
    if (on !== this.peeking) {
      this.peeking = on;
      this.changed();
    }
  }

  // -- drawing

  // limits(side) gives the values of black and white.
  draw(limits) {
    const { clientWidth: wide, clientHeight: tall } = this.root;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(wide * ratio), Math.round(tall * ratio)];
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    if (!this.frame || !width || !height) return;
    this.panes = this.layOut(wide, tall);
    const { width: w, height: h } = this.panes[0];
    this.viewport.resize([this.frame.width, this.frame.height], [w, h]);
    this.painter.paint(
      this.panes.map((pane) => onScreen(pane, ratio, limits(pane.side))),
      { center: this.viewport.center, zoom: this.viewport.zoom * ratio },
    );
    this.writeOver(wide);
  }

  // Panes in CSS pixels; the first is as large as any.
  layOut(wide, tall) {
    const whole = (side, from = 0, to = 1) => ({
      side,
      x: 0,
      y: 0,
      width: wide,
      height: tall,
      clip: { x: from * wide, width: (to - from) * wide },
    });
    if (!this.frame.captured) return [whole("refocused")];
    if (this.peeking) return [whole("captured")];
    if (this.mode === "one") return [whole("refocused")];
    if (this.mode === "flicker") return [whole(this.flicker.side)];
    if (this.mode === "wipe") {
      return [whole("captured", 0, this.wipe), whole("refocused", this.wipe, 1)];
    }
    const beside = wide >= tall;
    const width = beside ? (wide - GAP) / 2 : wide;
    const height = beside ? tall : (tall - GAP) / 2;
    return ["captured", "refocused"].map((side, i) => {
      const x = beside ? i * (width + GAP) : 0;
      return { side, x, y: beside ? 0 : i * (height + GAP), width, height, clip: { x, width } };
    });
  }

  writeOver(wide) {
    const { header } = this.frame;
    const wiping = this.mode === "wipe" && this.panes.length === 2;
    for (const side of ["captured", "refocused"]) {
      const pane = this.panes.find((one) => one.side === side);
      const label = $(`label-${side}`);
      label.hidden = !pane;
      if (!pane) continue;
      const right = wiping && side === "refocused";
      label.style.left = right ? "auto" : `${pane.x + 10}px`;
      label.style.right = right ? "10px" : "auto";
      label.style.top = `${pane.y + 10}px`;
    }
    $("label-refocused").textContent = this.asCaptured ? "as captured" : "refocused";
    const handle = $("wipe");
    handle.hidden = !wiping;
    handle.style.left = `${this.wipe * wide}px`;
    handle.setAttribute("aria-valuenow", Math.round(this.wipe * 100));
    this.writeVerdict(header, this.panes.at(-1), wiping);
    this.writeScale(header);
  }

  writeVerdict(header, pane, onTheRight) {
    const badge = $("verdict");
    badge.hidden = !header.trust;
    if (!header.trust) return;
    const { verdict, score, share } = header.trust;
    const [sign, words] = VERDICTS[verdict] ?? VERDICTS.unrated;
    badge.dataset.verdict = verdict;
    badge.firstElementChild.textContent = `${sign} ${verdict}`;
    const far = header.focus ? distanceInWords(header.focus, verdict) : "";
    const sure = score === null ? "" : `score ${score.toFixed(2)}`;
    const part = share > 0 && share < 1 ? `${Math.round(100 * share)} % refocused` : "";
    badge.lastElementChild.textContent = [far, sure, part].filter(Boolean).join(" · ");
    badge.title = words;
    badge.style.left = onTheRight ? "auto" : `${pane.x + 10}px`;
    badge.style.right = onTheRight ? "10px" : "auto";
    badge.style.top = `${pane.y + 42}px`;
  }

  // A bar of 1, 2 or 5 times a power of ten, at most a fifth of a pane.
  writeScale(header) {
    const bar = $("scale-bar");
    const size = header.pixel_size_um;
    bar.hidden = !(size > 0);
    if (bar.hidden) return;
    const [pane] = this.panes;
    const most = (pane.width / 5 / this.viewport.zoom) * size;
    const power = 10 ** Math.floor(Math.log10(most));
    const length = power * ([5, 2, 1].find((step) => step * power <= most) ?? 1);
    const unit = length >= 1000 ? `${length / 1000} mm` : `${+length.toPrecision(1)} µm`;
    bar.firstElementChild.style.width = `${(length / size) * this.viewport.zoom}px`;
    bar.lastElementChild.textContent = unit;
  }

  // -- pointing

  paneAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const hit = ({ clip, y: top, height }) =>
      x >= clip.x && x < clip.x + clip.width && y >= top && y < top + height;
    const pane = this.panes.find(hit) ?? this.panes[0];
    return pane && { pane, x, y };
  }

  fromMiddle(event) {
    const at = this.paneAt(event);
    if (!at) return [0, 0];
    const { pane, x, y } = at;
    return [x - pane.x - pane.width / 2, y - pane.y - pane.height / 2];
  }

  point(event) {
    this.pointed = event && { clientX: event.clientX, clientY: event.clientY };
    this.readOut();
  }

  // Say which values are under the pointer.
  readOut() {
    let text = "";
    if (this.pointed && this.frame) {
      const { width, height, captured, refocused } = this.frame;
      const [x, y] = this.viewport.pixelAt(this.fromMiddle(this.pointed));
      if (x >= 0 && x < width && y >= 0 && y < height) {
        const at = y * width + x;
        text = `x ${x}  y ${y}`;
        if (captured) text += `  captured ${captured[at]}`;
        text += `  refocused ${refocused[at]}${tileAt(this.frame.header.tiles, x, y)}`;
      }
    }
    const out = $("readout");
    if (out.textContent !== text) out.textContent = text;
  }

  listenWipe() {
    const handle = $("wipe");
    const follow = (event) => {
      const box = this.root.getBoundingClientRect();
      this.setWipe((event.clientX - box.left) / box.width);
    };
    handle.addEventListener("pointerdown", (event) => {
      handle.setPointerCapture(event.pointerId);
      handle.onpointermove = follow;
    });
    for (const end of ["pointerup", "pointercancel"]) {
      handle.addEventListener(end, () => (handle.onpointermove = null));
    }
  }
}

// What was found around a pixel: "  7.4 µm from focus", and how much of it was taken, if not all.
function tileAt(tiles, x, y) {
  if (!tiles) return "";
  const [column, row] = [
    Math.min(tiles.columns - 1, Math.floor(x / tiles.side_px)),
    Math.min(tiles.rows - 1, Math.floor(y / tiles.side_px)),
  ];
  const at = row * tiles.columns + column;
  const share = tiles.share_percent[at];
  const part = share < 100 ? `, ${share} % refocused` : "";
  return `  ${tiles.distance_um[at].toFixed(1)} µm from focus${part}`;
}

// Whether a frame was handed on untouched, on purpose or because its result was not trusted.
function isAsCaptured({ header, captured, refocused }) {
  if (!header.refocused) return true;
  const step = captured && Math.max(1, captured.length >> 12) | 1;
  for (let i = 0; captured && i < captured.length; i += step) {
    if (captured[i] !== refocused[i]) return false;
  }
  return captured !== null;
}

function onScreen(pane, ratio, limits) {
  const scaled = (value) => Math.round(value * ratio);
  const x = scaled(pane.x);
  const y = scaled(pane.y);
  const from = scaled(pane.clip.x);
  return {
    side: pane.side,
    limits,
    x,
    y,
    width: scaled(pane.x + pane.width) - x,
    height: scaled(pane.y + pane.height) - y,
    clip: { x: from, width: scaled(pane.clip.x + pane.clip.width) - from },
  };
}
