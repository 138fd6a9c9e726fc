// Paints the same pictures where the browser has no WebGL 2: a table from pixel values to colours, and
// the nearest pixel for every one of the screen.

import { lut } from "./luts.js";

const BLACK = 0xff000000;

export class CanvasPainter {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.pictures = {};
    this.tables = {};
  }

  takes() {
    return true;
  }

  show(key, pixels, width, height) {
    this.pictures[key] = { pixels, width, height };
  }

  // The same as GlPainter.paint.
  paint(panes, view) {
    this.context.fillStyle = "#000";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    for (const pane of panes) {
      if (pane.clip.width >= 1) this.paintPane(pane, view);
    }
  }

  paintPane(pane, view) {
    const left = Math.round(pane.clip.x);
    const wide = Math.round(pane.clip.x + pane.clip.width) - left;
    const tall = Math.round(pane.height);
    if (wide < 1 || tall < 1) return;
    const image = this.context.createImageData(wide, tall);
    const out = new Uint32Array(image.data.buffer).fill(BLACK);
    pane.layers.forEach((layer, i) => {
      const picture = this.pictures[layer.key];
      if (picture) this.paintLayer(out, [left, wide, tall], pane, layer, picture, view, i > 0);
    });
    this.context.putImageData(image, left, Math.round(pane.y));
  }

  paintLayer(out, [left, wide, tall], pane, layer, picture, { center, zoom }, adds) {
    const { pixels, width, height } = picture;
    const table = this.table(layer, pixels.BYTES_PER_ELEMENT);
    const columns = new Int32Array(wide);
    for (let x = 0; x < wide; x++) {
      const offset = left + x + 0.5 - (pane.x + pane.width / 2);
      columns[x] = Math.floor(center[0] + offset / zoom);
    }
    const first = columns.findIndex((column) => column >= 0);
    let last = wide - 1;
    while (last >= 0 && columns[last] >= width) last--;
    for (let y = 0; y < tall; y++) {
      const row = Math.floor(center[1] + (y + 0.5 - pane.height / 2) / zoom);
      const start = y * wide;
      if (row < 0 || row >= height || first < 0) continue;
      for (let x = first, base = row * width; x <= last; x++) {
        const color = table[pixels[base + columns[x]]];
        out[start + x] = adds ? sum(out[start + x], color) : color;
      }
    }
  }

  // Colours by pixel value, as 32-bit words; made anew only when the contrast moves.
  table({ key, limits: [low, high], lut: name }, bytes) {
    const known = this.tables[key];
    const same = known?.low === low && known.high === high && known.bytes === bytes;
    if (same && known.name === name) return known.table;
    const colors = new Uint32Array(lut(name).buffer);
    const table = new Uint32Array(bytes === 1 ? 256 : 65536);
    const scale = 255 / Math.max(high - low, 1);
    for (let value = 0; value < table.length; value++) {
      const grey = Math.min(255, Math.max(0, Math.round((value - low) * scale)));
      table[value] = colors[grey];
    }
    this.tables[key] = { low, high, bytes, name, table };
    return table;
  }
}

// The sum of two colours, each of its parts at most 255.
function sum(a, b) {
  const part = (shift) => Math.min(255, ((a >> shift) & 255) + ((b >> shift) & 255)) << shift;
  return BLACK | part(0) | part(8) | part(16);
}
