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
  options: { runs: { type: "string", default: "30" }, tokens: { type: "string", default: "20" }, objects: { type: "string", default: "36" }, threads: { type: "string", default: "1" }, ort: { type: "string" }, clock: { type: "string", default: "wall" } },
});
const [runs, tokens, objects, threads] = [options.runs, options.tokens, options.objects, options.threads].map(Number);
const FEATURES = 2048, BOX = 4, WARMUP = 3, RESAMPLES = 2000;

/* Milliseconds: of a clock, or of this process on a processor, which other programs disturb less. */
const CLOCKS = { wall: () => performance.now(), cpu: () => process.cpuUsage().user / 1000 + process.cpuUsage().system / 1000 };
const now = CLOCKS[options.clock];

/* Numbers from 0 to 1, the same in each run of the script (a linear congruential generator). */
let state = 1;
const draw = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
const median = (values) => Float64Array.from(values).sort()[values.length >> 1];

const floats = (width) => ({ data: Float32Array.from({ length: objects * width }, draw), dims: [1, objects, width] });
const whole = (length, value) => ({ data: BigInt64Array.from({ length }, value), dims: [1, length] });
const feeds = {
  input_ids: whole(tokens, () => BigInt(1 + Math.floor(90 * draw()))),
  attention_mask: whole(tokens, () => 1n),
  visual_feats: floats(FEATURES),
  visual_pos: floats(BOX),
  visual_attention_mask: whole(objects, () => 1n),
};

async function openRival(path) {
  const ort = await import(pathToFileURL(options.ort));
  ort.env.wasm.numThreads = threads;
  const session = await ort.InferenceSession.create(readFileSync(path), { executionProviders: ["wasm"] });
  const type = (data) => (data instanceof Float32Array ? "float32" : "int64");
  const tensors = Object.entries(feeds).map(([name, { data, dims }]) => [name, new ort.Tensor(type(data), data, dims)]);
  const taken = Object.fromEntries(tensors.filter(([name]) => session.inputNames.includes(name)));
  return { answer: async () => Object.values(await session.run(taken))[0].data };
}

async function openEngine(name) {
  const [engine, model] = name.split(":");
  const session = await open(readFileSync(model), readFileSync(engine), { threads });
  return { answer: async () => session.run(feeds).scores.data, session };
}

const models = [];
for (const name of names) models.push({ name, ...(await (name.includes(":") ? openEngine(name) : openRival(name))), samples: [] });
for (let round = -WARMUP; round < runs; round += 1)
  for (const model of models) {
    const start = now();
    model.scores = await model.answer();
    if (round >= 0) model.samples.push(now() - start);
  }

const expected = (models[1] ?? models[0]).scores, largest = Math.max(...expected.map(Math.abs));
for (const { name, samples, scores, session } of models) {
  const ratios = Array.from({ length: RESAMPLES }, () => {
    const rounds = samples.map(() => Math.floor(draw() * runs));
    return median(rounds.map((round) => models[0].samples[round])) / median(rounds.map((round) => samples[round]));
  }).sort((a, b) => a - b);
  const [low, high] = [0.025, 0.975].map((share) => ratios[Math.floor(share * RESAMPLES)].toFixed(2));
  const times = (median(models[0].samples) / median(samples)).toFixed(2);
  const difference = Math.max(...scores.map((score, index) => Math.abs(score - expected[index]))) / largest;
  const memory = session ? `, memory ${(session.memoryBytes / 1e6).toFixed(0)} MB` : "";
  console.log(`${name}  median ${median(samples).toFixed(1)} ms, least ${Math.min(...samples).toFixed(1)} ms, ${times} [${low}, ${high}] times as fast, difference ${difference.toExponential(1)}${memory}`);
}
process.exit(0);
