// The pictures: one canvas, cut into panes by the way of viewing, and what is written over it.

import { inkOf } from "./luts.js";
import { $ } from "./page.js";
import { CanvasPainter } from "./paint_2d.js";
import { GlPainter } from "./paint_gl.js";
import { verdictInWords } from "./verdicts.js";
import { Viewport, listen } from "./viewport.js";

const GAP = 2; // CSS pixels between panes
const FLICKER_MS = 600; // slow enough for anybody's eyes

// The side of focus is named where it is likely enough to turn a knob by.
function distanceInWords(focus, verdict) {
  const far = `${focus.distance_um.toFixed(1)} ± ${focus.sigma_um.toFixed(1)} µm from focus`;
  const side = focus.positive_side ?? 0.5;
  return verdict === "in-focus" || Math.abs(side - 0.5) < 0.3 ? far : `${far}, ${side > 0.5 ? "+" : "−"}\u00a0side`;
}

export class Stage {
  // changed() is called whenever the stage wants to be drawn again.
  // failed() is called when the graphics card is lost.
  constructor(changed, failed) {
    this.changed = changed;
    this.failed = failed;
    this.tool = null; // is given pointer events first; true where it has dealt with one
    this.fault = ""; // why there is no graphics card any more
    this.root = $("stage");
    this.canvas = $("picture");
    this.viewport = new Viewport();
    this.mode = "side";
    this.wipe = 0.5;
    this.flicker = { side: "refocused", timer: null };
    this.peeking = false;
    this.frame = null;
    this.layers = new Map(); // by channel, the newest frame of the place that is shown
    this.panes = [];
    this.open();
    this.listenWipe();
    new ResizeObserver(() => changed()).observe(this.root);
  }

  open() {
    const forced = new URLSearchParams(location.search).get("painter"); // "webgl" or "canvas"
    const trial = document.createElement("canvas"); // a canvas has one kind of context for life
    const withGl = forced !== "canvas" && GlPainter.open(trial, forced === "webgl");
    this.adopt(withGl ? GlPainter.open(this.canvas, true) : new CanvasPainter(this.canvas));
    this.canvas.addEventListener("webglcontextlost", () => {
      this.fault = "The browser has lost the graphics card";
      this.paintWithoutGl();
      if (this.frame) this.show(this.frame);
      this.changed();
      this.failed();
    });
  }

  adopt(painter) {
    this.painter = painter;
    document.documentElement.dataset.painter = painter instanceof GlPainter ? "webgl" : "canvas";
    for (const type of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) {
      const first = (event) => this.tool?.(event) && event.stopImmediatePropagation();
      this.canvas.addEventListener(type, first, { capture: true });
    }
    listen(this.canvas, this.viewport, (event) => this.fromMiddle(event), this.changed);
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
  }

  // A canvas has one kind of context for life, so another takes its place.
  paintWithoutGl() {
    const fresh = this.canvas.cloneNode();
    this.canvas.replaceWith(fresh);
    this.canvas = fresh;
    this.adopt(new CanvasPainter(fresh));
  }

  // Give the graphics a frame, to be drawn next.
  show(frame) {
    if (!this.painter.takes(frame.width, frame.height)) this.paintWithoutGl();
    this.frame = frame;
    this.addLayer(frame);
    this.asCaptured = isAsCaptured(frame);
    this.painter.show("refocused", frame.refocused, frame.width, frame.height);
    if (frame.captured) this.painter.show("captured", frame.captured, frame.width, frame.height);
  }

  // The frames that an overlay lays over each other are of one run, place and size.
  addLayer(frame) {
    const { header } = frame;
    for (const [c, { header: other, width, height }] of this.layers) {
      const same = header.run === other.run && header.place.p === other.place.p;
      if (!same || width !== frame.width || height !== frame.height) this.layers.delete(c);
    }
    this.layers.set(header.place.c, frame);
    if (this.mode === "overlay") this.giveLayer(frame);
  }

  giveLayer({ header, refocused, width, height }) {
    this.painter.show(layerKey(header.place.c), refocused, width, height);
  }

