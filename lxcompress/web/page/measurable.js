/* Lists what the page can measure: the engine's models, and their ONNX twins in each runtime that the page has for them. */

import { startWorker } from "./engine.js";

export const ENGINE = "engine-web";

/* Returns a list of { key, name, title, sha256, objects, runtime, isMeasured, open }. `open` takes the number of
   threads of a rival, and returns a promise of the times of opening, with `call`, which calls the worker that has the model, and `close`. */
export function listMeasurable({ page, call, openModel }, base) {
  const engine = page.models.map((model) => ({
    ...identify(model, ENGINE),
    title: model.title,
    open: async () => ({ ...(await openModel(model)), call, close: () => {} }),
  }));
  const runtimes = (page.rivals?.runtimes ?? []).filter(({ provider }) => provider !== "webgpu" || navigator.gpu);
  const rivals = runtimes.flatMap((runtime) => page.rivals.models.map((model) => makeRival(model, runtime, base)));
  return [...engine, ...rivals];
}

function makeRival(model, runtime, base) {
  const found = identify(model, runtime.name);
  return {
    ...found,
    name: `${model.name}, ${runtime.name}`,
    title: `${model.title}, ${runtime.name}`,
    isMeasured: model.isMeasured && runtime.provider === "wasm",
    open: (threads) => openRival(model, { runtime, threads }, base),
  };
}

function identify({ name, sha256, objects, isMeasured }, runtime) {
  return { key: makeKey(sha256, runtime), name, sha256, objects, runtime, isMeasured };
}

/* Returns what is the same in a measurement of the page and in what it measured. */
export function makeKey(sha256, runtime) {
  return `${sha256} ${runtime ?? ENGINE}`;
}

/* Opens an ONNX file in a worker of its own, with as many threads as the engine has. */
async function openRival(model, { runtime, threads }, base) {
  const { call, end } = startWorker("rival.js");
  try {
    return { ...(await call("openModel", { model, runtime, threads, base })), call, close: end };
  } catch (error) {
    end();
    throw error;
  }
}
