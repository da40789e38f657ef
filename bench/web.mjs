/* Times full-size models in WebAssembly, in turns, in Node: the engine's builds beside onnxruntime-web.

     node bench/web.mjs [--runs 30] [--tokens 20] [--clock cpu] --ort node_modules/onnxruntime-web/dist/ort.wasm.min.mjs \
       model.onnx engine.wasm:dense.lxe engine-relaxed.wasm:dense.lxe

   Node 20 needs --experimental-wasm-relaxed-simd for the builds with relaxed SIMD. The first model is the baseline: for each
   other one, the script prints how many times as fast it is, and the 95 % interval over the rounds (bootstrap). It also
   prints the largest difference of its scores from those of the second model, relative to the largest score. */

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { open } from "../lxcompress/engine/web/engine.mjs";

const { values: options, positionals: names } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: "string", default: "30" },
    tokens: { type: "string", default: "20" },
    objects: { type: "string", default: "36" },
    threads: { type: "string", default: "1" },
    ort: { type: "string" },
    clock: { type: "string", default: "wall" },
  },
});
const [runs, tokens, objects, threads] = [options.runs, options.tokens, options.objects, options.threads].map(Number);
const FEATURES = 2048, BOX = 4, WARMUP = 3, RESAMPLES = 2000;

/* Each gives milliseconds: of a clock, or of processor time of this process, which other programs disturb less. */
const CLOCKS = {
  wall: () => performance.now(),
  cpu: () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  },
};
const now = CLOCKS[options.clock];

/* Returns numbers from 0 to 1, the same in each run of the script (a linear congruential generator). */
let state = 1;
function draw() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
}

function findMedian(values) {
  return Float64Array.from(values).sort()[values.length >> 1];
}

const drawFloats = (width) => ({ data: Float32Array.from({ length: objects * width }, draw), dims: [1, objects, width] });
const makeIntegers = (length, value) => ({ data: BigInt64Array.from({ length }, value), dims: [1, length] });
const feeds = {
  input_ids: makeIntegers(tokens, () => BigInt(1 + Math.floor(90 * draw()))),
  attention_mask: makeIntegers(tokens, () => 1n),
  visual_feats: drawFloats(FEATURES),
  visual_pos: drawFloats(BOX),
  visual_attention_mask: makeIntegers(objects, () => 1n),
};

async function openOnnxRuntime(path) {
  const ort = await import(pathToFileURL(options.ort));
  ort.env.wasm.numThreads = threads;
  const session = await ort.InferenceSession.create(readFileSync(path), { executionProviders: ["wasm"] });
  const findType = (data) => (data instanceof Float32Array ? "float32" : "int64");
  const inputs = {};
  for (const name of session.inputNames) {
    const { data, dims } = feeds[name];
    inputs[name] = new ort.Tensor(findType(data), data, dims);
  }
  const answer = async () => {
    const outputs = await session.run(inputs);
    return Object.values(outputs)[0].data;
  };
  return { answer };
}

async function openEngine(name) {
  const [engine, model] = name.split(":");
  const session = await open(readFileSync(model), readFileSync(engine), { threads });
  return { answer: async () => session.run(feeds).scores.data, session };
}

const models = [];
for (const name of names) {
  const opened = name.includes(":") ? await openEngine(name) : await openOnnxRuntime(name);
  models.push({ name, ...opened, samples: [] });
}
for (let round = -WARMUP; round < runs; round += 1) {
  for (const model of models) {
    const start = now();
    model.scores = await model.answer();
    if (round >= 0) model.samples.push(now() - start);
  }
}

/* Returns how many times as fast `samples` are as `baseline`, of the rounds `rounds`. */
function findSpeedup(samples, baseline, rounds) {
  return findMedian(rounds.map((round) => baseline[round])) / findMedian(rounds.map((round) => samples[round]));
}

/* Returns the 95 % interval of the speedup over the rounds (bootstrap). */
function findInterval(samples, baseline) {
  const speedups = Array.from({ length: RESAMPLES }, () =>
    findSpeedup(samples, baseline, samples.map(() => Math.floor(draw() * runs))));
  const sorted = Float64Array.from(speedups).sort();
  return [0.025, 0.975].map((share) => sorted[Math.floor(share * RESAMPLES)].toFixed(2));
}

const baseline = models[0].samples;
const expected = (models[1] ?? models[0]).scores;
const largest = Math.max(...expected.map(Math.abs));
for (const { name, samples, scores, session } of models) {
  const [low, high] = findInterval(samples, baseline);
  const speedup = (findMedian(baseline) / findMedian(samples)).toFixed(2);
  const difference = Math.max(...scores.map((score, index) => Math.abs(score - expected[index]))) / largest;
  const memory = session ? `, memory ${(session.memoryBytes / 1e6).toFixed(0)} MB` : "";
  const median = findMedian(samples).toFixed(1);
  const least = Math.min(...samples).toFixed(1);
  console.log(
    `${name}  median ${median} ms, least ${least} ms, ${speedup} [${low}, ${high}] times as fast, ` +
      `difference ${difference.toExponential(1)}${memory}`,
  );
}
process.exit(0);
