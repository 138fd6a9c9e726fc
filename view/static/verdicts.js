// What a verdict looks like and means, in one place.

export const VERDICTS = {
  "in-focus": ["●", "in focus, left alone"],
  refocused: ["✓", "refocused"],
  beyond: ["▲", "too far from focus to restore"],
  unfamiliar: ["✕", "unlike anything trained on"],
  blank: ["□", "nothing to see but noise"],
  unrated: ["○", "not judged"],
};

const HUES = {
  "in-focus": "--good",
  refocused: "--refocused",
  beyond: "--accent",
  unfamiliar: "--bad",
  blank: "--dim",
  unrated: "--captured-line",
};

// Sign and meaning; a word that is not known is taken for unrated.
export function verdictInWords(verdict) {
  return VERDICTS[verdict] ?? VERDICTS.unrated;
}

// The name of its colour in style.css.
export function hueOf(verdict) {
  return HUES[verdict] ?? HUES.unrated;
}