  setMode(mode) {
    if (mode === "overlay") for (const frame of this.layers.values()) this.giveLayer(frame);
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

  // look: {limits(channel, side), lut(channel), overlaid(channel), chosen}: values of black and white,
  // the name of a look-up table, whether it is part of an overlay, and the channel that is adjusted.
  draw(look) {
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
      this.panes.map((pane) => onScreen(pane, ratio, this.layersOf(pane, look))),
      { center: this.viewport.center, zoom: this.viewport.zoom * ratio },
    );
    this.writeOver(wide, look);
  }

  // What is painted in a pane: one picture, or in an overlay one of each channel.
  layersOf({ side }, look) {
    const { c } = this.frame.header.place;
    if (side !== "overlay") return [{ key: side, limits: look.limits(c, side), lut: look.lut(c) }];
    return [...this.layers.keys()]
      .filter(look.overlaid)
      .map((c) => ({ key: layerKey(c), limits: look.limits(c, "refocused"), lut: look.lut(c) }));
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
    if (this.mode === "overlay") return [whole("overlay")];
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

  writeOver(wide, look) {
    const overlay = this.mode === "overlay";
    const { header } = this.judged(look.chosen);
    this.writeLegend(overlay ? [...this.layers.keys()].filter(look.overlaid) : [], look);
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
    badge.hidden = !header.trust || pane.side === "captured";
    if (badge.hidden) return;
    const { verdict, score, share } = header.trust;
    const [sign, words] = verdictInWords(verdict);
    const channel = pane.side === "overlay" ? `${header.place.c} ` : "";
    badge.dataset.verdict = verdict;
    badge.firstElementChild.textContent = `${channel}${sign} ${verdict}`;
    const far = header.focus ? distanceInWords(header.focus, verdict) : "";
    const sure = score === null ? "" : `score ${score.toFixed(2)}`;
    const part = share > 0 && share < 1 ? `${Math.round(100 * share)} % refocused` : "";
    badge.lastElementChild.textContent = [far, sure, part].filter(Boolean).join(" · ");
    badge.title = words;
    badge.style.left = onTheRight ? "auto" : `${pane.x + 10}px`;
    badge.style.right = onTheRight ? "10px" : "auto";
    badge.style.maxWidth = `${pane.width - 20}px`;
    badge.style.top = `${pane.y + 42}px`;
  }

  // The frame whose verdict and distance are told: in an overlay, that of the channel that is chosen.
  judged(chosen) {
    return (this.mode === "overlay" && this.layers.get(chosen)) || this.frame;
  }

  // The channels of an overlay, each in its colour.
  writeLegend(channels, look) {
    const legend = $("legend");
    legend.hidden = this.mode !== "overlay";
    const key = JSON.stringify(channels.map((c) => [c, look.lut(c)]));
    if (legend.dataset.key === key) return;
    legend.dataset.key = key;
    legend.replaceChildren(
      ...channels.map((c) => {
        const name = document.createElement("span");
        name.textContent = c || "no name";
        name.style.color = inkOf(look.lut(c));
        return name;
      }),
    );
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
        if (this.mode === "overlay") {
          for (const [c, layer] of this.layers) text += `  ${c} ${layer.refocused[at]}`;
          return this.write(text);
        }
        if (captured) text += `  captured ${captured[at]}`;
        text += `  refocused ${refocused[at]}${tileAt(this.frame.header.tiles, x, y)}`;
      }
    }
    this.write(text);
  }

  write(text) {
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

// By which the painter knows a channel's picture.
function layerKey(channel) {
  return `of ${channel}`;
}

function onScreen(pane, ratio, layers) {
  const scaled = (value) => Math.round(value * ratio);
  const x = scaled(pane.x);
  const y = scaled(pane.y);
  const from = scaled(pane.clip.x);
  return {
    layers,
    x,
    y,
    width: scaled(pane.x + pane.width) - x,
    height: scaled(pane.y + pane.height) - y,
    clip: { x: from, width: scaled(pane.clip.x + pane.clip.width) - from },
  };
}
