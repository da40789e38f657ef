/* The page's side of worker.js: a call is a promise. */

import { PageError } from "./files.js";

const NO_SIMD = /unsupported|invalid|unexpected|simd/i;

export function startEngine() {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  const waiting = new Map();
  let last = 0;
  worker.onmessage = ({ data }) => {
    const call = waiting.get(data.id);
    if (data.progress) { call.report(data.progress); return; }
    waiting.delete(data.id);
    if (data.error === undefined) call.resolve(data.result);
    else call.reject(explain(data));
  };
  worker.onerror = () => { for (const call of waiting.values()) call.reject(new PageError("noWorker")); waiting.clear(); };
  return (call, more = {}, report = () => {}) =>
    new Promise((resolve, reject) => {
      last += 1;
      waiting.set(last, { resolve, reject, report });
      worker.postMessage({ id: last, call, ...more });
    });
}

/* An error of the worker, with the key of its sentence. */
function explain({ error, key, detail }) {
  if (key) return new PageError(key, detail);
  if (error.includes("WebAssembly") && NO_SIMD.test(error)) return new PageError("oldBrowser");
  return new PageError("engine", error);
}
