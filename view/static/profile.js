// A line across the picture, and the camera's values along it.

import { inkOf } from "./luts.js";
import { $, color, prepare } from "./page.js";

const SVG = "http://www.w3.org/2000/svg";

// Values at every pixel of a line [x0, y0, x1, y1], the nearest ones; null outside of the picture.
export function along(pixels, width, height, [x0, y0, x1, y1]) {
  const steps = Math.max(1, Math.ceil(Math.hypot(x1 - x0, y1 - y0)));
  return Array.from({ length: steps + 1 }, (_, i) => {
    const [x, y] = [x0 + ((x1 - x0) * i) / steps, y0 + ((y1 - y0) * i) / steps].map(Math.floor);
    return x >= 0 && y >= 0 && x < width && y < height ? pixels[y * width + x] : null;
  });
}

export class Profile {
  constructor(stage, changed) {
    this.stage = stage;
    this.changed = changed;
    this.on = false;
    this.line = null; // pixels of the picture
    this.from = null;
    stage.tool = (event) => this.follow(event);
  }

  toggle() {
    this.on = !this.on;
    if (!this.on) this.line = null;
    else if (!this.line && this.stage.frame) {
      const { width, height } = this.stage.frame; // for those who have no pointer
      this.line = [width * 0.25, height / 2, width * 0.75, height / 2];
    }
    $("profile").setAttribute("aria-pressed", this.on);
    $("profile-section").hidden = !this.on;
    this.changed();
  }

  // Pointer events over the picture; true where they draw the line, and nothing else.
  follow(event) {
    if (!this.on || !this.stage.frame) return false;
    const at = this.stage.viewport.placeAt(this.stage.fromMiddle(event));
    if (event.type === "pointerdown") this.from = at;
    if (this.from && Math.hypot(at[0] - this.from[0], at[1] - this.from[1]) >= 1) {
      this.line = [...this.from, ...at];
      this.changed();
    }
    if (["pointerup", "pointercancel"].includes(event.type)) this.from = null;
    return true;
  }

  draw(look) {
    this.drawLine();
    if (this.on && this.line && this.stage.frame) this.drawValues(look);
  }

  drawLine() {
    const { viewport, panes } = this.stage;
    const lines = (this.line ? panes : []).map((pane) => {
      const element = document.createElementNS(SVG, "line");
      const ends = [this.line.slice(0, 2), this.line.slice(2)].map((at) =>
        at.map((value, i) => {
          const middle = i ? pane.y + pane.height / 2 : pane.x + pane.width / 2;
          return middle + (value - viewport.center[i]) * viewport.zoom;
        }),
      );
      ends.flat().forEach((value, i) => element.setAttribute(["x1", "y1", "x2", "y2"][i], value));
      return element;
    });
    $("lines").replaceChildren(...lines);
  }

  drawValues(look) {
    const { frame, mode, layers } = this.stage;
    const { width, height, captured, refocused, header } = frame;
    const values = (pixels) => along(pixels, width, height, this.line);
    const curves =
      mode === "overlay"
        ? [...layers].map(([c, one]) => [values(one.refocused), inkOf(look.lut(c))])
        : [
            ...(captured ? [[values(captured), color("--captured-line")]] : []),
            [values(refocused), color("--refocused")],
          ];
    const known = curves.flatMap(([curve]) => curve).filter((value) => value !== null);
    const [least, most] = [Math.min(...known), Math.max(...known)];
    const pixels = Math.hypot(this.line[2] - this.line[0], this.line[3] - this.line[1]);
    const size = header.pixel_size_um;
    const long = size > 0 ? `${(pixels * size).toFixed(1)} µm` : `${pixels.toFixed(0)} pixels`;
    $("profile-range").textContent = known.length ? `${long} · ${least} to ${most}` : "outside";
    plot($("profile-plot"), curves, [least, Math.max(most, least + 1)]);
  }
}

function plot(canvas, curves, [least, most]) {
  const { context, wide, tall } = prepare(canvas);
  for (const [curve, hue] of curves) {
    context.strokeStyle = hue;
    context.beginPath();
    curve.forEach((value, i) => {
      if (value === null) return;
      const y = tall - 2 - ((value - least) / (most - least)) * (tall - 4);
      context.lineTo((i / (curve.length - 1)) * wide, y);
    });
    context.stroke();
  }
}
