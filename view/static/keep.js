// Files of what is shown: a PNG, a short movie, and the TIFF that the server writes.

import { $ } from "./page.js";

const LONGEST_MS = 60_000;
const KINDS = ["video/webm", "video/mp4"]; // of movies, the first that the browser can write
const WORDS = ".label, #legend, #verdict, #stand, #scale-bar";

// Paint the stage, as it is, with the words over it.
function compose(stage, canvas) {
  const ratio = stage.canvas.width / stage.root.clientWidth;
  const [wide, tall] = [stage.canvas.width & ~1, stage.canvas.height & ~1]; // movies are even
  if (canvas.width !== wide || canvas.height !== tall) Object.assign(canvas, { width: wide, height: tall });
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.drawImage(stage.canvas, 0, 0);
  context.scale(ratio, ratio);
  const origin = stage.root.getBoundingClientRect();
  const place = (element) => {
    const { x, y, width, height } = element.getBoundingClientRect();
    return [x - origin.x, y - origin.y, width, height];
  };
  context.textBaseline = "middle";
  for (const box of stage.root.querySelectorAll(WORDS)) {
    if (box.hidden) continue;
    context.fillStyle = getComputedStyle(box).backgroundColor;
    context.fillRect(...place(box));
    for (const part of box.children.length ? box.children : [box]) {
      const style = getComputedStyle(part);
      const [x, y, width, height] = place(part);
      context.fillStyle = style.color;
      context.font = style.font;
      if (part.textContent) context.fillText(part.textContent, x + parseFloat(style.paddingLeft), y + height / 2);
      else context.fillRect(x, y, width, height); // the scale bar
    }
  }
}

function save(blob, name) {
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(blob);
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), LONGEST_MS);
}

function nameOf({ header: { run, frame, place } }, ending) {
  const name = `refocus_${run.slice(0, 8)}_frame${String(frame).padStart(6, "0")}_p${place.p}_${place.c}`;
  return `${name.replace(/\W+/g, "_").replace(/_$/, "")}.${ending}`;
}

export class Keeper {
  // paint() draws the stage at once; say(id, words) tells a person on a button.
  constructor(stage, paint, say) {
    this.stage = stage;
    this.paint = paint;
    this.say = say;
    this.recorder = null;
    this.canvas = document.createElement("canvas");
  }

  png() {
    if (!this.stage.frame) return;
    this.paint();
    const canvas = document.createElement("canvas");
    compose(this.stage, canvas);
    const name = nameOf(this.stage.frame, "png");
    canvas.toBlob((blob) => {
      save(blob, name);
      this.say("png", "Saved");
    });
  }

  // Begin a movie of what is shown, or end it.
  movie() {
    if (this.recorder) return this.recorder.stop();
    if (!this.stage.frame) return;
    const mimeType = KINDS.find((kind) => window.MediaRecorder?.isTypeSupported(kind));
    if (!mimeType) return this.say("movie", "Not here"); // the browser cannot
    compose(this.stage, this.canvas);
    const recorder = new MediaRecorder(this.canvas.captureStream(), { mimeType });
    const parts = [];
    const name = nameOf(this.stage.frame, mimeType.slice("video/".length));
    const timer = setTimeout(() => recorder.stop(), LONGEST_MS);
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.onstop = () => {
      clearTimeout(timer);
      this.recorder = null;
      save(new Blob(parts, { type: mimeType }), name);
      this.say("movie", "Saved");
    };
    recorder.start(1000);
    this.recorder = recorder;
    this.say("movie", "Stop", true);
    this.paint();
  }

  // The stage was painted.
  painted() {
    if (this.recorder) compose(this.stage, this.canvas);
  }

  // serials: of the frames that are shown.
  async tiff(serials) {
    try {
      const answer = await fetch(`snapshot.ome.tif?serials=${serials.join()}`);
      if (!answer.ok) throw new Error(await answer.text());
      const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition"));
      save(await answer.blob(), name ? name[1] : "refocus.ome.tif");
      this.say("snapshot", "Saved");
    } catch (error) {
      $("snapshot").title = String(error);
      this.say("snapshot", "Not saved");
    }
  }
}
