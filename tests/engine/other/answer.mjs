/* answer.mjs LOADER ENGINE MODEL QUESTIONS ANSWERS TIMES: the same as answer.c, in Node, of engine.wasm. */

import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [loader, engine, model, questions, answers, times] = process.argv.slice(2);
const { open } = await import(pathToFileURL(loader));

/* The arrays of the inputs, in their order. */
function readFeeds(inputs, bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  const readNumber = () => Number(view.getBigInt64((at += 8) - 8, true));
  const batch = readNumber();
  return Object.fromEntries(
    inputs.map(({ name, type, shape }) => {
      const rows = readNumber(), width = readNumber();
      const dims = shape.length === 2 ? [batch, rows] : [batch, rows, width];
      const [kind, each] = type === "int64" ? [BigInt64Array, 8] : [Float32Array, 4];
      const size = batch * rows * width;
      const data = new kind(bytes.buffer.slice(bytes.byteOffset + at, bytes.byteOffset + at + size * each));
      at += size * each;
      return [name, { data, dims }];
    }),
  );
}

try {
  const session = await open(readFileSync(model), readFileSync(engine));
  const feeds = readFeeds(session.inputs, readFileSync(questions));
  let fastest = Infinity, scores;
  for (let turn = 0; turn < Number(times); turn++) {
    const start = performance.now();
    ({ scores } = session.run(feeds));
    fastest = Math.min(fastest, (performance.now() - start) / 1000);
  }
  writeFileSync(answers, new Uint8Array(scores.data.buffer));
  console.log(`base\n${fastest.toFixed(9)}`);
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
