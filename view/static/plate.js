// A plate as it lies on the stage: rows A, B, ..., columns 1, 2, ...; a well is as bright as its fields
// are far from focus, and has the colour of their worst verdict along its foot.

import { $ } from "./page.js";
import { hueOf, verdictInWords } from "./verdicts.js";

const WELL = /^([A-P])(\d{1,2})(?!\d)/;
const MOST_WITH_WORDS = 12; // columns that leave room for a distance
const WORST_FIRST = ["unfamiliar", "beyond", "blank", "unrated", "refocused", "in-focus"];

// Positions by well: a list of {name, row, column, fields}, or null where one is named otherwise.
export function wellsOf(names) {
  const wells = new Map();
  for (const [p, name] of names.entries()) {
    const found = WELL.exec(name);
    const column = found ? Number(found[2]) - 1 : -1;
    if (column < 0) return null;
    const row = found[1].charCodeAt(0) - 65;
    const well = `${found[1]}${column + 1}`;
    if (!wells.has(well)) wells.set(well, { name: well, row, column, fields: [] });
    wells.get(well).fields.push(p);
  }
  return [...wells.values()];
}

// What is known of a well from the newest marks of its fields.
export function judge(marks) {
  const distances = marks.map(({ um }) => um).filter((um) => um !== undefined);
  const verdicts = marks.map(({ verdict }) => (verdict in RANKS ? verdict : "unrated"));
  const worst = Math.min(...verdicts.map((verdict) => RANKS[verdict]));
  return { um: median(distances), verdict: WORST_FIRST[worst] };
}

const RANKS = Object.fromEntries(WORST_FIRST.map((verdict, rank) => [verdict, rank]));

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2; // NaN for none
}

// The next round number, for the end of the scale.
export function roundUp(um) {
  const power = 10 ** Math.floor(Math.log10(Math.max(um, 1)));
  return power * [1, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= um);
}

export class Plate {
  // chosen(p) is called with the position that a person wants.
  constructor(chosen) {
    this.root = $("plate");
    this.chosen = chosen;
    this.key = "";
    this.shown = null;
  }

  // names: of all positions of the run; marks: the newest of those that have come, by position.
  // Gives whether they are wells.
  update(names, marks, shown, alarmed) {
    const known = [...marks.keys()].every((p) => p < names.length);
    const wells = known ? wellsOf(names) : null;
    $("plate-section").hidden = wells === null;
    if (wells === null) return false;
    this.shown = shown;
    this.layOut(wells);
    const judged = wells.map(({ fields }) => fields.map((p) => marks.get(p)).filter(Boolean));
    const found = judged.map((some) => (some.length ? judge(some) : null));
    const far = roundUp(Math.max(0, ...found.map((one) => one?.um || 0)));
    $("plate-far").textContent = `${far} µm`;
    for (const [i, well] of wells.entries()) {
      this.write(this.buttons[i], well, found[i], judged[i].length, far);
      this.buttons[i].classList.toggle("alarmed", well.fields.some((p) => alarmed.has(p)));
    }
    return true;
  }

  layOut(wells) {
    const key = wells.map(({ name, fields }) => `${name}:${fields}`).join();
    if (key === this.key) return;
    this.key = key;
    const [tall, wide] = ["row", "column"].map(
      (axis) => Math.max(...wells.map((well) => well[axis])) + 1,
    );
    this.words = wide <= MOST_WITH_WORDS;
    this.root.classList.toggle("large", !this.words);
    this.root.style.gridTemplateColumns = `auto repeat(${wide}, minmax(0, 1fr))`;
    this.buttons = wells.map(({ row, column, fields }) => {
      const button = document.createElement("button");
      button.onclick = () => {
        const next = fields.indexOf(this.shown) + 1; // the first where another well is shown
        this.chosen(fields[next % fields.length]);
      };
      return place(button, row + 2, column + 2);
    });
    const letters = Array.from({ length: tall }, (_, i) =>
      named(String.fromCharCode(65 + i), i + 2, 1),
    );
    const step = this.words ? 1 : 4; // as far apart as numbers are wide
    const numbers = Array.from({ length: wide }, (_, i) =>
      named(i % step ? "" : i + 1, 1, i + 2),
    );
    this.root.replaceChildren(...letters, ...numbers, ...this.buttons);
  }

  // found: what is known of the well, of so many fields; null where nothing has come.
  write(button, well, found, count, far) {
    const fields = well.fields.length > 1 ? ` (${count} of ${well.fields.length} fields)` : "";
    button.setAttribute("aria-pressed", well.fields.includes(this.shown));
    button.disabled = found === null;
    button.dataset.verdict = found?.verdict ?? "";
    const there = found !== null && !Number.isNaN(found.um);
    button.style.setProperty("--part", there ? (found.um / far).toFixed(3) : 0);
    button.style.setProperty("--hue", found ? `var(${hueOf(found.verdict)})` : "transparent");
    const text = this.words && there ? found.um.toFixed(0) : "";
    if (button.textContent !== text) button.textContent = text;
    const [, words] = verdictInWords(found?.verdict);
    const distance = there ? `${found.um.toFixed(1)} µm from focus, ` : "";
    const worst = well.fields.length > 1 ? "at worst " : "";
    button.title = found ? `${well.name}${fields}: ${distance}${worst}${words}` : `${well.name}: nothing yet`;
    button.setAttribute("aria-label", button.title);
  }
}

function named(text, row, column) {
  const span = document.createElement("span");
  span.textContent = text;
  return place(span, row, column);
}

function place(element, row, column) {
  element.style.gridRow = row;
  element.style.gridColumn = column;
  return element;
}
