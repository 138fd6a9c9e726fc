// What a person has to be told at once, in words; gone as soon as it is no longer so.

const WAITS = "This page goes on by itself.";

// Texts by kind, for what is known now: {connected, state}. A kind that has nothing to say gives "".
const KINDS = {
  server: ({ connected }) =>
    connected ? "" : `The viewer's server does not answer: refocus-view was ended, or the network is down. ${WAITS}`,
  nobody: ({ connected, state }) =>
    connected && state?.phase === "nobody"
      ? `Nobody publishes at ${state.endpoint}. Start a run with “refocus-live run … --publish ${state.endpoint} --publish-raw”. ${WAITS}`
      : "",
  refused: ({ connected, state }) =>
    connected && state?.phase === "refused"
      ? `The publisher at ${state.endpoint} wants other keys. Start refocus-view with --keys DIR, the folder that “refocus-live keys” made for this reader; without it if the publisher has none.`
      : "",
  foreign: ({ connected, state }) =>
    connected && state?.phase === "foreign" ? `Not understood: ${state.fault}. ${WAITS}` : "",
  lost: ({ connected, state, silence }) =>
    connected && state?.phase === "lost"
      ? `The stream is lost: nothing for ${silence} s during a run. The last picture stays. ${WAITS}`
      : "",
  fallback: ({ state }) =>
    state?.fallback
      ? `A fallback engine is in use: ${state.fallback}. Refocusing goes on, and may be slower.`
      : "",
  raw: ({ state }) =>
    state?.has_raw === false
      ? "The stream has no captured pixels, so the refocused are shown alone. To compare, start the run with --publish-raw, or attach(…, publish_raw=True)."
      : "",
};

const NOTES = new Set(["fallback", "raw"]); // may be put away

export class Banners {
  constructor(root) {
    this.root = root;
    this.away = new Map(); // by kind, the text that was put away
    this.shown = new Map();
  }

  update(known) {
    for (const [kind, words] of Object.entries(KINDS)) {
      const text = words(known);
      if (this.away.get(kind) !== text) this.away.delete(kind);
      this.set(kind, this.away.has(kind) ? "" : text);
    }
  }

  set(kind, text) {
    let banner = this.shown.get(kind);
    if (!text) {
      banner?.remove();
      this.shown.delete(kind);
      return;
    }
    if (!banner) {
      banner = document.createElement("div");
      banner.dataset.kind = kind;
      banner.append(document.createElement("span"));
      if (NOTES.has(kind)) banner.append(this.button(kind));
      this.shown.set(kind, banner);
      this.root.append(banner);
    }
    const words = banner.firstElementChild;
    if (words.textContent !== text) words.textContent = text;
  }

  button(kind) {
    const button = document.createElement("button");
    button.textContent = "Put away";
    button.onclick = () => {
      this.away.set(kind, this.shown.get(kind).firstElementChild.textContent);
      this.set(kind, "");
    };
    return button;
  }
}
