// The histogram of a channel with its two handles, and the fields beside it.

import { histogram, percentile } from "./contrast.js";
import { $, color, prepare } from "./page.js";

const HELD_MS = 6000; // so long after it was touched the panel stays with its channel

export class ContrastPanel {
  constructor(contrast, changed) {
    this.contrast = contrast;
    this.changed = changed;
    this.name = "";
    this.range = [0, 1];
    this.dragged = null;
    this.heldUntil = 0;
    this.canvas = $("histogram");
    for (const button of $("contrast-modes").children) {
      button.onclick = () => this.setMode(button.dataset.contrast);
    }
    for (const id of ["contrast-low", "contrast-high"]) {
      $(id).onchange = () => this.read();
      $(id).onkeydown = ({ key }) => key === "Enter" && $(id).blur();
    }
    $("contrast-same").onchange = (event) => {
      this.contrast.setSame(this.name, event.target.checked);
      this.update();
    };
    $("contrast-section").addEventListener("pointerdown", () => this.hold());
    this.listenHandles();
  }

  // Stay with this channel, whatever the run shows next.
  hold() {
    this.heldUntil = performance.now() + HELD_MS;
  }

  get held() {
    const typing = ["contrast-low", "contrast-high"].includes(document.activeElement?.id);
    return typing || this.dragged !== null || performance.now() < this.heldUntil;
  }

  setMode(mode) {
    this.hold();
    this.complain("");
    this.contrast.setMode(this.name, mode);
    this.update();
  }

  // Take the numbers that were typed.
  read() {
    this.hold();
    const [low, high] = ["contrast-low", "contrast-high"].map((id) =>
      Number.parseFloat($(id).value.replace(",", ".")),
    );
    const auto = this.contrast.of(this.name).mode === "auto";
    const values = auto ? [low, high] : [Math.round(low), Math.round(high)];
    const fault = this.contrast.fault(this.name, ...values);
    this.complain(fault);
    if (fault) return; // the picture stays, and so does what was typed
    if (auto) this.contrast.setPercents(this.name, ...values);
    else this.contrast.setHand(this.name, ...values);
    this.update(true);
  }

  complain(fault) {
    $("contrast-note").textContent = fault && `${fault}; the picture is as before`;
    for (const id of ["contrast-low", "contrast-high"]) {
      $(id).setAttribute("aria-invalid", Boolean(fault));
    }
  }

  select(name) {
    if (name === this.name || (this.name && this.held)) return;
    this.name = name;
    this.complain("");
    $("contrast-channel").textContent = name;
    this.draw(true); // also over what is being typed: it is of another channel
  }

  // Adjust this channel, because a person says so.
  choose(name) {
    this.heldUntil = 0;
    document.activeElement?.blur();
    this.select(name);
    this.update(true);
  }

  update(overwrite = false) {
    this.draw(overwrite);
    this.changed();
  }

  draw(overwrite = false) {
    const channel = this.contrast.of(this.name);
    for (const button of $("contrast-modes").children) {
      button.setAttribute("aria-pressed", button.dataset.contrast === channel.mode);
    }
    const limits = this.contrast.limits(this.name, "refocused");
    const typed = channel.mode === "auto" ? channel.percents : limits.map(Math.round);
    ["contrast-low", "contrast-high"].forEach((id, i) => {
      const field = $(id);
      field.disabled = channel.mode === "full";
      const kept = document.activeElement === field || field.getAttribute("aria-invalid") === "true";
      if (overwrite || !kept) field.value = typed[i];
    });
    $("contrast-unit").textContent = channel.mode === "auto" ? "%" : "";
    $("contrast-same").checked = channel.same;
    $("contrast-same").disabled = channel.mode !== "auto";
    if (channel.samples) this.drawHistogram(channel, limits);
  }

  drawHistogram(channel, limits) {
    const { context, wide, tall } = prepare(this.canvas);
    const { refocused, captured } = channel.samples;
    if (!this.dragged) this.range = this.fitting(channel, limits);
    const [left, right] = this.range;
    const plot = (sorted, hue, filled) => {
      const bins = histogram(sorted, left, right);
      const top = Math.log1p(Math.max(...bins, 1));
      context.beginPath();
      context.moveTo(0, tall);
      bins.forEach((count, i) => {
        context.lineTo(((i + 0.5) / bins.length) * wide, tall - 1 - (Math.log1p(count) / top) * (tall - 8));
      });
      context.lineTo(wide, tall);
      context.fillStyle = context.strokeStyle = hue;
      if (filled) context.fill();
      else context.stroke();
    };
    if (captured) plot(captured, color("--captured"), true);
    plot(refocused, color("--refocused"), false);
    context.fillStyle = color("--accent");
    for (const limit of limits) {
      const x = Math.min(wide - 1, Math.max(1, ((limit - left) / (right - left)) * wide));
      context.fillRect(x - 0.75, 0, 1.5, tall);
      context.beginPath();
      context.arc(x, 5, 4, 0, 7);
      context.fill();
    }
  }

  // The span of values that the histogram shows: the pixels, and both handles.
  fitting(channel, limits) {
    const all = [channel.samples.refocused, channel.samples.captured].filter(Boolean);
    const low = Math.min(...all.map((sorted) => sorted[0]), limits[0]);
    const high = Math.max(...all.map((sorted) => percentile(sorted, 99.97)), limits[1]);
    const margin = Math.max(1, (high - low) * 0.04);
    return [low - margin, high + margin];
  }

  listenHandles() {
    const valueAt = (event) => {
      const box = this.canvas.getBoundingClientRect();
      const [left, right] = this.range;
      return Math.round(left + ((event.clientX - box.left) / box.width) * (right - left));
    };
    const move = (event) => {
      const limits = this.contrast.limits(this.name, "refocused").map(Math.round);
      // a handle stops at the other
      const [low, high] = limits;
      const value = valueAt(event);
      limits[this.dragged] = this.dragged ? Math.max(value, low + 1) : Math.min(value, high - 1);
      this.complain("");
      this.contrast.setHand(this.name, ...limits);
      this.update(true);
    };
    this.canvas.onpointerdown = (event) => {
      if (!this.contrast.of(this.name).samples) return;
      this.canvas.setPointerCapture(event.pointerId);
      const at = valueAt(event);
      const [low, high] = this.contrast.limits(this.name, "refocused");
      this.dragged = Math.abs(at - low) < Math.abs(at - high) ? 0 : 1;
      move(event);
    };
    this.canvas.onpointermove = (event) => this.dragged !== null && move(event);
    this.canvas.onpointerup = this.canvas.onpointercancel = () => {
      this.dragged = null;
      this.update();
    };
  }
}
