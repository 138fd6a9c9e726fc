// The last minutes of a stream: latency, rate, queue, and when frames were dropped, deferred, failed.

import { color, prepare } from "./page.js";
import { clock } from "./times.js";

const KEPT = 600; // points, one a second; older ones are forgotten, so a tab may stay open
const SPANS = [60, 120, 300, 600]; // s
const ROW = 26;
const LEFT = 122;
const RIGHT = 12;
const LOSSES = [
  ["dropped", "--dropped"],
  ["deferred", "--deferred"],
  ["failed", "--failed"],
];

export class Timeline {
  constructor(canvas, tip) {
    this.canvas = canvas;
    this.tip = tip;
    this.points = [];
    this.live = false; // the last point is of now
    this.shift = 0; // s, what the server's clock is ahead of ours
    canvas.addEventListener("pointermove", (event) => this.point(event));
    canvas.addEventListener("pointerleave", () => (tip.hidden = true));
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  // points: as view/status.py makes them; screen_ms: capture to screen now, or null.
  add(points, screen_ms) {
    for (const point of points) {
      const before = this.points.at(-1);
      const since = (key) => Math.max(0, point[key] - (before ? before[key] : point[key]));
      const lost = Object.fromEntries(LOSSES.map(([key]) => [key, since(key)]));
      this.points.push({ ...point, lost, screen_ms: null });
    }
    const last = this.points.at(-1);
    if (last && points.length) {
      last.screen_ms = screen_ms;
      this.shift = last.t - Date.now() / 1e3;
    }
    this.points.splice(0, this.points.length - KEPT);
    this.draw();
  }

  clear() {
    this.points = [];
  }

  // Whether a run goes on; of one that is over, or lost, there are no figures of now.
  setLive(live) {
    if (live === this.live) return;
    this.live = live;
    this.draw();
  }

  get span() {
    const oldest = this.points.length ? this.now - this.points[0].t : 0;
    return SPANS.find((span) => span >= oldest) ?? SPANS.at(-1);
  }

  get now() {
    return Date.now() / 1e3 + this.shift;
  }

  x(t, wide) {
    return LEFT + (1 - (this.now - t) / this.span) * (wide - LEFT - RIGHT);
  }

  draw() {
    if (!this.canvas.clientWidth || !this.canvas.clientHeight) return;
    const { context, wide, tall } = prepare(this.canvas, "11px");
    const rows = [
      ["latency", "ms", (point) => point.screen_ms ?? point.latency_ms, "--accent"],
      ["rate", "/s", (point) => point.fps, "--refocused"],
      ["queue", "", (point) => point.queued, "--captured-line"],
    ];
    const now = rows.map(([name, unit, value, hue], i) =>
      this.drawRow(context, 4 + i * ROW, wide, name, unit, value, color(hue), color("--dim")),
    );
    const words = now.filter(Boolean).join(", ") || "nothing";
    this.canvas.setAttribute("aria-label", `Time line: ${words}`);
    this.drawLosses(context, 4 + rows.length * ROW, wide);
    this.drawAxis(context, wide, tall, color("--dim"));
  }

  // Draw one figure over time; give what it is now, in words.
  drawRow(context, top, wide, name, unit, value, hue, dim) {
    const known = this.points.filter((point) => value(point) !== null);
    const most = Math.max(...known.map(value), 1);
    const last = this.live && known.at(-1);
    const figure = last ? `${short(value(last))} ${unit}`.trim() : "";
    context.fillStyle = dim;
    context.fillText(name, 12, top + ROW / 2);
    context.fillStyle = hue;
    context.textAlign = "right";
    context.fillText(figure || "–", LEFT - 8, top + ROW / 2);
    context.textAlign = "left";
    context.strokeStyle = hue;
    context.lineWidth = 1.25;
    context.beginPath();
    let before = -Infinity;
    for (const point of known) {
      const x = this.x(point.t, wide);
      if (x < LEFT) continue;
      const y = top + ROW - 4 - (value(point) / most) * (ROW - 8);
      if (point.t - before > 3) context.moveTo(x, y); // nothing was heard in between
      else context.lineTo(x, y);
      before = point.t;
    }
    context.stroke();
    return figure && `${name} ${figure}`;
  }

  drawLosses(context, top, wide) {
    context.fillStyle = color("--dim");
    context.fillText("lost frames", 12, top + ROW / 2 - 4);
    for (const point of this.points) {
      const x = this.x(point.t, wide);
      if (x < LEFT) continue;
      LOSSES.forEach(([key, hue], i) => {
        if (!point.lost[key]) return;
        context.fillStyle = color(hue);
        context.fillRect(x - 1, top + 2 + i * 6, 3, 5);
      });
    }
  }

  drawAxis(context, wide, tall, dim) {
    context.fillStyle = dim;
    const span = this.span;
    context.textAlign = "right";
    context.fillText("now", wide - RIGHT, tall - 7);
    context.textAlign = "left";
    context.fillText(`${span / 60} min ago`, LEFT, tall - 7);
    context.globalAlpha = 0.25;
    for (let part = 0; part <= 4; part++) {
      context.fillRect(LEFT + (part / 4) * (wide - LEFT - RIGHT), 2, 1, tall - 18);
    }
    context.globalAlpha = 1;
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const x = event.clientX - box.left;
    const far = (point) => Math.abs(this.x(point.t, box.width) - x);
    const near = this.points.reduce((best, p) => (!best || far(p) < far(best) ? p : best), null);
    this.tip.hidden = !near || far(near) > 12;
    if (this.tip.hidden) return;
    const latency = near.screen_ms ?? near.latency_ms;
    this.tip.textContent = [
      clock(near.t * 1e3),
      latency === null ? "" : `${short(latency)} ms`,
      `${short(near.fps)} /s`,
      `queue ${near.queued}`,
      ...LOSSES.filter(([key]) => near.lost[key]).map(([key]) => `${near.lost[key]} ${key}`),
    ]
      .filter(Boolean)
      .join("  ");
    this.tip.style.left = "0"; // where it is as wide as it can be
    const most = box.width - this.tip.offsetWidth;
    this.tip.style.left = `${Math.max(0, Math.min(x, most))}px`;
  }
}

function short(value) {
  return value >= 100 ? Math.round(value) : value.toFixed(1);
}
