/* What bench/web.mjs (Node) and bench/browser.mjs (Chromium) share: full-size questions, models that answer them in turns, and
   the comparison of their times. */

const FEATURES = 2048, BOX = 4, WARMUP = 3, RESAMPLES = 2000, INTERVAL = [0.025, 0.975];

/* Returns numbers from 0 to 1, the same in each run of the script (a linear congruential generator). */
let state = 1;
function draw() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
}

export function findMedian(values) {
  return Float64Array.from(values).sort()[values.length >> 1];
}

/* Returns the inputs of one question of full-size LXMERT. */
export function makeFeeds({ tokens, objects }) {
  const drawFloats = (width) => ({ data: Float32Array.from({ length: objects * width }, draw), dims: [1, objects, width] });
  const makeIntegers = (length, value) => ({ data: BigInt64Array.from({ length }, value), dims: [1, length] });
  return {
    input_ids: makeIntegers(tokens, () => BigInt(1 + Math.floor(90 * draw()))),
    attention_mask: makeIntegers(tokens, () => 1n),
    visual_feats: drawFloats(FEATURES),
    visual_pos: drawFloats(BOX),
    visual_attention_mask: makeIntegers(objects, () => 1n),
  };
}

/* Opens an ONNX file in onnxruntime-web; `ort` is its module. Returns { answer, findMemory }: the memory is what it has taken of
   WebAssembly so far. */
export async function openOnnxRuntime(ort, bytes, { threads, feeds }) {
  const { memories, end } = watchMemories();
  ort.env.wasm.numThreads = threads;
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
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
  await answer();
  end();
  return { answer, findMemory: () => Math.max(0, ...memories.map((memory) => memory.buffer.byteLength)) };
}

/* Returns { memories, end }: the memories that libraries create, or that their instances export, from now on until `end`. */
function watchMemories() {
  const memories = [];
  const { Memory, instantiate, instantiateStreaming } = WebAssembly;
  const watch = (instantiateAny) => async (...given) => {
    const made = await instantiateAny.apply(WebAssembly, given);
    const { exports } = made.instance ?? made;
    memories.push(...Object.values(exports).filter((value) => value instanceof Memory));
    return made;
  };
  WebAssembly.Memory = class extends Memory {
    constructor(settings) {
      super(settings);
      memories.push(this);
    }
  };
  WebAssembly.instantiate = watch(instantiate);
  if (instantiateStreaming) WebAssembly.instantiateStreaming = watch(instantiateStreaming);
  const end = () => Object.assign(WebAssembly, { Memory, instantiate, instantiateStreaming });
  return { memories, end };
}

/* Lets all models answer in turns. `models` are { name, answer, findMemory }; each gets its `samples` and last `scores`. */
export async function measureInTurns(models, runs, now) {
  for (const model of models) model.samples = [];
  for (let round = -WARMUP; round < runs; round += 1) {
    for (const model of models) {
      const start = now();
      model.scores = await model.answer();
      if (round >= 0) model.samples.push(now() - start);
    }
  }
}

/* Returns a record for each model. The first model is the baseline of speeds, the second that of scores. */
export function describe(models) {
  const baseline = models[0].samples;
  const expected = Array.from((models[1] ?? models[0]).scores);
  const largest = Math.max(...expected.map(Math.abs));
  return models.map(({ name, samples, scores, findMemory }) => ({
    name,
    median_ms: findMedian(samples),
    least_ms: Math.min(...samples),
    times_as_fast: findSpeedup(samples, baseline, samples.map((_, round) => round)),
    interval: findInterval(samples, baseline),
    score_difference: Math.max(...expected.map((score, index) => Math.abs(score - scores[index]))) / largest,
    memory_bytes: findMemory(),
    samples_ms: samples,
  }));
}

/* Returns how many times as fast `samples` are as `baseline`, of the rounds `rounds`. */
function findSpeedup(samples, baseline, rounds) {
  return findMedian(rounds.map((round) => baseline[round])) / findMedian(rounds.map((round) => samples[round]));
}

/* Returns the 95 % interval of the speedup over the rounds (bootstrap). */
function findInterval(samples, baseline) {
  const speedups = Array.from({ length: RESAMPLES }, () =>
    findSpeedup(samples, baseline, samples.map(() => Math.floor(draw() * samples.length))));
  const sorted = Float64Array.from(speedups).sort();
  return INTERVAL.map((share) => sorted[Math.floor(share * RESAMPLES)]);
}

/* Returns a line of text for a record of `describe`. */
export function makeLine(record) {
  const [low, high] = record.interval.map((value) => value.toFixed(2));
  return (
    `${record.name}  median ${record.median_ms.toFixed(1)} ms, least ${record.least_ms.toFixed(1)} ms, ` +
    `${record.times_as_fast.toFixed(2)} [${low}, ${high}] times as fast, ` +
    `difference ${record.score_difference.toExponential(1)}, memory ${(record.memory_bytes / 1e6).toFixed(0)} MB`
  );
}
