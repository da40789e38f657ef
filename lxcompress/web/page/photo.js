/* Reads the photograph that the page asks about, from the camera, a file or a drawn sample. It never leaves the device. */

import { flatten, resize, roundToHalf, toPicture } from "./pixels.js";
import { PageError } from "./files.js";
import { drawSample } from "./sample.js";
import { say } from "./words.js";

const MOST_PIXELS = 80_000_000;
const SAMPLE = Symbol("the drawn sample");  // a name that no file has
const AS_STORED = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };

const find = (id) => document.getElementById(id);

/* Lets the user choose a photograph, and calls `changed` for each. Returns { describe, show }; `describe` returns a promise
   of the inputs of a model that depend on the photograph, or of null without a photograph. */
export function startPhoto({ page, call, showProblem }, changed) {
  const { extractor } = page;
  const reading = extractor ?? page.pixels;
  let picture = null;
  let name = "";

  async function read(file) {
    if (!file) return;
    changed();
    picture = null;
    try {
      await drawFile(file);
      name = file.name;
      takePicture();
    } catch (error) {
      name = "";
      showProblem(error);
    }
    show();
  }

  function useSample() {
    changed();
    drawSample(find("photo"));
    name = SAMPLE;
    takePicture();
    show();
  }

  /* Draws a file on the canvas. Throws a PageError unless it is a photograph. */
  async function drawFile(file) {
    const bitmap = await createImageBitmap(file, AS_STORED).catch(() => null);
    if (!bitmap || bitmap.width * bitmap.height > MOST_PIXELS) throw new PageError("noPhoto", file.name);
    const canvas = find("photo");
    Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d", { willReadFrequently: true }).drawImage(bitmap, 0, 0);
    bitmap.close();
  }

  /* Makes what the extractor or the model reads from the pixels of the canvas. */
  function takePicture() {
    const { width, height } = find("photo");
    const context = find("photo").getContext("2d", { willReadFrequently: true });
    const rgb = flatten(context.getImageData(0, 0, width, height).data);
    picture = toPicture(resize(rgb, width, height, reading.side), reading);
    find("problem").textContent = "";
  }

  async function describe() {
    if (!picture) return null;
    const features = extractor ? await call("extract", { extractor, picture }) : roundToHalf(picture);
    const regions = reading.boxes.length / 4;
    return {
      visual_feats: { data: features, dims: [1, regions, reading.features] },
      visual_pos: { data: Float32Array.from(reading.boxes), dims: [1, regions, 4] },
      visual_attention_mask: { data: new Array(regions).fill(1), dims: [1, regions] },
    };
  }

  function show() {
    find("photo").hidden = !name;
    find("described").textContent = describeInWords();
  }

  function describeInWords() {
    if (!name) return say("choosePhoto");
    return name === SAMPLE ? say("sampleOf") : say("photoOf", name);
  }

  for (const id of ["camera", "file"]) {
    find(id).addEventListener("change", ({ target }) => read(target.files[0]));
  }
  find("sample").addEventListener("click", useSample);
  show();
  return { describe, show };
}
