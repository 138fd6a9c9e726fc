// One page: frames come in through the link, are drawn when the browser is ready for a picture, and
// only then acknowledged, so that there is never a backlog.

import { Banners } from "./banners.js";
import { Contrast } from "./contrast.js";
import { ContrastPanel } from "./contrast_panel.js";
import { listenKeys } from "./keys.js";
import { Link } from "./websocket.js";
import { Places, writeFigures, writeFrame, writeState } from "./panel.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";

const RECENT_MS = 3000; // what "now" means for rates and latencies
const NUMBERS_MS = 250;

const $ = (id) => document.getElementById(id);

let pending = null; // a frame that came and was not drawn
let waiting = false; // for the browser to ask for a picture
let state = null;
let connected = true; // until it fails
let heardAt = performance.now();
let fps = null;
const drawn = []; // {at, latency_ms} of the last seconds
let pictures = 0;

const stage = new Stage(redraw);
const contrast = new Contrast();
const contrastPanel = new ContrastPanel(contrast, redraw);
const timeline = new Timeline($("timeline"), $("tip"));
const banners = new Banners($("banners"));

const address = new URL("stream", location.href);
address.protocol = address.protocol.replace("http", "ws");
address.search = "";
const link = new Link(address, {
  open() {
    connected = true;
    timeline.clear(); // the server sends all it has
    tell();
  },
  closed() {
    connected = false;
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
    places.offer(state.places, state.run?.positions ?? []);
    tell();
  },
  points({ points }) {
    fps = points.at(-1).fps;
    timeline.add(points, figures().latency_ms);
  },
});
const places = new Places((wanted) => link.select(wanted));

function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(draw);
}

function draw() {
  waiting = false;
  const fresh = pending;
  pending = null;
  if (fresh) take(fresh);
  const name = stage.frame?.header.place.c ?? "";
  stage.draw((side) => contrast.limits(name, side));
  if (fresh) requestAnimationFrame((now) => seen(fresh, now));
}

// Make a frame the one that is shown, and ask for the next while it is being drawn.
function take(frame) {
  const { header } = frame;
  const name = header.place.c;
  contrast.look(name, frame);
  stage.show(frame);
  link.acknowledge(header.serial);
  contrastPanel.select(name);
  places.arrived(header.place);
  $("empty").hidden = true;
  stage.root.dataset.frame = header.frame;
  stage.root.dataset.run = header.run;
}

// A frame is on the screen: the browser asks for the picture after it.
function seen(frame, now) {
  pictures += 1;
  const offset = link.clock.offset;
  const latency = offset === null ? null : now + offset - frame.header.captured_ms;
  // the first frame may be old, and a tab in the background draws none
  const counts = !frame.hidden && pictures > 1;
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

function tell() {
  const silence = state ? Math.round(state.silent_s + (performance.now() - heardAt) / 1e3) : 0;
  banners.update({ connected, state, silence });
  if (state) writeState(state, connected);
  stage.root.classList.toggle("stale", !connected || state?.phase === "lost");
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
  if (state && state.phase !== "running") tell(); // the silence grows
}, NUMBERS_MS);
setInterval(() => timeline.draw(), 1000);

// -- what a person can do

async function snapshot() {
  const serial = stage.frame?.header.serial;
  if (serial === undefined) return;
  const button = $("snapshot");
  const say = (text) => {
    button.textContent = text;
    setTimeout(() => (button.textContent = "Snapshot"), 2000);
  };
  try {
    const answer = await fetch(`snapshot.tif?serial=${serial}`);
    if (!answer.ok) throw new Error(await answer.text());
    const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition"));
    const anchor = document.createElement("a");
    anchor.href = URL.createObjectURL(await answer.blob());
    anchor.download = name ? name[1] : "refocus.tif";
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(anchor.href), 60_000);
    say("Saved");
  } catch (error) {
    button.title = String(error);
    say("Not saved");
  }
}

const actions = {
  mode(mode) {
    stage.setMode(mode);
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
  snapshot,
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
$("snapshot").onclick = snapshot;
$("panel-toggle").onclick = actions.panel;
$("help-open").onclick = actions.help;
$("pin").onclick = actions.pin;
$("zoom-in").onclick = () => actions.zoom(1.25);
$("zoom-out").onclick = () => actions.zoom(0.8);
$("zoom-fit").onclick = actions.fit;
$("zoom-one").onclick = actions.one;

tell();
contrastPanel.draw();
document.documentElement.dataset.painter = stage.withWebGl ? "webgl" : "canvas";
performance.mark("ready");
window.refocusView = { figures, drawn }; // for bench/view_bench.py and the tests
