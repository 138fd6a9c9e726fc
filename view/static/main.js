// One page: frames come in through the link, are drawn when the browser is ready for a picture, and
// only then acknowledged, so that there is never a backlog.

import { Banners } from "./banners.js";
import { Channels } from "./channels.js";
import { Contrast } from "./contrast.js";
import { ContrastPanel } from "./contrast_panel.js";
import { Focus } from "./focus.js";
import { Grid } from "./grid.js";
import { History } from "./history.js";
import { Journal } from "./journal.js";
import { Keeper } from "./keep.js";
import { listenKeys } from "./keys.js";
import { $ } from "./page.js";
import { Link } from "./websocket.js";
import { writeFigures, writeFrame, writeState } from "./panel.js";
import { Places } from "./places.js";
import { Profile } from "./profile.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";
import { clock } from "./times.js";

const RECENT_MS = 3000; // what "now" means for rates and latencies
const NUMBERS_MS = 250;

let pending = null; // a frame that came and was not drawn
let waiting = false; // for the browser to ask for a picture
let state = null;
let connected = true; // until it fails
let refused = false; // the server does not know this page's address any more
let heardAt = performance.now();
let fps = null;
let asked = true; // for another place or time: what comes next is not new
let shownKey = ""; // run, place and time of the picture, roughly
const drawn = []; // {at, latency_ms} of the last seconds
let pictures = 0;

const stage = new Stage(redraw, tell);
const contrast = new Contrast();
const contrastPanel = new ContrastPanel(contrast, redraw);
const timeline = new Timeline($("timeline"), $("tip"));
const banners = new Banners($("banners"), {
  follow: () => places.choose({ p: null, c: null, z: null }),
});
const journal = new Journal();
const focus = new Focus(tell);
const profile = new Profile(stage, redraw);
const keeper = new Keeper(stage, paint, say);

const address = new URL("stream", location.href);
address.protocol = address.protocol.replace("http", "ws");
address.search = "";
const link = new Link(address, {
  open() {
    connected = true;
    refused = false;
    timeline.clear(); // the server sends all it has
    asked = true;
    history.live();
    tell();
  },
  closed() {
    connected = false;
    tell();
  },
  refused() {
    refused = true;
    tell();
  },
  frame(frame) {
    frame.hidden = document.hidden;
    pending = frame;
    redraw();
  },
  state(message) {
    state = message;
    heardAt = performance.now();
    places.offer(state.places, state.run?.positions ?? [], state.run?.id ?? "");
    tell();
  },
  points({ points }) {
    fps = points.at(-1).fps;
    timeline.add(points, figures().latency_ms);
  },
  marks(message) {
    if (message.run !== journal.run) history.live();
    journal.add(message);
  },
  gone({ serial }) {
    journal.kept = Math.max(journal.kept, serial + 1);
    history.live();
  },
});
const following = new URLSearchParams(location.search).has("follow");
const history = new History((serial) => {
  asked = true;
  link.recall(serial);
});
const places = new Places((wanted) => {
  asked = true;
  history.live();
  link.select(wanted);
}, following);
const grid = new Grid((p) => places.choose({ p }));
const channels = new Channels(contrast, {
  choose(name) {
    if (stage.mode !== "overlay" && places.held) places.choose({ c: name });
    contrastPanel.choose(name);
    tell();
  },
  changed() {
    redraw();
    tell();
  },
});

function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(draw);
}

function draw() {
  waiting = false;
  const fresh = pending;
  pending = null;
  const taken = fresh && take(fresh);
  paint();
  if (taken) requestAnimationFrame((now) => seen(fresh, now));
}

function paint() {
  const look = {
    limits: (name, side) => contrast.limits(name, side),
    lut: (name) => contrast.lut(name, stage.mode === "overlay"),
    overlaid: (name) => contrast.of(name).overlaid,
    chosen: contrastPanel.name,
  };
  stage.draw(look);
  profile.draw(look);
  keeper.painted();
}

// Make a frame the one that is shown, and ask for the next while it is being drawn; false where it
// is not wanted any more.
function take(frame) {
  const { header } = frame;
  const name = header.place.c;
  if (!places.takes(header.place) || (!history.isLive && history.serial !== header.serial)) {
    link.acknowledge(header.serial); // it was asked for before something else was
    return false;
  }
  frame.earlier = !history.isLive;
  frame.asked = asked;
  asked = false;
  places.arrived(header.place); // before the next is asked for, or it could be of another place
  contrast.look(name, frame);
  stage.show(frame);
  link.acknowledge(header.serial);
  if (stage.mode !== "overlay" || !contrastPanel.name) contrastPanel.select(name);
  $("empty").hidden = true;
  stage.root.dataset.frame = header.frame;
  stage.root.dataset.run = header.run;
  const { p, c } = header.place;
  const overlay = stage.mode === "overlay";
  const key = JSON.stringify([header.run, p, overlay || c, frame.earlier && header.serial]);
  if (key !== shownKey) tell();
  shownKey = key;
  return true;
}

