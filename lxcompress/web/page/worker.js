/* Runs the engine in a worker, so that the page stays responsive: opens models, answers, and times answers. */

import { answerCalls } from "./calls.js";
import { chooseBuild, open } from "./engine.mjs";
import { fetchFile } from "./files.js";
import { roundToHalf } from "./pixels.js";
import { makeTimer } from "./timing.js";

const MOST_THREADS = 4;

const sessions = new Map();
const modules = new Map();  // of each build of the engine that was compiled
let threads = null;  // of an answer; null until the first model is opened
let extractorSession = null;

answerCalls({
  openExtractor,
  extract,
  openModel,
  seeImage: ({ model, image }) => getSession(model).see(image),
  askQuestion: ({ model, ids }) => Array.from(getSession(model).ask(makeQuestion(ids)).scores.data),
  ...makeTimer(getSession),
});

/* Returns how many threads an answer may use: half of the cores, because those of phones differ in speed, or what the address
   says (?threads=2). Without isolation there is one. */
function countThreads(base) {
  if (!self.crossOriginIsolated) return 1;
  const wanted = Number(new URL(base).searchParams.get("threads")) || Math.floor((navigator.hardwareConcurrency ?? 1) / 2);
  return Math.min(MOST_THREADS, Math.max(1, Math.floor(wanted)));
}

/* Opens a model, unless it is open. Returns the seconds that this took, the engine's kernels, its threads, and the bytes of its
   memory. */
async function openModel({ model, engines, base }, report) {
  if (!sessions.has(model.name)) sessions.set(model.name, await openSession(model, engines, base, report));
  const { session, ...times } = sessions.get(model.name);
  return { ...times, kernels: chooseBuild().kernels, threads: session.threads, memoryBytes: session.memoryBytes };
}

/* Fetches the engine, if it was not yet, and a model. Returns the session, and the seconds that each step took. */
async function openSession(model, engines, base, report) {
  const startMs = performance.now();
  await compile(engines, base);
  const compiledMs = performance.now();
  const bytes = await fetchFile(model.file, base, (done, total) => report({ done, total }));
  const fetchedMs = performance.now();
  const session = await openBytes(bytes, engines, base);
  const loadedMs = performance.now();
  return {
    session,
    compileS: (compiledMs - startMs) / 1000,
    fetchS: (fetchedMs - compiledMs) / 1000,
    loadS: (loadedMs - fetchedMs) / 1000,
  };
}

/* Returns the build of the engine that is best for this machine, compiled. */
async function compile(engines, base) {
  threads ??= countThreads(base);
  const { file } = chooseBuild({ threads: threads > 1 });
  if (!modules.has(file)) modules.set(file, await WebAssembly.compile(await fetchFile(engines[file], base)));
  return modules.get(file);
}

/* Opens a file with threads. If the browser refuses their memory, or does not start them, the file gets one thread. */
async function openBytes(bytes, engines, base) {
  const module = await compile(engines, base);
  if (threads === 1) return open(bytes, module);
  const session = await open(bytes, module, { threads }).catch(() => null);
  if (session?.threads > 1) return session;
  session?.close();
  threads = 1;
  return open(bytes, await compile(engines, base));
}

async function openExtractor({ extractor, engines, base }, report) {
  if (extractorSession) return;
  const bytes = await fetchFile(extractor.file, base, (done, total) => report({ done, total }));
  extractorSession = await openBytes(bytes, engines, base);
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
