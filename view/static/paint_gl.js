// Paints 16-bit pictures with WebGL 2: contrast, zoom and smoothing are the graphics card's work.

import { lut } from "./luts.js";

const VERTEX = `#version 300 es
void main() {
  vec2 corner = vec2(gl_VertexID == 1 ? 3 : -1, gl_VertexID == 2 ? 3 : -1);
  gl_Position = vec4(corner, 0, 1);
}`;

// Several samples per screen pixel: the mean of what it covers when zoomed out, and clean edges of
// pixels when zoomed in. A pixel of the camera is never blended with its neighbour's beyond that.
const FRAGMENT = `#version 300 es
precision highp float;
precision highp usampler2D;
uniform usampler2D picture;
uniform sampler2D colors; // 256 in a row
uniform vec2 middle;   // of the pane, screen pixels from the bottom left
uniform vec2 center;   // the picture's pixel that is there
uniform float zoom;    // screen pixels per pixel
uniform vec2 limits;   // values of black and white
uniform int samples;
out vec4 color;
void main() {
  ivec2 size = textureSize(picture, 0);
  vec2 corner = (gl_FragCoord.xy - 0.5 - middle) * vec2(1, -1);
  float sum = 0.0;
  bool inside = false;
  for (int j = 0; j < samples; j++) {
    for (int i = 0; i < samples; i++) {
      vec2 part = (vec2(i, -j) + vec2(0.5, -0.5)) / float(samples);
      ivec2 at = ivec2(floor(center + (corner + part) / zoom));
      if (all(greaterThanEqual(at, ivec2(0))) && all(lessThan(at, size))) {
        inside = true;
        float value = float(texelFetch(picture, at, 0).r);
        sum += clamp((value - limits.x) / max(limits.y - limits.x, 1.0), 0.0, 1.0);
      }
    }
  }
  float grey = sum / float(samples * samples);
  color = inside ? texelFetch(colors, ivec2(int(grey * 255.0 + 0.5), 0), 0) : vec4(0, 0, 0, 1);
}`;

// Whether it is the processor that plays graphics card, as in a browser without a screen.
function isSoftware(gl) {
  const known = gl.getExtension("WEBGL_debug_renderer_info");
  const name = gl.getParameter(known ? known.UNMASKED_RENDERER_WEBGL : gl.RENDERER);
  return /swiftshader|llvmpipe|softpipe|software|basic render/i.test(name);
}

export class GlPainter {
  constructor(canvas, gl) {
    this.canvas = canvas;
    this.gl = gl;
    this.largest = gl.getParameter(gl.MAX_TEXTURE_SIZE);
    this.prepare();
  }

  // Give a painter, or null where the browser has no WebGL 2; or has it without a graphics card,
  // where a plain canvas is faster, unless at any price.
  static open(canvas, atAnyPrice = false) {
    const gl = canvas.getContext("webgl2", {
      alpha: false,
      antialias: false,
      depth: false,
      powerPreference: "high-performance",
    });
    return gl && (atAnyPrice || !isSoftware(gl)) ? new GlPainter(canvas, gl) : null;
  }

  prepare() {
    const gl = this.gl;
    const program = gl.createProgram();
    for (const [kind, source] of [
      [gl.VERTEX_SHADER, VERTEX],
      [gl.FRAGMENT_SHADER, FRAGMENT],
    ]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      throw new Error(gl.getProgramInfoLog(program));
    }
    gl.useProgram(program);
    gl.bindVertexArray(gl.createVertexArray());
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    this.at = Object.fromEntries(
      ["middle", "center", "zoom", "limits", "samples"].map((name) => [
        name,
        gl.getUniformLocation(program, name),
      ]),
    );
    gl.uniform1i(gl.getUniformLocation(program, "picture"), 0);
    gl.uniform1i(gl.getUniformLocation(program, "colors"), 1);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE); // the layers of an overlay add up
    this.textures = {};
    this.luts = {};
  }

  takes(width, height) {
    return Math.max(width, height) <= this.largest;
  }

  // Keep the pixels of one picture.
  show(key, pixels, width, height) {
    const gl = this.gl;
    const bytes = pixels.BYTES_PER_ELEMENT;
    const kind = bytes === 1 ? gl.UNSIGNED_BYTE : gl.UNSIGNED_SHORT;
    let known = this.textures[key];
    if (!known || known.width !== width || known.height !== height || known.bytes !== bytes) {
      if (known) gl.deleteTexture(known.texture);
      known = { texture: gl.createTexture(), width, height, bytes };
      this.textures[key] = known;
      gl.bindTexture(gl.TEXTURE_2D, known.texture);
      gl.texStorage2D(gl.TEXTURE_2D, 1, bytes === 1 ? gl.R8UI : gl.R16UI, width, height);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    }
    gl.bindTexture(gl.TEXTURE_2D, known.texture);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, width, height, gl.RED_INTEGER, kind, pixels);
  }

  // Paint panes {x, y, width, height, clip: {x, width}, layers: [{key, limits, lut}]}, in screen
  // pixels from the top left; view {center, zoom} in pixels of the picture, and screen pixels per pixel.
  paint(panes, view) {
    const gl = this.gl;
    const tall = this.canvas.height;
    gl.disable(gl.SCISSOR_TEST);
    gl.clearColor(0, 0, 0, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.enable(gl.SCISSOR_TEST);
    gl.viewport(0, 0, this.canvas.width, tall);
    const samples = view.zoom >= 4 ? 1 : Math.min(6, Math.max(2, Math.ceil(1 / view.zoom)));
    for (const pane of panes) {
      if (pane.clip.width < 1) continue;
      gl.scissor(pane.clip.x, tall - pane.y - pane.height, pane.clip.width, pane.height);
      gl.uniform2f(this.at.middle, pane.x + pane.width / 2, tall - pane.y - pane.height / 2);
      gl.uniform2f(this.at.center, ...view.center);
      gl.uniform1f(this.at.zoom, view.zoom);
      gl.uniform1i(this.at.samples, samples);
      for (const { key, limits, lut: name } of pane.layers) {
        const known = this.textures[key];
        if (!known) continue;
        this.bindLut(name);
        gl.bindTexture(gl.TEXTURE_2D, known.texture);
        gl.uniform2f(this.at.limits, ...limits);
        gl.drawArrays(gl.TRIANGLES, 0, 3);
      }
    }
  }

  // Have a look-up table at texture unit 1; unit 0 stays the active one.
  bindLut(name) {
    const gl = this.gl;
    gl.activeTexture(gl.TEXTURE1);
    if (this.luts[name]) gl.bindTexture(gl.TEXTURE_2D, this.luts[name]);
    else {
      this.luts[name] = gl.createTexture();
      gl.bindTexture(gl.TEXTURE_2D, this.luts[name]);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, lut(name));
    }
    gl.activeTexture(gl.TEXTURE0);
  }
}
