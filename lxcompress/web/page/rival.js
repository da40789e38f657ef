/* Runs one ONNX file in onnxruntime-web, in a worker of its own, so that it can be measured in turns with the engine. */

import { answerCalls } from "./calls.js";
import { PageError, fetchFile } from "./files.js";
import { makeTimer } from "./timing.js";

const memories = watchMemories();
let runtime = null;
let session = null;

answerCalls({ openModel, ...makeTimer(() => session, makeTensors) });

/* Opens `model`, { name, file }, in a runtime of page.json. Returns the seconds that this took, the bytes of memory, the threads,
   and the version of the runtime. The load time includes that of compiling the runtime's WebAssembly. */
async function openModel({ model, runtime: { provider, files }, threads, base }, report) {
  const startMs = performance.now();
  runtime = await startRuntime(files, threads, base);
  const startedMs = performance.now();
  const bytes = await fetchFile(model.file, base, (done, total) => report({ done, total }));
  const fetchedMs = performance.now();
  const opened = await runtime.InferenceSession.create(bytes, { executionProviders: [provider] });
  const loadedMs = performance.now();
  const inputs = opened.inputMetadata.map(({ name, type, shape }) => ({ name, type, shape }));
  session = {
    inputs,
    run: (feeds) => opened.run(feeds),
    get memoryBytes() {
      return memories.reduce((sum, memory) => sum + memory.buffer.byteLength, 0);
    },
  };
  return {
    compileS: (startedMs - startMs) / 1000,
    fetchS: (fetchedMs - startedMs) / 1000,
    loadS: (loadedMs - fetchedMs) / 1000,
    memoryBytes: session.memoryBytes,
    threads: runtime.env.wasm.numThreads,
    version: runtime.env.versions.web,
  };
}

/* Loads the runtime: its entry, the module that the entry loads, and its WebAssembly. */
async function startRuntime({ entry, module, wasm }, threads, base) {
  for (const file of [entry, module]) await fetchFile(file, base);  // compared with their SHA-256 before they are loaded
  const binary = await fetchFile(wasm, base);
  const loaded = await import(new URL(entry.path, base)).catch(() => {
    throw new PageError("missing", entry.path);
  });
  const { env } = loaded;
  env.wasm.numThreads = threads;
  env.wasm.wasmBinary = binary;
  env.wasm.wasmPaths = { mjs: new URL(module.path, base) };
  return loaded;
}

function makeTensors(feeds) {
  const entries = Object.entries(feeds).map(([name, { data, dims }]) => {
    const isFloat = data instanceof Float32Array;
    const values = isFloat ? data : BigInt64Array.from(data, BigInt);
    return [name, new runtime.Tensor(isFloat ? "float32" : "int64", values, dims)];
  });
  return Object.fromEntries(entries);
}

/* Returns a list that each memory joins that is made for WebAssembly from now on: the runtime does not tell its size. */
function watchMemories() {
  const found = [];
  WebAssembly.Memory = class extends WebAssembly.Memory {
    constructor(settings) {
      super(settings);
      found.push(this);
    }
  };
  return found;
}
