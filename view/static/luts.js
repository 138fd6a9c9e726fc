// Colour look-up tables: which colour each of 256 greys gets.

// Colours from black to white, evenly spaced, "RRGGBB".
const STOPS = {
  grey: ["000000", "ffffff"],
  blue: ["000000", "4060ff"], // pure blue is too dark to be seen
  cyan: ["000000", "00ffff"],
  green: ["000000", "00ff00"],
  yellow: ["000000", "ffff00"],
  red: ["000000", "ff2020"],
  magenta: ["000000", "ff00ff"],
  fire: ["000000", "3b0f70", "8c2981", "de4968", "fe9f6d", "fcfdbf"],
  inverted: ["ffffff", "000000"],
};

export const LUTS = Object.keys(STOPS);

const BY_DYE = [
  [/dapi|hoechst|bfp|405/i, "blue"],
  [/fitc|gfp|488|green|alexa\s*488/i, "green"],
  [/cy5|647|640|far.?red/i, "magenta"],
  [/tritc|rfp|mcherry|cy3|561|594|rhod|txred|texas|red/i, "red"],
  [/yfp/i, "yellow"],
  [/cfp/i, "cyan"],
  [/bright|phase|dic|trans/i, "grey"],
];
const OTHERS = ["green", "magenta", "cyan", "yellow", "red", "blue"];

// The colour that a channel has in an overlay, where nobody chose one; taken: those of the others.
export function usualLut(name, taken = []) {
  const known = BY_DYE.find(([dye]) => dye.test(name));
  return known ? known[1] : (OTHERS.find((one) => !taken.includes(one)) ?? "grey");
}

const made = new Map();

// 256 colours, RGBA.
export function lut(name) {
  if (!made.has(name)) {
    const stops = STOPS[name].map((text) =>
      [0, 2, 4].map((at) => Number.parseInt(text.slice(at, at + 2), 16)),
    );
    const colors = new Uint8Array(256 * 4).fill(255);
    for (let grey = 0; grey < 256; grey++) {
      const place = (grey / 255) * (stops.length - 1);
      const from = Math.min(stops.length - 2, Math.floor(place));
      stops[from].forEach((value, i) => {
        const to = stops[from + 1][i];
        colors[grey * 4 + i] = Math.round(value + (place - from) * (to - value));
      });
    }
    made.set(name, colors);
  }
  return made.get(name);
}

// Its brightest colour, for words on a dark ground.
export function inkOf(name) {
  if (name === "blue") return "#8c9cff"; // the picture's own is too dark to be read
  return name === "inverted" ? "#ffffff" : `#${STOPS[name].at(-1)}`;
}
