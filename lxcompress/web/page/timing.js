/* Times the answers of models, in the worker that runs them. turns.js decides which model answers next. */

const WARMUP = 10;  // answers in each of two warm-ups; the second one is timed
const TICKS_A_SAMPLE = 20;  // a sample takes at least 20 ticks of the clock, so that its error is at most 5 %
const MOST_REPEATS = 1000;
const QUESTION_INPUTS = ["input_ids", "attention_mask"];

/* Returns the calls `warmUp` and `takeTurn`. `getSession` returns the open session of a model by its name, with
   `inputs`, [{ name, type, shape }], `run(feeds)` and `memoryBytes`; `prepare` makes of inputs what `run` takes. */
export function makeTimer(getSession, prepare = (feeds) => feeds) {
  const questions = new Map();  // name of a model -> number of tokens -> the inputs of a question

  /* Answers before the measurement. Returns the smallest step of the clock in seconds, and how many answers make one
     sample. The questions have `lengths` tokens, and are about an image of `objects` regions. */
  async function warmUp({ model, lengths, objects }) {
    const session = getSession(model);
    const drawn = [...new Set(lengths)].map((length) => [length, prepare(drawInputs(session.inputs, length, objects))]);
    questions.set(model, new Map(drawn));
    const [question] = questions.get(model).values();
    await timeAnswer(session, question, WARMUP);
    const tick = findTick();
    const answerS = (await timeAnswer(session, question, WARMUP)) || tick / WARMUP;
    return { tick, repeats: Math.min(MOST_REPEATS, Math.max(1, Math.ceil((TICKS_A_SAMPLE * tick) / answerS))) };
  }

  /* Returns the seconds of one answer to a question of each of `lengths`, and the bytes of the model's memory. */
  async function takeTurn({ model, lengths, repeats }) {
    const session = getSession(model);
    const samples = [];
    for (const length of lengths) samples.push(await timeAnswer(session, questions.get(model).get(length), repeats));
    return { samples, memoryBytes: session.memoryBytes };
  }

  return { warmUp, takeTurn };
}

/* Returns the mean seconds of an answer to one question, asked `repeats` times. */
async function timeAnswer(session, question, repeats) {
  const start = performance.now();
  for (let count = 0; count < repeats; count += 1) await session.run(question);
  return (performance.now() - start) / 1000 / repeats;
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

/* Returns random inputs of a question of `length` tokens about an image of `objects` regions: name -> { data, dims }. */
function drawInputs(inputs, length, objects) {
  const entries = inputs.map(({ name, type, shape }) => {
    const isQuestion = QUESTION_INPUTS.includes(name);
    const rows = isQuestion ? length : objects;
    const dims = shape.length === 2 ? [1, rows] : [1, rows, shape[2]];
    const size = dims.reduce((product, dim) => product * dim);
    const data = type === "int64" ? drawIds(name, size) : Float32Array.from({ length: size }, Math.random);
    return [name, { data, dims }];
  });
  return Object.fromEntries(entries);
}

/* Returns ids of tokens that every vocabulary has, or a mask that hides nothing. */
function drawIds(name, size) {
  return Array.from({ length: size }, () => (name === "input_ids" ? 1 + Math.floor(4 * Math.random()) : 1));
}
