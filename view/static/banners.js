// What a person has to be told at once, in words; gone as soon as it is no longer so.

const WAITS = "This page goes on by itself.";

// Texts by kind, for what is known now: {connected, refused, state, silence}, and what is {lacking}
// of the place that is wanted, {tooFar} from focus, or wrong with the {painter}. A kind that has nothing to say gives "".
const KINDS = {
  token: ({ connected, refused }) =>
    refused && !connected
      ? "This address is no longer valid: refocus-view was started anew, and has another token. Open the address that refocus-view printed."
      : "",
  server: ({ connected, refused }) =>
    connected || refused ? "" : `The viewer's server does not answer: refocus-view was ended, or the network is down. ${WAITS}`,
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
  over: ({ connected, state }) =>
    connected && state?.phase === "ended" && state.stats ? inTheEnd(state.stats) : "",
  place: ({ connected, lacking }) =>
    connected && lacking ? `${lacking} The picture is an older one.` : "",
  focus: ({ connected, tooFar }) => (connected ? tooFar : ""),
  painter: ({ painter }) =>
    painter ? `${painter}; pictures are painted without it, more slowly. Reload the page to try again.` : "",
  fallback: ({ state }) =>
    state?.fallback
      ? `A fallback engine is in use: ${state.fallback}. Refocusing goes on, and may be slower.`
      : "",
  raw: ({ state }) =>
    state?.has_raw === false
      ? "The stream has no captured pixels, so the refocused are shown alone. To compare, start the run with --publish-raw, or attach(…, publish_raw=True)."
      : "",
};

const NOTES = new Set(["fallback", "raw", "over", "painter", "focus"]); // may be put away

// The accounts of a run that is over.
function inTheEnd({ frames, planned }) {
  const of = (key) => frames[key] ?? 0;
  const count = (key) => of(key).toLocaleString("en");
  const lost = ["dropped", "deferred", "failed"].filter(of).map((key) => `, ${count(key)} ${key}`);
  const never = (planned ?? 0) - of("received") - of("skipped");
  const plan = `; ${never.toLocaleString("en")} of ${(planned ?? 0).toLocaleString("en")} planned never came`;
  const plural = of("published") === 1 ? "" : "s";
  return (
    `The run is over: ${count("published")} frame${plural} published of ${count("received")} received` +
    `${lost.join("")}${never > 0 ? plan : ""}. ${WAITS.replace("goes on", "shows the next run")}`
  );
}

export class Banners {
  // actions: {follow}, what a banner offers to do.
  constructor(root, actions) {
    this.root = root;
    this.actions = actions;
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
      if (NOTES.has(kind)) banner.append(this.putAway(kind));
      if (kind === "place") banner.append(button("Follow the run", () => this.actions.follow()));
      this.shown.set(kind, banner);
      this.root.append(banner);
    }
    const words = banner.firstElementChild;
    if (words.textContent !== text) words.textContent = text;
  }

  putAway(kind) {
    return button("Put away", () => {
      this.away.set(kind, this.shown.get(kind).firstElementChild.textContent);
      this.set(kind, "");
    });
  }
}

function button(text, onclick) {
  return Object.assign(document.createElement("button"), { textContent: text, onclick });
}
