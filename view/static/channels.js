// The channels of a run: which one is adjusted, the colour of each, and which are part of an overlay.

import { LUTS, inkOf } from "./luts.js";
import { $ } from "./page.js";

export class Channels {
  // actions: {choose(name), changed()}
  constructor(contrast, actions) {
    this.contrast = contrast;
    this.actions = actions;
    this.root = $("channels");
    this.key = "";
  }

  // names: of the channels that there are; chosen: the one that is adjusted.
  update(names, chosen, overlay) {
    $("channels-section").hidden = names.length < 2 && !overlay;
    const key = JSON.stringify(names);
    if (key !== this.key) {
      this.key = key;
      this.root.replaceChildren(...names.map((name) => this.row(name)));
    }
    names.forEach((name, i) => {
      const [check, button, select] = this.root.children[i].children;
      const channel = this.contrast.of(name);
      check.hidden = !overlay;
      check.checked = channel.overlaid;
      button.setAttribute("aria-pressed", name === chosen);
      button.style.borderLeft = `4px solid ${inkOf(this.contrast.lut(name, overlay))}`;
      select.value = channel.lut;
      select.options[0].textContent = this.contrast.lut(name, overlay, "");
    });
  }

  row(name) {
    const row = document.createElement("div");
    const words = name || "no name";
    const check = Object.assign(document.createElement("input"), { type: "checkbox" });
    check.setAttribute("aria-label", `${words} in the overlay`);
    check.onchange = () => {
      this.contrast.of(name).overlaid = check.checked;
      this.actions.changed();
    };
    const button = Object.assign(document.createElement("button"), { textContent: words });
    button.onclick = () => this.actions.choose(name);
    const select = document.createElement("select");
    select.setAttribute("aria-label", `Colour of ${words}`);
    select.append(new Option("usual", ""), ...LUTS.map((one) => new Option(one, one)));
    select.onchange = () => {
      this.contrast.of(name).lut = select.value;
      this.actions.changed();
    };
    row.append(check, button, select);
    return row;
  }
}
