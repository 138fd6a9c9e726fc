// Scrolling back through the frames of the place that is shown, as far as the server has kept them.

import { $ } from "./page.js";
import { clock } from "./times.js";

export class History {
  // recall(serial) asks for a frame, and with null for what comes from now on.
  constructor(recall) {
    this.recall = recall;
    this.serial = null; // of the frame that was asked for; null while live
    this.marks = [];
    this.slider = $("history-slider");
    this.slider.oninput = () => this.go(Number(this.slider.value));
    $("history-live").onclick = () => this.live();
    $("history-back").onclick = () => this.step(-1);
    $("history-forward").onclick = () => this.step(1);
  }

  get isLive() {
    return this.serial === null;
  }

  // Take the frames that there are: those of the place of the frame on the screen.
  update(journal, frame) {
    const place = frame && frame.header.run === journal.run ? frame.header.place : null;
    const marks = place ? journal.of(place) : [];
    this.marks = marks.filter((mark) => mark.serial >= journal.kept);
    const last = this.marks.length - 1;
    $("history").hidden = last < 1;
    this.slider.max = Math.max(last, 0);
    const at = this.isLive ? last : this.marks.findIndex((mark) => mark.serial === this.serial);
    if (at >= 0) this.slider.value = at;
    const mark = this.marks[at];
    const when = mark && !this.isLive ? clock(mark.t * 1e3) : "live";
    this.slider.setAttribute("aria-valuetext", when);
    $("history-live").disabled = this.isLive;
    $("history-when").textContent = mark && !this.isLive ? `${when}, ${at + 1} of ${last + 1}` : "";
  }

  // at: among the frames that there are; the last of all is live.
  go(at) {
    if (at >= this.marks.length - 1) this.live();
    else if (this.marks[at]) this.ask(this.marks[at].serial);
  }

  step(by) {
    const at = this.isLive
      ? this.marks.length - 1
      : this.marks.findIndex((mark) => mark.serial === this.serial);
    this.go(Math.max(0, at + by));
  }

  live() {
    if (!this.isLive) this.ask(null);
  }

  ask(serial) {
    this.serial = serial;
    this.recall(serial);
  }
}
