// The websocket: frames and news from the server, and how far apart the two clocks are.

const RETRY_MS = 1000;
const PING_MS = 2000;
const SILENT_MS = 7000; // a ping unanswered for so long is worth a question by another way
const GONE_MS = 120000; // and for so long, worth another connection whatever the answer

// Estimates the difference of two clocks: of the last pings, the fastest one is the one to believe.
export class Clock {
  constructor(kept = 30) {
    this.kept = kept;
    this.pings = [];
  }

  // sent, received: ms here; server: ms there, in between.
  add(sent, server, received) {
    this.pings.push({ trip: received - sent, offset: server - (sent + received) / 2 });
    if (this.pings.length > this.kept) this.pings.shift();
  }

  // What to add to a time here for the time there, ms; null before the first ping.
  get offset() {
    if (!this.pings.length) return null;
    return this.pings.reduce((best, ping) => (ping.trip < best.trip ? ping : best)).offset;
  }
}

// A frame's message: see view/page/packet.py.
export function decodeFrame(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const [height, width] = header.shape;
  const Pixels = header.dtype === "uint8" ? Uint8Array : Uint16Array;
  const count = width * height;
  const first = 4 + length;
  const refocused = new Pixels(buffer, first, count);
  const captured = header.has_raw
    ? new Pixels(buffer, first + count * Pixels.BYTES_PER_ELEMENT, count)
    : null;
  return { header, width, height, refocused, captured };
}

export class Link {
  // on: {frame, hello, state, points, open, closed, refused}, each called with what came.
  constructor(address, on) {
    this.address = address;
    this.on = on;
    this.clock = new Clock();
    this.wanted = {};
    this.asking = false;
    this.connect();
    setInterval(() => this.ping(), PING_MS);
  }

  connect() {
    const socket = new WebSocket(this.address);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.pinged = null; // when the first ping was sent that has not been answered
    socket.onopen = () => {
      this.clock = new Clock();
      this.select(this.wanted);
      for (let i = 0; i < 3; i++) setTimeout(() => this.ping(), 100 * i);
      this.on.open();
    };
    socket.onmessage = ({ data }) => {
      this.pinged = null;
      if (typeof data !== "string") return this.on.frame(decodeFrame(data));
      const message = JSON.parse(data);
      if (message.type === "pong") {
        this.clock.add(message.sent, message.server_ms, performance.now());
      } else {
        this.on[message.type]?.(message);
      }
    };
    socket.onclose = () => this.again();
  }

  // Let go of the connection, without waiting for the other end, and make another.
  again() {
    const { socket } = this;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    this.on.closed();
    this.knock();
    setTimeout(() => this.connect(), RETRY_MS);
  }

  // Is there a server that does not know this address? A websocket does not say why it is refused.
  async knock() {
    const options = { cache: "no-store", signal: AbortSignal.timeout(SILENT_MS) };
    const answer = await fetch("./", options).catch(() => null);
    if (answer && [403, 404].includes(answer.status)) this.on.refused();
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  ping() {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    const now = performance.now();
    if (this.pinged !== null && now - this.pinged > SILENT_MS) this.ask(now - this.pinged);
    this.pinged ??= now;
    this.send({ type: "ping", sent: now });
  }

  // Is the server gone, or does a large frame take its time? A slow network answers all the same.
  async ask(silent) {
    if (this.asking) return;
    this.asking = true;
    const { socket } = this;
    const options = { cache: "no-store", signal: AbortSignal.timeout(SILENT_MS) };
    const there = await fetch("icon.svg", options).then(({ ok }) => ok, () => false);
    this.asking = false;
    const meanwhile = socket !== this.socket || this.pinged === null;
    if (!meanwhile && (!there || silent > GONE_MS)) this.again();
  }

  acknowledge(serial) {
    this.send({ type: "ack", serial });
  }

  // wanted: {p, c, z}, each a value to stay at, or null to follow the run; each: all channels in turn.
  select(wanted) {
    this.wanted = wanted;
    this.send({ type: "select", ...wanted });
  }

  // serial: of an earlier frame, to be shown alone; null for what comes.
  recall(serial) {
    this.send({ type: "recall", serial });
  }
}
