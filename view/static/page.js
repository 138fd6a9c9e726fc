// What is on the page, by its id, and how its canvases are drawn on.

export const $ = (id) => document.getElementById(id);

const style = getComputedStyle(document.documentElement); // as it is now, whenever it is asked

// The value of one of the page's colours, such as "--accent".
export const color = (name) => style.getPropertyValue(name).trim();

// An empty canvas that is as large as it is shown; gives its context, in CSS pixels, and its size.
export function prepare(canvas, font = "10px") {
  const ratio = window.devicePixelRatio || 1;
  const [wide, tall] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = wide * ratio;
  canvas.height = tall * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.font = `${font} system-ui, sans-serif`;
  context.textBaseline = "middle";
  return { context, wide, tall };
}
