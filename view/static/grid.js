// The positions of a run, each with its verdict and distance from focus: tiles as on the stage, or else
// in turn; wells are for plate.js.

import { $ } from "./page.js";
import { Plate } from "./plate.js";
import { hueOf, verdictInWords } from "./verdicts.js";

const MOST_WITH_WORDS = 6; // columns that leave room for a name and a distance

// Row and column of each position, from 0: {x, y} in, a list of [row, column] out.
export function arrange(positions) {
  if (positions.every(({ x, y }) => Number.isFinite(x) && Number.isFinite(y))) {
    const [columns, rows] = ["x", "y"].map((axis) => ranks(positions.map((one) => one[axis])));
    const places = positions.map((_, i) => [rows[i], columns[i]]);
    const wide = Math.max(...columns) + 1;
    const tall = Math.max(...rows) + 1;
    const distinct = new Set(places.map(String)).size === places.length;
    if (distinct && wide > 1 && tall > 1 && wide * tall <= 2 * places.length) return places;
  }
  const wide = Math.min(4, positions.length);
  return positions.map((_, i) => [Math.floor(i / wide), i % wide]);
}

// Which of the different values, in order, each is; a micron apart is the same.
function ranks(values) {
  const different = [...new Set(values.map(Math.round))].sort((a, b) => a - b);
  return values.map((value) => different.indexOf(Math.round(value)));
}

export class Grid {
  // chosen(p) is called with the position that a person wants.
  constructor(chosen) {
    this.root = $("grid");
    this.plate = new Plate(chosen);
    this.chosen = chosen;
    this.key = "";
  }

  // places: see places.js; journal: see journal.js; alarmed: a set of positions.
  update(places, journal, alarmed) {
    const known = [...journal.latest.keys()].sort((a, b) => a - b);
    $("grid-section").hidden = known.length < 2;
    if (known.length < 2) return;
    const channel = places.now.c;
    const marks = new Map(known.map((p) => [p, journal.newest(p, channel)]));
    this.root.hidden = this.plate.update(places.names, marks, places.now.p, alarmed);
    if (this.root.hidden) return;
    const positions = known.map((p) => {
      const mark = marks.get(p);
      return { p, name: places.label("p", p), x: mark.x, y: mark.y, mark };
    });
    this.layOut(positions);
    positions.forEach((position, i) => {
      this.write(this.root.children[i], position, places.now.p, alarmed.has(position.p), channel);
    });
  }

  layOut(positions) {
    const key = JSON.stringify(positions.map(({ p, name }) => [p, name]));
    if (key === this.key) return;
    this.key = key;
    const places = arrange(positions);
    const wide = Math.max(...places.map(([, column]) => column)) + 1;
    this.root.classList.toggle("small", wide > MOST_WITH_WORDS);
    this.root.style.gridTemplateColumns = `repeat(${wide}, minmax(0, 1fr))`;
    this.root.replaceChildren(
      ...positions.map(({ p }, i) => {
        const button = document.createElement("button");
        button.append(document.createElement("b"), document.createElement("span"));
        button.style.gridRow = places[i][0] + 1;
        button.style.gridColumn = places[i][1] + 1;
        button.onclick = () => this.chosen(p);
        return button;
      }),
    );
  }

  write(button, { name, p, mark }, shown, alarmed, channel) {
    const [sign, words] = verdictInWords(mark.verdict);
    const far = mark.um === undefined ? "" : `${mark.um.toFixed(1)} µm`;
    button.dataset.verdict = mark.verdict ?? "unrated";
    button.style.setProperty("--hue", `var(${hueOf(mark.verdict)})`);
    button.setAttribute("aria-pressed", p === shown);
    button.classList.toggle("alarmed", alarmed);
    const [first, second] = button.children;
    if (first.textContent !== name) first.textContent = name;
    const text = `${sign} ${mark.um?.toFixed(1) ?? ""}`.trim();
    if (second.textContent !== text) second.textContent = text;
    const of = mark.c === channel || !mark.c ? "" : ` (${mark.c})`;
    button.title = `${name}: ${words}${far && `, ${far} from focus`}${of}`;
    button.setAttribute("aria-label", button.title);
  }
}
