/* Starts the workers of the page, and calls them: worker.js, which runs the engine, and rival.js. */

import { PageError } from "./files.js";

const NO_SIMD = /unsupported|invalid|unexpected|simd/i;

/* Starts the worker `file`. Returns { call, end }. `call` takes the name of a call of the worker, the settings that the call
   gets, and `report`, which is called with its progress; it returns a promise of the result. `end` ends the worker. */
export function startWorker(file) {
  const worker = new Worker(new URL(`./${file}`, import.meta.url), { type: "module" });
  const waiting = new Map();
  let lastId = 0;
  worker.onmessage = ({ data }) => {
    const call = waiting.get(data.id);
    if (data.progress) {
      call.report(data.progress);
      return;
    }
    waiting.delete(data.id);
    if (data.error === undefined) call.resolve(data.result);
    else call.reject(explain(data));
  };
  worker.onerror = () => {
    for (const call of waiting.values()) call.reject(new PageError("noWorker"));
    waiting.clear();
  };
  const call = (name, settings = {}, report = () => {}) =>
    new Promise((resolve, reject) => {
      lastId += 1;
      waiting.set(lastId, { resolve, reject, report });
      worker.postMessage({ id: lastId, call: name, ...settings });
    });
  return { call, end: () => worker.terminate() };
}

/* Returns the PageError for an error of a worker. */
function explain({ error, key, detail }) {
  if (key) return new PageError(key, detail);
  if (error.includes("WebAssembly") && NO_SIMD.test(error)) return new PageError("oldBrowser");
  return new PageError("engine", error);
}
