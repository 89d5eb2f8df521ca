// Draws faces over a video, exactly on its picture.

import { containedBox } from "./geometry.js";
import { CONTOURS, LEFT_IRIS, RIGHT_IRIS, TESSELATION } from "./topology.js";

const FIRST_IRIS = 468; // landmark; a mesh without irises ends before it

const MESH = "rgb(88 214 240 / 0.5)"; // shows on light skin and on dark
const CONTOUR = "rgb(214 248 255 / 0.95)";
const IRIS = "rgb(255 196 92)";
const SHADE = "rgb(0 22 32 / 0.42)"; // under the lines, so that they show on light skin too

export const MODES = ["contours", "points", "mesh", "off"];

export class Overlay {
  #canvas;
  #context;
  #video;
  #faces = [];

  mode = "contours";

  constructor(canvas, video) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.#video = video;
    const observer = new ResizeObserver(() => this.#place());
    try {
      observer.observe(video, { box: "device-pixel-content-box" }); // notices a change of the pixel ratio too
    } catch {
      observer.observe(video);
    }
    video.addEventListener("resize", () => this.#place());
  }

  /** Show these faces and no others. */
  draw(faces) {
    if (faces.length === 0 && this.#faces.length === 0) return;
    this.#faces = faces;
    this.redraw();
  }

  redraw() {
    const { width, height } = this.#canvas;
    this.#context.clearRect(0, 0, width, height);
    if (this.mode === "off") return;
    for (const { landmarks } of this.#faces) this.#drawFace(landmarks, width, height);
  }

  #place() {
    const { clientWidth, clientHeight, videoWidth, videoHeight } = this.#video;
    const element = { width: clientWidth, height: clientHeight };
    const [x, y] = getComputedStyle(this.#video).objectPosition.split(" ").map((part) => parseFloat(part) / 100);
    const box = containedBox(element, { width: videoWidth, height: videoHeight }, devicePixelRatio, { x, y });
    for (const side of ["left", "top", "width", "height"]) this.#canvas.style[side] = `${box[side]}px`;
    this.#canvas.width = Math.round(box.width * devicePixelRatio);
    this.#canvas.height = Math.round(box.height * devicePixelRatio);
    this.redraw();
  }

  #drawFace(landmarks, width, height) {
    const context = this.#context;
    const unit = lineUnit(landmarks, height);
    const stroke = (path, style, thickness) => {
      context.strokeStyle = style;
      context.lineWidth = thickness * unit;
      context.stroke(path);
    };
    context.lineCap = context.lineJoin = "round";
    if (this.mode === "points") {
      context.fillStyle = SHADE;
      context.fill(dots(landmarks, 0, Infinity, width, height, 1.9 * unit));
      context.fillStyle = CONTOUR;
      context.fill(dots(landmarks, 0, FIRST_IRIS, width, height, 1.15 * unit));
      context.fillStyle = IRIS;
      context.fill(dots(landmarks, FIRST_IRIS, Infinity, width, height, 1.5 * unit));
      return;
    }
    const contours = lines(landmarks, CONTOURS, width, height);
    const irises = new Path2D();
    for (const table of [LEFT_IRIS, RIGHT_IRIS]) addCircle(irises, landmarks, table, width, height);
    // One canvas pixel: renderers without a GPU draw hairlines ten times as fast as any other line.
    if (this.mode === "mesh") stroke(lines(landmarks, TESSELATION, width, height), MESH, 1 / unit);
    stroke(contours, SHADE, 3.4);
    stroke(irises, SHADE, 3.4);
    stroke(contours, CONTOUR, 1.5);
    stroke(irises, IRIS, 1.7);
  }
}

/** Line thickness in canvas pixels that suits the size of a face. */
function lineUnit(landmarks, height) {
  let top = Infinity;
  let bottom = -Infinity;
  for (let i = 1; i < landmarks.length; i += 3) {
    top = Math.min(top, landmarks[i]);
    bottom = Math.max(bottom, landmarks[i]);
  }
  const faceHeight = ((bottom - top) * height) / devicePixelRatio;
  return Math.min(Math.max(faceHeight / 280, 0.6), 1.6) * devicePixelRatio;
}

function lines(landmarks, table, width, height) {
  const path = new Path2D();
  const count = landmarks.length / 3;
  let last = -1;
  for (let i = 0; i < table.length; i += 2) {
    const from = table[i];
    const to = table[i + 1];
    if (from >= count || to >= count) continue; // a mesh without irises
    if (from !== last) path.moveTo(landmarks[3 * from] * width, landmarks[3 * from + 1] * height);
    path.lineTo(landmarks[3 * to] * width, landmarks[3 * to + 1] * height);
    last = to;
  }
  return path;
}

/** The circle through the points of an iris. */
function addCircle(path, landmarks, table, width, height) {
  const points = [...new Set(table)].map((i) => [landmarks[3 * i] * width, landmarks[3 * i + 1] * height]);
  const mean = (values) => values.reduce((sum, value) => sum + value) / values.length;
  const x = mean(points.map((point) => point[0]));
  const y = mean(points.map((point) => point[1]));
  const radius = mean(points.map((point) => Math.hypot(point[0] - x, point[1] - y)));
  path.moveTo(x + radius, y);
  path.arc(x, y, radius, 0, 2 * Math.PI); // nothing where landmarks are missing, and so are not numbers
}

function dots(landmarks, first, end, width, height, radius) {
  const path = new Path2D();
  const count = Math.min(landmarks.length / 3, end);
  for (let i = first; i < count; i++) {
    const x = landmarks[3 * i] * width;
    const y = landmarks[3 * i + 1] * height;
    path.moveTo(x + radius, y);
    path.arc(x, y, radius, 0, 2 * Math.PI);
  }
  return path;
}
