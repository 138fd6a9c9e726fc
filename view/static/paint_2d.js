// Paints the same pictures where the browser has no WebGL 2: a table from pixel values to greys, and
// the nearest pixel for every one of the screen.

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

  show(side, pixels, width, height) {
    this.pictures[side] = { pixels, width, height };
  }

  // The same as GlPainter.paint.
  paint(panes, view) {
    this.context.fillStyle = "#000";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    for (const pane of panes) {
      const picture = this.pictures[pane.side];
      if (picture && pane.clip.width >= 1) this.paintPane(pane, picture, view);
    }
  }

  paintPane(pane, { pixels, width, height }, { center, zoom }) {
    const table = this.table(pane.side, pane.limits, pixels.BYTES_PER_ELEMENT);
    const left = Math.round(pane.clip.x);
    const wide = Math.round(pane.clip.x + pane.clip.width) - left;
    const tall = Math.round(pane.height);
    if (wide < 1 || tall < 1) return;
    const image = this.context.createImageData(wide, tall);
    const out = new Uint32Array(image.data.buffer).fill(BLACK);
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
        out[start + x] = table[pixels[base + columns[x]]];
      }
    }
    this.context.putImageData(image, left, Math.round(pane.y));
  }

  // Greys by pixel value, as 32-bit words; made anew only when the contrast moves.
  table(side, [low, high], bytes) {
    const known = this.tables[side];
    if (known && known.low === low && known.high === high && known.bytes === bytes) {
      return known.table;
    }
    const table = new Uint32Array(bytes === 1 ? 256 : 65536);
    const scale = 255 / Math.max(high - low, 1);
    for (let value = 0; value < table.length; value++) {
      const grey = Math.min(255, Math.max(0, Math.round((value - low) * scale)));
      table[value] = BLACK | (grey * 0x010101);
    }
    this.tables[side] = { low, high, bytes, table };
    return table;
  }
}
