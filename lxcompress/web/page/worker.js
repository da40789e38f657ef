/* Runs the engine in a worker, so that the page stays responsive: opens models, answers, and measures in turns.

   A message is { id, call, ... }, where `call` is a name in CALLS. The reply is { id, result } or { id, error, key, detail };
   { id, progress } may come before it. */

import { chooseBuild, open } from "./engine.mjs";
import { fetchFile } from "./files.js";
import { roundToHalf } from "./pixels.js";

const WARMUP = 10;  // answers in each of two warm-ups; the second one is timed
const SAMPLES_A_TURN = 5;
const TICKS_A_SAMPLE = 20;  // a sample takes at least 20 ticks of the clock, so that its error is at most 5 %
const MOST_REPEATS = 1000;
const PAUSE_MS = 200;  // between two looks at whether the page is visible again

const sessions = new Map();
let compiled = null;
let extractorSession = null;
let isStopped = false;
let isPaused = false;

const CALLS = {
  openExtractor,
  extract,
  openModel,
  seeImage: ({ model, image }) => getSession(model).see(image),
  askQuestion: ({ model, ids }) => Array.from(getSession(model).ask(makeQuestion(ids)).scores.data),
  measure,
  stop: () => {
    isStopped = true;
  },
  pause: ({ isHidden }) => {
    isPaused = isHidden;
  },
};

self.onmessage = async ({ data }) => {
  const report = (progress) => self.postMessage({ id: data.id, progress });
  try {
    self.postMessage({ id: data.id, result: await CALLS[data.call](data, report) });
  } catch (error) {
    self.postMessage({ id: data.id, error: error.message, key: error.key, detail: error.detail });
  }
};

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

/* Measures models that are open: all answer the same questions, in turns whose order rotates.
   `lengths` has the number of tokens of each timed question, about an image of `objects` regions of `features`. */
async function measure({ models, lengths, objects, features }, report) {
  isStopped = false;
  const tick = findTick();
  const image = drawImage(objects, features);
  const questions = new Map();
  for (const length of lengths) {
    if (!questions.has(length)) questions.set(length, { ...makeQuestion(drawIds(length)), ...image });
  }
  const measured = models.map((name) => {
    const repeats = warmUp(getSession(name), questions.get(lengths[0]), tick);
    return { name, samples: [], rounds: [], repeats };
  });
  for (let start = 0; start < lengths.length && !isStopped; start += SAMPLES_A_TURN) {
    const turn = lengths.slice(start, start + SAMPLES_A_TURN);
    const first = (start / SAMPLES_A_TURN) % measured.length;
    for (const model of [...measured.slice(first), ...measured.slice(0, first)]) {
      const session = getSession(model.name);
      model.samples.push(...turn.map((length) => timeAnswer(session, questions.get(length), model.repeats)));
      model.rounds.push(turn.length);
    }
    report({ done: start + turn.length, total: lengths.length, tick, models: measured });
    await waitUntilVisible();
  }
  const results = measured.map((model) => ({ ...model, memoryBytes: getSession(model.name).memoryBytes }));
  return { tick, models: results, isStopped };
}

/* Lets messages of the page come in, and waits while the page is hidden and the measurement is not stopped. */
async function waitUntilVisible() {
  do {
    await new Promise((resume) => setTimeout(resume, isPaused ? PAUSE_MS : 0));
  } while (isPaused && !isStopped);
}

/* Returns the smallest step of the clock, in seconds: browsers make it coarse. */
function findTick() {
  let smallest = Infinity;
  for (let step = 0; step < 50; step += 1) {
    const start = performance.now();
    let now = start;
    while (now === start) now = performance.now();
    smallest = Math.min(smallest, now - start);
  }
  return smallest / 1000;
}

/* Answers before the measurement, and returns how many answers make one sample. */
function warmUp(session, question, tick) {
  timeAnswer(session, question, WARMUP);
  const answerS = timeAnswer(session, question, WARMUP) || tick / WARMUP;
  return Math.min(MOST_REPEATS, Math.max(1, Math.ceil((TICKS_A_SAMPLE * tick) / answerS)));
}

/* Returns the mean seconds of an answer to one question, asked `repeats` times. */
function timeAnswer(session, question, repeats) {
  const start = performance.now();
  for (let count = 0; count < repeats; count += 1) session.run(question);
  return (performance.now() - start) / 1000 / repeats;
}

/* Returns ids of tokens that every vocabulary has. */
function drawIds(length) {
  return Array.from({ length }, () => 1 + Math.floor(4 * Math.random()));
}

function drawImage(objects, features) {
  const draw = (width) => ({ data: Float32Array.from({ length: objects * width }, Math.random), dims: [1, objects, width] });
  return {
    visual_feats: draw(features),
    visual_pos: draw(4),
    visual_attention_mask: { data: new Array(objects).fill(1), dims: [1, objects] },
  };
}
