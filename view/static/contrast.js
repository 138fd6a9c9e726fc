// From 16 bits to the screen: which pixel value is black and which is white, for each channel.

import { usualLut } from "./luts.js";

const SAMPLES = 16384;
const BINS = 128;
const SETTLE = 0.3; // how much of the way to a frame's percentiles its picture goes, against flicker

// A sorted sample of a picture's pixels, taken at an odd stride so that no column is preferred.
export function sample(pixels) {
  const step = Math.max(1, Math.floor(pixels.length / SAMPLES)) | 1;
  const taken = new pixels.constructor(Math.ceil(pixels.length / step));
  for (let i = 0, at = 0; at < pixels.length; i++, at += step) taken[i] = pixels[at];
  return taken.sort();
}

export function percentile(sorted, percent) {
  const place = Math.round((percent / 100) * (sorted.length - 1));
  return sorted[Math.min(sorted.length - 1, Math.max(0, place))];
}

export function histogram(sorted, low, high) {
  const bins = new Float32Array(BINS);
  const width = Math.max(high - low, 1) / BINS;
  for (const value of sorted) {
    const bin = Math.floor((value - low) / width);
    if (bin >= 0 && bin < BINS) bins[bin] += 1;
  }
  return bins;
}

class Channel {
  constructor() {
    this.mode = "auto";
    this.percents = [0.1, 99.9];
    this.hand = null;
    this.same = true;
    this.found = null; // by percentile, {captured, refocused}
    this.samples = null;
    this.full = [0, 65535];
    this.lut = ""; // grey alone, and in an overlay the colour that is usual for its dye
    this.overlaid = true;
  }
}

export class Contrast {
  constructor() {
    this.channels = new Map();
  }

  of(name) {
    if (!this.channels.has(name)) this.channels.set(name, new Channel());
    return this.channels.get(name);
  }

  // Take note of a frame.
  look(name, frame) {
    const channel = this.of(name);
    const refocused = sample(frame.refocused);
    const captured = frame.captured ? sample(frame.captured) : null;
    channel.samples = { refocused, captured };
    const white = 2 ** frame.header.bit_depth - 1;
    if (white !== channel.full[1]) channel.found = null; // another camera: nothing to settle from
    channel.full = [0, white];
    this.settle(channel, SETTLE);
  }

  settle(channel, share) {
    const { refocused, captured } = channel.samples;
    const limits = (sorted) => channel.percents.map((percent) => percentile(sorted, percent));
    const own = { refocused: limits(refocused), captured: limits(captured ?? refocused) };
    if (channel.same) {
      const low = Math.min(own.refocused[0], own.captured[0]);
      const high = Math.max(own.refocused[1], own.captured[1]);
      own.refocused = own.captured = [low, high];
    }
    const before = channel.found ?? own;
    const towards = (from, to) => to.map((value, i) => from[i] + share * (value - from[i]));
    channel.found = {
      refocused: towards(before.refocused, own.refocused),
      captured: towards(before.captured, own.captured),
    };
  }

  // Values of black and white, [low, high], for one side ("captured" or "refocused").
  limits(name, side) {
    const channel = this.of(name);
    if (channel.mode === "full") return channel.full;
    if (channel.mode === "hand" && channel.hand) return channel.hand;
    return channel.found?.[side] ?? channel.full;
  }

  setMode(name, mode) {
    const channel = this.of(name);
    if (mode === "hand") channel.hand = this.limits(name, "refocused").map(Math.round);
    channel.mode = mode;
  }

  // The look-up table of a channel: the one that was chosen, or else a usual one.
  lut(name, overlay, lut = this.of(name).lut) {
    if (lut || !overlay) return lut || "grey";
    const taken = [];
    for (const [other, { samples, lut: chosen }] of this.channels) {
      if (other === name) break;
      if (samples) taken.push(chosen || usualLut(other, taken)); // those that have come
    }
    return usualLut(name, taken);
  }

  // Say why values of black and white cannot be, or "".
  fault(name, low, high) {
    const channel = this.of(name);
    const [bottom, top] = channel.mode === "auto" ? [0, 100] : channel.full;
    if (!Number.isFinite(low) || !Number.isFinite(high)) return "not a number";
    if (low >= high) return "from has to be below to";
    return low >= top || high <= bottom ? `outside of ${bottom} to ${top}` : "";
  }

  // Values that fault() has nothing to say of.
  setHand(name, low, high) {
    const channel = this.of(name);
    const [bottom, top] = channel.full;
    channel.hand = [Math.max(bottom, low), Math.min(high, top)];
    channel.mode = "hand";
  }

  setPercents(name, low, high) {
    const channel = this.of(name);
    channel.percents = [Math.max(0, low), Math.min(high, 100)];
    channel.mode = "auto";
    if (channel.samples) this.settle(channel, 1);
  }

  setSame(name, same) {
    const channel = this.of(name);
    channel.same = same;
    if (channel.samples) this.settle(channel, 1);
  }
}
