/* Times full-size models in WebAssembly, in turns, in Node: the engine's builds beside onnxruntime-web.

     node bench/web.mjs [--runs 30] [--tokens 20] [--clock cpu] --ort node_modules/onnxruntime-web/dist/ort.wasm.min.mjs \
       model.onnx engine.wasm:dense.lxe engine-relaxed.wasm:dense.lxe

   Node 20 needs --experimental-wasm-relaxed-simd for the builds with relaxed SIMD. The first model is the baseline: for each
   other one, the script prints how many times as fast it is, and the 95 % interval over the rounds (bootstrap). It also
   prints the largest difference of its scores from those of the second model, relative to the largest score.
   bench/browser.mjs does the same in Chromium. */

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { open } from "../lxcompress/engine/web/engine.mjs";
import { describe, makeFeeds, makeLine, measureInTurns, openOnnxRuntime } from "./web_models.mjs";

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
const feeds = makeFeeds({ tokens, objects });

/* Each gives milliseconds: of a clock, or of processor time of this process, which other programs disturb less. */
const CLOCKS = {
  wall: () => performance.now(),
  cpu: () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  },
};

async function openEngine(name) {
  const [engine, model] = name.split(":");
  const session = await open(readFileSync(model), readFileSync(engine), { threads });
  return { answer: async () => session.run(feeds).scores.data, findMemory: () => session.memoryBytes };
}

async function openModel(name) {
  if (name.includes(":")) return openEngine(name);
  return openOnnxRuntime(await import(pathToFileURL(options.ort)), readFileSync(name), { threads, feeds });
}

const models = [];
for (const name of names) models.push({ name, ...(await openModel(name)) });
await measureInTurns(models, runs, CLOCKS[options.clock]);
for (const record of describe(models)) console.log(makeLine(record));
process.exit(0);
