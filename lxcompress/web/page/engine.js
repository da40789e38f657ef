/* Calls worker.js, which runs the engine. */

import { PageError } from "./files.js";

const NO_SIMD = /unsupported|invalid|unexpected|simd/i;

/* Starts the worker. Returns a function that calls it: `call` is the name in CALLS of worker.js, `settings` are what the
   call gets, and `report` is called with its progress. The function returns a promise of the result. */
export function startEngine() {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
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
  return (call, settings = {}, report = () => {}) =>
    new Promise((resolve, reject) => {
      lastId += 1;
      waiting.set(lastId, { resolve, reject, report });
      worker.postMessage({ id: lastId, call, ...settings });
    });
}

/* Returns the PageError for an error of the worker. */
function explain({ error, key, detail }) {
  if (key) return new PageError(key, detail);
  if (error.includes("WebAssembly") && NO_SIMD.test(error)) return new PageError("oldBrowser");
  return new PageError("engine", error);
}
