/* Makes the pixels of a photograph what an extractor reads; the arithmetic is that of docs/photos.md, to the bit. */

const BITS = 22;  // weights are multiples of 2^-22, as in Pillow
const REACH = 2;  // pixels on each side that a cubic reads
const LARGEST_HALF = 65504;  // the largest number of 16 bits
const FRACTION_BITS = 10;  // of a number of 16 bits
const LEAST_EXPONENT = -14;  // of a number of 16 bits; smaller numbers have fewer bits

/* Returns the RGB of RGBA pixels: transparent parts are white. */
export function flatten(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    const alpha = rgba[from + 3] / 255;
    for (let channel = 0; channel < 3; channel += 1, to += 1) {
      rgb[to] = Math.round(rgba[from + channel] * alpha + 255 * (1 - alpha));
    }
  }
  return rgb;
}

/* Returns `side` x `side` pixels in RGB: the width is resized before the height. */
export function resize(rgb, width, height, side) {
  const rows = { lines: height, from: width, to: side, step: 3, lineStep: 3 * width, outStep: 3, outLineStep: 3 * side };
  const columns = { lines: side, from: height, to: side, step: 3 * side, lineStep: 3, outStep: 3 * side, outLineStep: 3 };
  return resizeLines(resizeLines(rgb, rows), columns);
}

/* Returns `lines` lines of `to` pixels, from lines of `from` pixels. The pixels of a line are `step` values apart, and the
   lines `lineStep`; the returned ones are `outStep` and `outLineStep` apart. */
function resizeLines(pixels, { lines, from, to, step, lineStep, outStep, outLineStep }) {
  if (from === to) return pixels;
  const resized = new Uint8Array(3 * lines * to);
  for (let target = 0; target < to; target += 1) {
    const { start, weights } = findWeights(target, from, to);
    for (let line = 0; line < lines; line += 1) {
      const read = line * lineStep + start * step;
      const write = line * outLineStep + target * outStep;
      for (let channel = 0; channel < 3; channel += 1) {
        let sum = 2 ** (BITS - 1);
        for (let index = 0; index < weights.length; index += 1) {
          sum += weights[index] * pixels[read + index * step + channel];
        }
        resized[write + channel] = Math.min(255, Math.max(0, Math.floor(sum / 2 ** BITS)));
      }
    }
  }
  return resized;
}

/* Returns the first pixel that counts for the pixel `target`, and the weights from there on, as whole numbers. */
function findWeights(target, from, to) {
  const scale = from / to;
  const spread = Math.max(scale, 1);
  const centre = (target + 0.5) * scale;
  const start = Math.max(0, Math.trunc(centre - REACH * spread + 0.5));
  const end = Math.min(from, Math.trunc(centre + REACH * spread + 0.5));
  const raw = Array.from({ length: end - start }, (_, index) => findCubic((start + index - centre + 0.5) / spread));
  const total = raw.reduce((sum, weight) => sum + weight, 0);
  const weights = raw.map((weight) => Math.sign(weight) * Math.floor(Math.abs(weight / total) * 2 ** BITS + 0.5));
  return { start, weights };
}

/* Returns the weight of a pixel at a distance: the cubic of Keys 1981 with a = -0.5. */
function findCubic(distance) {
  const x = Math.abs(distance);
  const a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/* Returns the input of an extractor: all red values, then green, then blue, each (pixel - mean) / deviation. */
export function toPicture(rgb, { mean, deviation }) {
  const count = rgb.length / 3;
  const picture = new Float32Array(rgb.length);
  for (let index = 0; index < count; index += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      picture[channel * count + index] = (rgb[3 * index + channel] - mean) / deviation;
    }
  }
  return picture;
}

/* Rounds each number to 16 bits, to an even number if it is halfway: the training read features like that. */
export function roundToHalf(values) {
  return Float32Array.from(values, (value) => {
    const size = Math.abs(value);
    const exponent = Math.max(LEAST_EXPONENT, Math.floor(Math.log2(size || 1)));
    const step = 2 ** (exponent - FRACTION_BITS);
    const steps = size / step;
    const below = Math.floor(steps);
    const rest = steps - below;
    const isRoundedUp = rest > 0.5 || (rest === 0.5 && below % 2 === 1);
    return Math.sign(value) * Math.min(LARGEST_HALF, (isRoundedUp ? below + 1 : below) * step);
  });
}
