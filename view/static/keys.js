// The keyboard: what each key does, and the list of them.

import { $ } from "./page.js";

// actions: by name, see the table. Keys act only where nobody types.
export function listenKeys(actions) {
  const keys = [
    ["1", "Side by side", () => actions.mode("side")],
    ["2", "Wipe", () => actions.mode("wipe")],
    ["3", "Flicker", () => actions.mode("flicker")],
    ["4", "Refocused alone", () => actions.mode("one")],
    ["5", "Overlay of the channels", () => actions.mode("overlay")],
    [",", "Back by a frame", () => actions.back(-1)],
    [".", "Forward by a frame", () => actions.back(1)],
    ["l", "Live again", actions.live],
    [" ", "Flicker by hand", actions.step],
    ["c", "Hold: the captured frame", () => actions.peek(true), () => actions.peek(false)],
    ["[", "Wipe to the left", () => actions.wipe(-0.02)],
    ["]", "Wipe to the right", () => actions.wipe(0.02)],
    ["f", "Fit the picture", actions.fit],
    ["0", "One pixel to one", actions.one],
    ["+", "Zoom in", () => actions.zoom(1.25)],
    ["-", "Zoom out", () => actions.zoom(0.8)],
    ["ArrowLeft", "Move", () => actions.pan([60, 0])],
    ["ArrowRight", "", () => actions.pan([-60, 0])],
    ["ArrowUp", "", () => actions.pan([0, 60])],
    ["ArrowDown", "", () => actions.pan([0, -60])],
    ["p", "Stay at this place, or follow the run", actions.pin],
    ["a", "Contrast by percentile", () => actions.contrast("auto")],
    ["h", "Contrast by hand", () => actions.contrast("hand")],
    ["s", "Snapshot as OME-TIFF", actions.snapshot],
    ["g", "PNG of what is shown", actions.png],
    ["m", "Begin or end a movie", actions.movie],
    ["o", "Profile along a line", actions.profile],
    ["i", "Show or hide the panel", actions.panel],
    ["n", "Red on black, for eyes used to the dark", actions.night],
    ["?", "This list", actions.help],
  ];
  const byKey = new Map(keys.map(([key, , down, up]) => [key, { down, up }]));
  byKey.set("=", byKey.get("+")); // the same key, without shift
  const find = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return null;
    if (event.target.closest?.("input, select, dialog[open]")) return null;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (key === " " && event.target.closest?.("button")) return null;
    if (key.startsWith("Arrow") && event.target.id === "wipe") return null;
    return byKey.get(key);
  };
  document.addEventListener("keydown", (event) => {
    const found = find(event);
    if (!found || (event.repeat && found.up)) return;
    event.preventDefault();
    found.down();
  });
  document.addEventListener("keyup", (event) => find(event)?.up?.());
  window.addEventListener("blur", () => actions.peek(false));
  $("wipe").addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
    if (by) actions.wipe(by);
  });
  listKeys(keys);
}

function listKeys(keys) {
  const list = $("keys");
  for (const [key, words] of keys) {
    if (!words) continue;
    const row = document.createElement("div");
    const [dt, dd] = ["dt", "dd"].map((tag) => document.createElement(tag));
    dt.textContent = { " ": "space", ArrowLeft: "← → ↑ ↓" }[key] ?? key.toUpperCase();
    dd.textContent = words;
    row.append(dt, dd);
    list.append(row);
  }
}
