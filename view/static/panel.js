// The numbers, the verdicts, and the choice of place.

const VERDICTS = ["in-focus", "refocused", "beyond", "unfamiliar", "blank", "unrated"];
const AXES = ["p", "c", "z"];

const $ = (id) => document.getElementById(id);

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
  if (state.stats) writeStats(state.stats, state.lost);
}

function writeStats(stats, lost) {
  const { frames } = stats;
  const count = (key) => (frames[key] ?? 0).toLocaleString("en");
  write("n-engine", `${stats.engine_ms.p50.toFixed(1)} ms`);
  write("n-published", count("published"));
  write("n-queue", `${stats.queued} of ${stats.capacity}`, stats.alarm !== "");
  for (const key of ["dropped", "deferred", "failed"]) {
    write(`n-${key}`, count(key), frames[key] > 0);
  }
  write("n-lost", lost.toLocaleString("en"), lost > 0);
  const verdicts = Object.entries(stats.verdicts).filter(([, n]) => n > 0);
  $("verdicts-section").hidden = verdicts.length === 0;
  const list = $("verdicts");
  const all = verdicts.reduce((sum, [, n]) => sum + n, 0);
  list.replaceChildren(
    ...VERDICTS.filter((name) => stats.verdicts[name]).map((name) => {
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
    `${header.frame}${header.source ? ` · ${header.source}` : ""} · ${header.captured_utc.slice(11, 23)} UTC`,
    `${width} × ${height} · ${header.bit_depth} bit · ${header.exposure_ms} ms`,
    position && `${position} µm`,
  ];
  write("frame-info", lines.filter(Boolean).join("\n"));
}

// The choice of position, channel and plane.
export class Places {
  constructor(chosen) {
    this.wanted = { p: null, c: null, z: null };
    this.now = { p: null, c: null, z: null };
    this.options = {};
    this.chosen = chosen;
    for (const axis of AXES) {
      $(`select-${axis}`).onchange = (event) => {
        const value = event.target.value;
        this.choose({ [axis]: value === "" ? null : axis === "c" ? value.slice(1) : Number(value) });
      };
    }
  }

  choose(wanted) {
    Object.assign(this.wanted, wanted);
    this.chosen(this.wanted);
    this.mark();
  }

  // Stay at the place that is seen now, or follow the run again.
  pin() {
    const pinned = AXES.some((axis) => this.wanted[axis] !== null);
    this.choose(pinned ? { p: null, c: null, z: null } : { ...this.now });
  }

  // seen: {p, c, z}, lists of what there is; names of the positions.
  offer(seen, names) {
    for (const axis of AXES) {
      const wanted = this.wanted[axis];
      const values = seen[axis].includes(wanted) || wanted === null ? seen[axis] : [...seen[axis], wanted];
      const labels = values.map((value) => this.label(axis, value, names));
      const key = JSON.stringify(labels);
      if (this.options[axis] === key) continue; // an open list stays open
      this.options[axis] = key;
      const options = values.map((value, i) => new Option(labels[i], axis === "c" ? `=${value}` : value));
      $(`select-${axis}`).replaceChildren(new Option("follow the run", ""), ...options);
      $(`select-${axis}`).parentElement.hidden = values.length < 2 && wanted === null;
    }
    this.names = names;
    $("where").hidden = AXES.every((axis) => $(`select-${axis}`).parentElement.hidden);
    this.mark();
  }

  label(axis, value, names) {
    if (axis === "c") return value || "no name";
    return (axis === "p" && names[value]) || `${axis} ${value}`;
  }

  arrived(place) {
    if (AXES.every((axis) => this.now[axis] === place[axis])) return;
    this.now = { ...place };
    this.mark();
  }

  mark() {
    for (const axis of AXES) {
      const select = $(`select-${axis}`);
      const wanted = this.wanted[axis];
      select.value = wanted === null ? "" : axis === "c" ? `=${wanted}` : wanted;
      const [follow] = select.options;
      if (!follow) continue;
      const now = this.now[axis];
      const text = now === null ? "follow the run" : `follow: ${this.label(axis, now, this.names ?? [])}`;
      if (follow.textContent !== text) follow.textContent = text;
    }
    const pinned = AXES.some((axis) => this.wanted[axis] !== null);
    $("pin").setAttribute("aria-pressed", pinned);
    $("pin").textContent = pinned ? "Pinned" : "Pin";
  }
}
