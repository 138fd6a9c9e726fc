// What a verdict looks like and means, in one place.

export const VERDICTS = {
  "in-focus": ["●", "in focus, left alone", "--good"],
  refocused: ["✓", "refocused", "--refocused"],
  beyond: ["▲", "too far from focus to restore", "--accent"],
  unfamiliar: ["✕", "unlike anything trained on", "--bad"],
  blank: ["□", "nothing to see but noise", "--dim"],
  unrated: ["○", "not judged", "--captured-line"],
};

// Sign and meaning; a word that is not known is taken for unrated.
export function verdictInWords(verdict) {
  return VERDICTS[verdict] ?? VERDICTS.unrated;
}

// The name of its colour in style.css.
export function hueOf(verdict) {
  return verdictInWords(verdict)[2];
}
