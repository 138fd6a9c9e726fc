// What is remembered of the frames of this run: view/marks.py sends a mark for each.

const KEPT = 2000; // as the server does

export class Journal {
  constructor() {
    this.clear("");
  }

  clear(run) {
    this.run = run;
    this.marks = []; // {serial, t, p, c, z, x, y, verdict, score, um, sigma}, as they came
    this.latest = new Map(); // by position, then channel
    this.kept = 0; // the oldest serial whose pixels the server may still have
  }

  add({ run, kept, marks }) {
    if (run !== this.run) this.clear(run);
    this.kept = kept;
    for (const mark of marks) {
      this.marks.push(mark);
      if (!this.latest.has(mark.p)) this.latest.set(mark.p, new Map());
      this.latest.get(mark.p).set(mark.c, mark);
    }
    this.marks.splice(0, this.marks.length - KEPT);
  }

  // Marks of a place, oldest first; null on an axis takes all.
  of({ p, c, z }) {
    const takes = (wanted, value) => wanted === null || wanted === undefined || wanted === value;
    return this.marks.filter((m) => takes(p, m.p) && takes(c, m.c) && takes(z, m.z));
  }

  // The newest mark of a position, of this channel if there is one.
  newest(p, c) {
    const channels = this.latest.get(p);
    if (!channels) return null;
    if (channels.has(c)) return channels.get(c);
    return [...channels.values()].reduce((a, b) => (a.serial > b.serial ? a : b));
  }
}