// A frame is on the screen: the browser asks for the picture after it.
function seen(frame, now) {
  pictures += 1;
  const offset = link.clock.offset;
  const latency = offset === null ? null : now + offset - frame.header.captured_ms;
  // a frame that was asked for may be old, and a tab in the background draws none
  const counts = !frame.hidden && !frame.asked;
  drawn.push({ at: now, latency_ms: counts ? latency : null });
  while (drawn.length && drawn[0].at < now - RECENT_MS) drawn.shift();
}

// What this page does: pictures per second, and capture to screen, of the last seconds.
function figures() {
  const now = performance.now();
  const recent = drawn.filter(({ at }) => at > now - RECENT_MS);
  const times = recent
    .map(({ latency_ms }) => latency_ms)
    .filter((ms) => ms !== null)
    .sort((a, b) => a - b);
  const span = recent.length > 1 ? recent.at(-1).at - recent[0].at : 0;
  return {
    pictures,
    shown: span > 0 ? ((recent.length - 1) * 1e3) / span : null,
    latency_ms: times.length ? times[times.length >> 1] : null,
    exact: state?.one_clock ?? true,
    remembered: drawn.length + timeline.points.length,
  };
}

// What the picture is of, where it is not what is wanted now; else "".
function whatItIsOf() {
  if (!stage.frame || !state?.run) return "";
  const { run, place } = stage.frame.header;
  if (run !== state.run.id) return "of the run before";
  return places.takes(place) ? "" : "of the place before";
}

function tell() {
  const silence = state ? Math.round(state.silent_s + (performance.now() - heardAt) / 1e3) : 0;
  const lacking = places.lacking;
  const tooFar = focus.watch(journal, places);
  banners.update({ connected, refused, state, silence, lacking, tooFar, painter: stage.fault });
  if (state) writeState(state, connected);
  timeline.setLive(connected && state?.phase === "running");
  const past = whatItIsOf();
  stage.root.classList.toggle("stale", !connected || state?.phase === "lost" || Boolean(past));
  const earlier = stage.frame?.earlier;
  $("stand").hidden = !past && !earlier;
  const when = earlier && clock(Date.parse(stage.frame.header.captured_utc));
  $("stand").textContent = past || `earlier, ${when}`;
  history.update(journal, stage.mode === "overlay" ? null : stage.frame); // whose layers are of now
  grid.update(places, journal, focus.positions);
  channels.update(places.seen.c, contrastPanel.name, stage.mode === "overlay");
  for (const button of $("modes").children) {
    button.setAttribute("aria-pressed", button.dataset.mode === stage.mode);
  }
}

setInterval(() => {
  writeFigures(figures(), state?.phase === "running" ? fps : null);
  stage.readOut();
  if (stage.frame) {
    writeFrame(stage.frame.header);
    contrastPanel.draw();
  }
  tell();
  focus.draw(journal, places, stage.judged(contrastPanel.name));
}, NUMBERS_MS);
setInterval(() => timeline.draw(), 1000);

// -- what a person can do

// What a button says for a moment, or for as long as it takes.
function say(id, words, stays = false) {
  const button = $(id);
  button.dataset.usual ??= button.textContent;
  button.textContent = words;
  if (!stays) setTimeout(() => (button.textContent = button.dataset.usual), 2000);
}

const actions = {
  mode(mode) {
    stage.setMode(mode);
    places.setEach(mode === "overlay");
    tell();
  },
  step: () => stage.step(),
  peek: (on) => stage.peek(on),
  wipe: (by) => stage.setWipe(stage.wipe + by),
  fit() {
    stage.viewport.fit();
    redraw();
  },
  one() {
    const ratio = window.devicePixelRatio || 1;
    actions.zoom(1 / ratio / stage.viewport.zoom);
  },
  zoom(factor) {
    stage.viewport.zoomAt(factor);
    redraw();
  },
  pan(by) {
    stage.viewport.pan(by);
    redraw();
  },
  pin: () => places.pin(),
  contrast: (mode) => contrastPanel.setMode(mode),
  back: (by) => history.step(by),
  live: () => history.live(),
  snapshot() {
    const { mode, layers, frame } = stage;
    const shown = mode === "overlay" ? [...layers.values()] : frame ? [frame] : [];
    if (shown.length) keeper.tiff(shown.map(({ header }) => header.serial));
  },
  png: () => keeper.png(),
  movie: () => keeper.movie(),
  profile: () => profile.toggle(),
  panel() {
    document.body.classList.toggle("without-panel");
  },
  night() {
    document.documentElement.classList.toggle("night");
    timeline.draw();
  },
  help: () => $("help").showModal(),
};
listenKeys(actions);
for (const button of $("modes").children) button.onclick = () => actions.mode(button.dataset.mode);
for (const id of ["snapshot", "png", "movie", "profile"]) $(id).onclick = () => actions[id]();
$("panel-toggle").onclick = actions.panel;
$("help-open").onclick = actions.help;
$("pin").onclick = actions.pin;
$("zoom-in").onclick = () => actions.zoom(1.25);
$("zoom-out").onclick = () => actions.zoom(0.8);
$("zoom-fit").onclick = actions.fit;
$("zoom-one").onclick = actions.one;

tell();
contrastPanel.draw();
performance.mark("ready");
window.refocusView = { figures, drawn }; // for bench/view_bench.py and the tests
