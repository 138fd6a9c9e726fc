// Which position, channel and plane are shown: by default those of the first frame, and they stay.

import { $ } from "./page.js";

const AXES = ["p", "c", "z"];
const FREE = { p: null, c: null, z: null }; // follows the run
const NOWHERE = -1; // a position that no run has

export class Places {
  // chosen(wanted) is called with what the server is to send; following: not to hold still.
  constructor(chosen, following = false) {
    this.wanted = { ...FREE };
    this.now = { ...FREE };
    this.following = following; // a person wants to see everything that comes
    this.each = false; // every channel of the place, for an overlay
    this.byHand = false; // a person chose the place, rather than the first frame
    this.name = ""; // of the position that is wanted
    this.missing = false; // this run is known to have no such position
    this.run = null;
    this.names = [];
    this.seen = { p: [], c: [], z: [] };
    this.options = {};
    this.chosen = chosen;
    for (const axis of AXES) {
      $(`select-${axis}`).onchange = (event) => {
        const value = event.target.value;
        if (Number(value) === NOWHERE) return this.mark();
        this.choose({ [axis]: value === "" ? null : axis === "c" ? value.slice(1) : Number(value) });
      };
    }
  }

  get held() {
    return AXES.some((axis) => this.wanted[axis] !== null);
  }

  // Go to a place because a person wants it; null on an axis follows the run there.
  choose(wanted) {
    this.byHand = true;
    this.go(wanted);
    this.following = !this.held;
  }

  go(wanted) {
    Object.assign(this.wanted, wanted);
    if ("p" in wanted) {
      this.missing = false;
      this.name = this.names[this.wanted.p] ?? "";
    }
    this.tell();
  }

  tell() {
    const all = this.each ? { c: null, each: true } : {};
    this.chosen({ ...this.wanted, ...(this.missing && { p: NOWHERE }), ...all });
    this.mark();
  }

  // Have every channel of the place, or the one that is chosen.
  setEach(each) {
    if (each === this.each) return;
    this.each = each;
    this.tell();
  }

  // Stay at the place that is seen now, or follow the run again.
  pin() {
    this.choose(this.held ? FREE : { ...this.now });
  }

  // seen: {p, c, z}, lists of what there is; names of the positions; run: its identifier.
  offer(seen, names, run) {
    this.names = names;
    this.seen = seen;
    if (run !== this.run) this.begin(run);
    for (const axis of AXES) this.list(axis);
    $("where").hidden = AXES.every((axis) => $(`select-${axis}`).parentElement.hidden);
    this.mark();
  }

  // In a new run a place is found by its name, whatever its number is there.
  begin(run) {
    const first = this.run === null;
    this.run = run;
    if (first || !this.held) return;
    if (!this.byHand) {
      this.go(FREE);
      return;
    }
    const { p } = this.wanted;
    if (p === null || !this.names.length) return;
    const at = this.name ? this.names.indexOf(this.name) : p;
    this.missing = at < 0 || at >= this.names.length;
    if (!this.missing) this.wanted.p = at;
    this.tell();
  }

  list(axis) {
    const wanted = this.wanted[axis];
    const known = this.seen[axis];
    const missing = axis === "p" && this.missing;
    const there = wanted === null || known.includes(wanted);
    const values = there || missing ? known : [...known, wanted];
    const labels = values.map((value) => this.label(axis, value));
    const key = JSON.stringify([values, labels, missing]);
    if (this.options[axis] === key) return; // an open list stays open
    this.options[axis] = key;
    const options = values.map(
      (value, i) => new Option(labels[i], axis === "c" ? `=${value}` : value),
    );
    if (missing) {
      options.push(new Option(this.name || this.label("p", wanted), NOWHERE));
    }
    $(`select-${axis}`).replaceChildren(new Option("follow the run", ""), ...options);
    $(`select-${axis}`).parentElement.hidden = values.length < 2 && there && !missing;
  }

  label(axis, value) {
    if (axis === "c") return value || "no name";
    return (axis === "p" && this.names[value]) || `${axis} ${value}`;
  }

  // What is wanted and has not come in this run, in words; "" where there is nothing to say.
  get lacking() {
    if (!this.run || !this.held) return "";
    if (this.missing) return `${this.name || this.label("p", this.wanted.p)} is not in this run.`;
    const lacks = AXES.filter(
      (axis) => this.wanted[axis] !== null && !this.seen[axis].includes(this.wanted[axis]),
    );
    const names = lacks.map((axis) => this.label(axis, this.wanted[axis]));
    const come = this.seen.c.length > 0; // a run that has only begun lacks everything
    return lacks.length && come ? `Nothing of ${names.join(", ")} in this run yet.` : "";
  }

  // Whether a frame of a place is to be shown: one may be on its way that was wanted before.
  takes(place) {
    const wanted = this.missing ? { ...this.wanted, p: NOWHERE } : this.wanted;
    return AXES.every(
      (axis) =>
        wanted[axis] === null || wanted[axis] === place[axis] || (axis === "c" && this.each),
    );
  }

  // A frame of a place is shown.
  arrived(place) {
    this.now = this.each ? { ...place, c: this.wanted.c ?? this.now.c ?? place.c } : { ...place };
    if (!this.held && !this.following) this.go({ p: place.p, c: place.c });
    else this.mark();
  }

  mark() {
    for (const axis of AXES) {
      const select = $(`select-${axis}`);
      const wanted = this.wanted[axis];
      const value = axis === "p" && this.missing ? NOWHERE : axis === "c" ? `=${wanted}` : wanted;
      select.value = wanted === null ? "" : value;
      const [follow] = select.options;
      if (!follow) continue;
      const now = this.now[axis];
      const text =
        now === null || wanted !== null ? "follow the run" : `follow: ${this.label(axis, now)}`;
      if (follow.textContent !== text) follow.textContent = text;
    }
    $("pin").textContent = this.held ? "Follow the run" : "Stay here";
  }
}
