// Distance from focus: of one place over time, across the field, and when it is too much.

import { $, color, prepare } from "./page.js";
import { clock } from "./times.js";
import { hueOf } from "./verdicts.js";

const RUNNING = 3; // frames of a place in a row that make an alarm: one alone may be a mistake
const LEFT = 30;

// Whether a frame is one too many from focus; limit in µm, or null for the verdict alone.
export function isTooFar(mark, limit) {
  return mark.verdict === "beyond" || (limit !== null && mark.um > limit);
}

// Positions and channels whose last frames were all too far: a map from "p/c" to their newest mark.
export function alarms(journal, limit) {
  const found = new Map();
  for (const [p, channels] of journal.latest) {
    for (const [c, newest] of channels) {
      if (!isTooFar(newest, limit)) continue;
      const last = journal.of({ p, c }).slice(-RUNNING);
      if (last.length === RUNNING && last.every((mark) => isTooFar(mark, limit))) {
        found.set(`${p}/${c}`, newest);
      }
    }
  }
  return found;
}

export class Focus {
  constructor(changed) {
    this.limit = null;
    this.alarms = new Map();
    this.field = $("focus-limit");
    this.field.onchange = () => this.read(changed);
    this.field.onkeydown = ({ key }) => key === "Enter" && this.field.blur();
  }

  read(changed) {
    const text = this.field.value.trim().replace(",", ".");
    const value = text === "" ? null : Number(text);
    const fault = value !== null && !(value > 0);
    this.field.setAttribute("aria-invalid", fault);
    $("focus-note").textContent = fault ? "not a distance; the limit is as before" : "";
    if (fault) return;
    this.limit = value;
    changed();
  }

  // Look which places are too far; give the alarm in words, or "".
  watch(journal, places) {
    this.alarms = alarms(journal, this.limit);
    const names = [...this.alarms.values()].map((mark) => {
      const far = mark.um === undefined ? "" : ` (${mark.um.toFixed(1)} µm)`;
      return `${[places.label("p", mark.p), mark.c].filter(Boolean).join(" ")}${far}`;
    });
    if (!names.length) return "";
    const more = names.length > 4 ? ` and ${names.length - 4} more` : "";
    const limit = this.limit === null ? "" : `, or more than ${this.limit} µm away`;
    return `Too far from focus to restore${limit}, ${RUNNING} frames in a row: ${names.slice(0, 4).join(", ")}${more}.`;
  }

  get positions() {
    return new Set([...this.alarms.values()].map(({ p }) => p));
  }

  // frame: the one that is shown, or null.
  draw(journal, places, frame) {
    const marks = frame ? journal.of(frame.header.place).filter(({ um }) => um !== undefined) : [];
    $("focus-section").hidden = marks.length === 0;
    if (!marks.length) return;
    $("focus-place").textContent = [places.label("p", frame.header.place.p), frame.header.place.c]
      .filter(Boolean)
      .join(" ");
    this.drawOverTime($("focus-time"), marks, frame.header.serial);
    this.drawAcross($("focus-field"), frame.header.tiles);
  }

  drawOverTime(canvas, marks, serial) {
    const { context, wide, tall } = prepare(canvas);
    const [first, last] = [marks[0].t, marks.at(-1).t];
    const most = Math.max(...marks.map(({ um, sigma }) => um + (sigma ?? 0)), this.limit ?? 0, 1);
    const x = (t) => LEFT + 3 + ((t - first) / Math.max(last - first, 1e-3)) * (wide - LEFT - 6);
    const y = (um) => tall - 14 - (Math.min(um, most) / most) * (tall - 20);
    context.fillStyle = color("--dim");
    context.fillText(`${most.toFixed(most < 10 ? 1 : 0)}`, 0, 6);
    context.fillText("0 µm", 0, tall - 14);
    context.fillText(clock(first * 1e3), LEFT, tall - 5);
    context.textAlign = "right";
    context.fillText(clock(last * 1e3), wide, tall - 5);
    context.textAlign = "left";
    context.globalAlpha = 0.3;
    for (const { t, um, sigma } of marks) {
      context.fillRect(x(t), y(um + (sigma ?? 0)), 1, y(um - (sigma ?? 0)) - y(um + (sigma ?? 0)));
    }
    context.globalAlpha = 1;
    for (const mark of marks) {
      context.fillStyle = color(hueOf(mark.verdict));
      const side = mark.serial === serial ? 7 : 3;
      context.fillRect(x(mark.t) - side / 2, y(mark.um) - side / 2, side, side);
    }
    if (this.limit !== null) {
      context.fillStyle = color("--bad");
      context.fillRect(LEFT, y(this.limit), wide - LEFT, 1);
    }
    const { um } = marks.find((mark) => mark.serial === serial) ?? marks.at(-1);
    canvas.setAttribute("aria-label", `Distance from focus over time: ${um.toFixed(1)} µm here`);
  }

  // The tiles of the frame that is shown, dark where it is in focus.
  drawAcross(canvas, tiles) {
    const uneven = tiles && tiles.distance_um.length > 1;
    canvas.parentElement.hidden = !uneven;
    if (!uneven) return;
    const { context, wide, tall } = prepare(canvas);
    const { rows, columns, distance_um } = tiles;
    const [least, most] = [Math.min(...distance_um), Math.max(...distance_um)];
    const side = Math.min(wide / columns, tall / rows);
    distance_um.forEach((um, i) => {
      const [row, column] = [Math.floor(i / columns), i % columns];
      context.globalAlpha = 0.12 + 0.88 * (um / Math.max(most, 1));
      context.fillStyle = color(this.limit !== null && um > this.limit ? "--bad" : "--accent");
      context.fillRect(column * side, row * side, side - 1, side - 1);
    });
    context.globalAlpha = 1;
    const words = `${least.toFixed(1)} to ${most.toFixed(1)} µm`;
    $("focus-range").textContent = words;
    canvas.setAttribute("aria-label", `Distance from focus across the field: ${words}`);
  }
}
