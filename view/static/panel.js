// The numbers and the verdicts.

import { $ } from "./page.js";
import { clock } from "./times.js";
import { VERDICTS } from "./verdicts.js";

function write(id, text, warns = false) {
  const element = $(id);
  if (element.textContent !== text) element.textContent = text;
  element.classList.toggle("warns", warns);
}

const PHASES = {
  connecting: "connecting",
  nobody: "nobody publishes",
  refused: "refused",
  foreign: "not understood",
  idle: "waiting for a run",
  running: "running",
  lost: "stream lost",
  ended: "run over",
};

export function writeState(state, connected) {
  const phase = connected ? state.phase : "lost";
  $("link").dataset.phase = phase;
  $("link").title = state.endpoint;
  write("link", "");
  $("link").append(document.createElement("i"), connected ? PHASES[phase] : "no server");
  const engine = state.run?.engine;
  const named = (text) => text || "–";
  write("model-name", named(engine && [engine.model, engine.version].filter(Boolean).join(" ")));
  write("engine-name", named(engine?.name), Boolean(state.fallback));
  write("engine-precision", named(engine?.precision));
  $("engine-name").title = engine?.device ?? "";
  if (state.stats) writeStats(state.stats, state.lost, phase === "running");
}

// What is only so at this moment is not told of a run that is over or lost.
function writeStats(stats, lost, running) {
  const { frames } = stats;
  const count = (key) => (frames[key] ?? 0).toLocaleString("en");
  write("n-engine", `${stats.engine_ms.p50.toFixed(1)} ms`);
  write("n-published", count("published"));
  const queue = `${stats.queued} of ${stats.capacity}`;
  write("n-queue", running ? queue : "–", running && stats.alarm !== "");
  for (const key of ["dropped", "deferred", "failed"]) {
    write(`n-${key}`, count(key), frames[key] > 0);
  }
  write("n-lost", lost.toLocaleString("en"), lost > 0);
  const verdicts = Object.entries(stats.verdicts).filter(([, n]) => n > 0);
  $("verdicts-section").hidden = verdicts.length === 0;
  const list = $("verdicts");
  const all = verdicts.reduce((sum, [, n]) => sum + n, 0);
  list.replaceChildren(
    ...Object.keys(VERDICTS).filter((name) => stats.verdicts[name]).map((name) => {
      const row = document.createElement("div");
      row.dataset.verdict = name;
      const [dt, dd, bar] = ["dt", "dd", "i"].map((tag) => document.createElement(tag));
      dt.textContent = name;
      dd.textContent = stats.verdicts[name].toLocaleString("en");
      bar.style.width = `${(100 * stats.verdicts[name]) / all}%`;
      row.append(dt, dd, bar);
      return row;
    }),
  );
}

// figures: {shown, latency_ms, exact} of this page; fps of the stream.
export function writeFigures(figures, fps) {
  write("n-shown", figures.shown === null ? "–" : `${figures.shown.toFixed(1)} /s`);
  write(
    "n-latency",
    figures.latency_ms === null ? "–" : `${figures.exact ? "" : "≥ "}${figures.latency_ms.toFixed(0)} ms`,
  );
  $("n-latency").title = figures.exact
    ? "From the frame's capture until this browser has drawn it, median of the last 3 s"
    : "The publisher is another computer: what the network takes at its best is left out";
  write("n-fps", fps === null ? "–" : `${fps.toFixed(1)} /s`);
}

export function writeFrame(header) {
  const [height, width] = header.shape;
  const position = Object.entries(header.position_um)
    .map(([axis, um]) => `${axis} ${um.toFixed(1)}`)
    .join("  ");
  const lines = [
    `${header.frame}${header.source ? ` · ${header.source}` : ""} · ${clock(Date.parse(header.captured_utc), true)}`,
    `${width} × ${height} · ${header.bit_depth} bit · ${header.exposure_ms} ms`,
    position && `${position} µm`,
  ];
  write("frame-info", lines.filter(Boolean).join("\n"));
  $("frame-info").title = `captured ${header.captured_utc}`;
}
