/* The worker of bench/browser.mjs: opens the models of /settings, lets them answer in turns, and posts the figures. */

import { open } from "/engine/engine.mjs";
import { describe, makeFeeds, measureInTurns, openOnnxRuntime } from "./web_models.mjs";

const settings = await (await fetch("/settings")).json();
const feeds = makeFeeds(settings);

async function openEngine({ build, threads }, file) {
  const session = await open(file, await fetch(`/engine/${build}`), { threads });
  if (session.threads !== threads) throw new Error(`${build}: has ${session.threads} threads, expected ${threads}`);
  return { answer: async () => session.run(feeds).scores.data, findMemory: () => session.memoryBytes };
}

async function openModel(model, index) {
  const file = await fetch(`/model/${index}`);
  if (model.build) return openEngine(model, file);
  const ort = await import("/ort/ort.wasm.min.mjs");
  ort.env.wasm.wasmPaths = "/ort/";
  return openOnnxRuntime(ort, new Uint8Array(await file.arrayBuffer()), { threads: 1, feeds });
}

const models = [];
for (const [index, model] of settings.models.entries()) {
  models.push({ name: model.name, ...(await openModel(model, index)) });
}
await measureInTurns(models, settings.runs, () => performance.now());
const { runs, tokens, objects } = settings;
self.postMessage({ browser: navigator.userAgent, runs, tokens, objects, records: describe(models) });
