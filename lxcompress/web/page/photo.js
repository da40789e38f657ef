/* Reads the photograph that the page asks about, from the camera or a file. It never leaves the device. */

import { flatten, resize, roundToHalf, toPicture } from "./pixels.js";
import { PageError } from "./files.js";
import { say } from "./words.js";

const MOST_PIXELS = 80_000_000;
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
      const { rgb, width, height } = await decode(file);
      picture = toPicture(resize(rgb, width, height, reading.side), reading);
      name = file.name;
      find("problem").textContent = "";
    } catch (error) {
      name = "";
      showProblem(error);
    }
    show();
  }

  async function decode(file) {
    const bitmap = await createImageBitmap(file, AS_STORED).catch(() => null);
    if (!bitmap || bitmap.width * bitmap.height > MOST_PIXELS) throw new PageError("noPhoto", file.name);
    const { width, height } = bitmap;
    const canvas = find("photo");
    const context = canvas.getContext("2d", { willReadFrequently: true });
    Object.assign(canvas, { width, height });
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    return { rgb: flatten(context.getImageData(0, 0, width, height).data), width, height };
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
    find("described").textContent = name ? say("photoOf", name) : say("choosePhoto");
  }

  for (const id of ["camera", "file"]) {
    find(id).addEventListener("change", ({ target }) => read(target.files[0]));
  }
  show();
  return { describe, show };
}
