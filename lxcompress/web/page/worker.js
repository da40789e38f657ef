/* Runs the engine in a worker, so that the page stays responsive: opens models, answers, and times answers. */

import { answerCalls } from "./calls.js";
import { chooseBuild, open } from "./engine.mjs";
import { fetchFile } from "./files.js";
import { roundToHalf } from "./pixels.js";
import { makeTimer } from "./timing.js";

const sessions = new Map();
let compiled = null;
let extractorSession = null;

answerCalls({
  openExtractor,
  extract,
  openModel,
  seeImage: ({ model, image }) => getSession(model).see(image),
  askQuestion: ({ model, ids }) => Array.from(getSession(model).ask(makeQuestion(ids)).scores.data),
  ...makeTimer(getSession),
});

/* Opens a model, unless it is open. Returns the seconds that this took, the engine's kernels, and the bytes of its memory. */
async function openModel({ model, engines, base }, report) {
  if (!sessions.has(model.name)) sessions.set(model.name, await openSession(model, engines, base, report));
  const { session, ...times } = sessions.get(model.name);
  return { ...times, kernels: chooseBuild().kernels, memoryBytes: session.memoryBytes };
}

/* Fetches the engine, if it was not yet, and a model. Returns the session, and the seconds that each step took. */
async function openSession(model, engines, base, report) {
  const startMs = performance.now();
  await compile(engines, base);
  const compiledMs = performance.now();
  const bytes = await fetchFile(model.file, base, (done, total) => report({ done, total }));
  const fetchedMs = performance.now();
  const session = await open(bytes, compiled);
  const loadedMs = performance.now();
  return {
    session,
    compileS: (compiledMs - startMs) / 1000,
    fetchS: (fetchedMs - compiledMs) / 1000,
    loadS: (loadedMs - fetchedMs) / 1000,
  };
}

/* Compiles the build of the engine that is best for this machine. */
async function compile(engines, base) {
  compiled ??= await WebAssembly.compile(await fetchFile(engines[chooseBuild().file], base));
}

async function openExtractor({ extractor, engines, base }, report) {
  await compile(engines, base);
  if (extractorSession) return;
  const bytes = await fetchFile(extractor.file, base, (done, total) => report({ done, total }));
  extractorSession = await open(bytes, compiled);
}

/* Returns the features of all regions of a photograph, one region after another. */
function extract({ extractor, picture }) {
  const feeds = {
    picture: { data: picture, dims: [1, 3, extractor.side ** 2] },
    planes: { data: [1, 1, 1], dims: [1, 3] },
  };
  return roundToHalf(extractorSession.run(feeds).scores.data);
}

function getSession(name) {
  return sessions.get(name).session;
}

function makeQuestion(ids) {
  const dims = [1, ids.length];
  return { input_ids: { data: ids, dims }, attention_mask: { data: ids.map(() => 1), dims } };
}
