/* The engine in a browser or in Node: one model, answered in the page. build.sh makes its files.

     import { chooseBuild, open } from "./engine.mjs";
     const build = chooseBuild();                                                        // the best for this machine: build.file
     const session = await open(await fetch("model.lxe"), await fetch(build.file), { onProgress: (done, total) => ... });
     const { scores } = session.run({ input_ids: { data: ids, dims: [1, 9] }, ... });   // scores.data, scores.dims
     session.see({ visual_feats: { data: features, dims: [1, 36, 2048] }, ... });        // one image,
     const next = session.ask({ input_ids: { data: ids, dims: [1, 9] }, ... });          // and any number of questions about it
     session.close();                                                                    // ends its threads

   A call keeps its page busy until it has answered: call it from a worker where that matters. With threads, this file also
   starts as the script of each worker. */

const ALIGN = 64, ERROR_BYTES = 512, INPUT_BYTES = 32, FEED_BYTES = 24;  // of engine.h's lx_input and lx_feed, 32 bits a pointer
const TYPES = ["int64", "float32"];
const NO_SUCH_CALL = 52;  // the engine opens no files: what C's library asks of the system is never called
const HELPER = "lxcompress-helper", STACK_BYTES = 262144, START_MS = 5000;
const FIRST_PAGES = 16, MOST_PAGES = 65536;  // of build.sh

/* -- builds ------------------------------------------------------------------------------------------------------- */

/* The code of functions () -> int32 of one instruction. DOT is the sum of four products of bytes, 255 (or -1) by 127; SPLAT
   needs only SIMD. */
const DOT = [0x41, 0xff, 0x00, 0xfd, 0x0f, 0x41, 0x7f, 0xfd, 0x0f, 0x41, 0x00, 0xfd, 0x11, 0xfd, 0x93, 0x02, 0xfd, 0x1b, 0x00, 0x0b];
const SPLAT = [0x41, 0x00, 0xfd, 0x0f, 0xfd, 0x1b, 0x00, 0x0b];
const EXACT_SUMS = [4 * 255 * 127, 4 * -1 * 127];  // of machines that read the first byte as unsigned, and as signed

/* Returns the bytes of a WebAssembly module with one function `f`. */
function makeModule(code) {
  const start = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 5, 1, 0x60, 0, 1, 0x7f, 3, 2, 1, 0, 7, 5, 1, 1, 0x66, 0, 0];
  return Uint8Array.from([...start, 0x0a, code.length + 3, 1, code.length + 1, 0, ...code]);
}

/* Returns the kernels that this machine runs, best first: "dot", "pairs" or "base"; none in a browser without SIMD. */
function findKernels() {
  if (!WebAssembly.validate(makeModule(SPLAT))) return [];
  if (!WebAssembly.validate(makeModule(DOT))) return ["base"];
  const sum = new WebAssembly.Instance(new WebAssembly.Module(makeModule(DOT))).exports.f();
  return [EXACT_SUMS.includes(sum) ? "dot" : "pairs", "base"];
}

/* Returns whether threads can share memory and wait for each other. For this, a page needs the headers of isolation (COOP and
   COEP), and must call the engine from a worker. */
function hasThreads() {
  return typeof SharedArrayBuffer !== "undefined" && (isNode() || (globalThis.crossOriginIsolated && isWorker()));
}

function isWorker() {
  return typeof WorkerGlobalScope !== "undefined";
}

function isNode() {
  return Boolean(globalThis.process?.versions?.node);
}

/* Returns all builds that this machine runs, best first: { kernels, threads, file }, where threads is true or false. */
export function findBuilds() {
  const choices = hasThreads() ? [true, false] : [false];
  return findKernels().flatMap((kernels) => choices.map((threads) => ({ kernels, threads, file: nameBuild(kernels, threads) })));
}

function nameBuild(kernels, threads) {
  const kernelsWord = kernels === "base" ? "" : `-${kernels}`;
  const threadsWord = threads ? "-threads" : "";
  return `engine${kernelsWord}${threadsWord}.wasm`;
}

/* Returns the best build with threads, or without them. Throws an Error of one sentence if there is none. */
export function chooseBuild({ threads = false } = {}) {
  const builds = findBuilds();
  const chosen = builds.find((build) => build.threads === threads) ?? builds[0];
  if (!chosen) throw new Error("this browser has no SIMD in WebAssembly: use a newer one");
  return chosen;
}

/* -- opening ------------------------------------------------------------------------------------------------------ */

/* Opens a session over a model. `model` and `engine` are bytes (an ArrayBuffer or a view of one) or a Response; `engine` may also
   be a WebAssembly.Module, to open several models with. A model that comes as a Response is written into the engine's memory as it
   arrives, and onProgress(bytes, all bytes) is called. Only a build with threads uses `threads`; where they do not start, the
   session has one (session.threads). Throws an Error of one sentence for a damaged file. */
export async function open(model, engine, { threads = 1, onProgress = () => {} } = {}) {
  const module = engine instanceof WebAssembly.Module ? engine : await WebAssembly.compile(await readBytes(engine));
  const imported = WebAssembly.Module.imports(module).find(({ kind }) => kind === "memory");
  const memory = imported && new WebAssembly.Memory({ initial: FIRST_PAGES, maximum: MOST_PAGES, shared: true });
  const { exports } = await instantiate(module, memory);
  exports._initialize();
  const session = new Session(exports);
  try {
    const wanted = memory && hasThreads() ? await session.startHelpers(module, memory, threads - 1) : 0;
    session.openModel(await session.writeModel(model, onProgress), wanted + 1);
  } catch (error) {
    session.close();
    throw error;
  }
  return session;
}

async function instantiate(module, memory) {
  const system = {};
  for (const { module: from, name } of WebAssembly.Module.imports(module)) {
    if (from !== "env") system[name] = () => NO_SUCH_CALL;
  }
  return WebAssembly.instantiate(module, { wasi_snapshot_preview1: system, env: { memory } });
}

async function readBytes(source) {
  if (source instanceof Uint8Array) return source;
  if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (source.ok === false) throw new Error(`${source.url}: cannot be fetched (${source.status})`);
  return new Uint8Array(await source.arrayBuffer());
}

/* Starts a worker that runs this file as a helper. */
async function startWorker(message, onError) {
  if (isNode()) {
    const { Worker: NodeWorker } = await import("node:worker_threads");
    const worker = new NodeWorker(new URL(import.meta.url), { name: HELPER, workerData: { [HELPER]: message } });
    worker.on("error", onError);
    worker.unref();
    return worker;
  }
  const worker = new Worker(import.meta.url, { type: "module", name: HELPER });
  worker.onerror = onError;
  worker.postMessage(message);
  return worker;
}

/* Computes in the memory of a session, with a stack of its own, until the worker is ended. */
async function help({ module, memory, number, stack }) {
  const { exports } = await instantiate(module, memory);
  exports.__stack_pointer.value = stack;
  exports.lx_help(number);
}

if (isNode()) {
  const { workerData } = await import("node:worker_threads");
  if (workerData?.[HELPER]) await help(workerData[HELPER]);
} else if (isWorker() && globalThis.name === HELPER) {
  globalThis.onmessage = ({ data }) => help(data);
}

/* -- a session ---------------------------------------------------------------------------------------------------- */

/* A session has a memory of its own, which is free again once the session is closed and nothing refers to it. */
class Session {
  #c;
  #error;
  #session;
  #answers;
  #seen = [];
  #helpers = [];

  constructor(c) {
    this.#c = c;
    this.#error = this.#take(ERROR_BYTES);
  }

  /* Starts workers, and returns how many: all, or none if one does not start. */
  async startHelpers(module, memory, count) {
    let hasFailed = false;
    const noteFailure = (event) => {
      event.preventDefault?.();  // or a browser would report the error to the page that started this worker
      hasFailed = true;
    };
    for (let number = 0; number < count; number += 1) {
      const stack = this.#take(STACK_BYTES) + STACK_BYTES;
      this.#helpers.push(await startWorker({ module, memory, number, stack }, noteFailure));
    }
    const end = performance.now() + START_MS;
    while (this.#c.lx_count_idle() < count && !hasFailed && performance.now() < end) {
      await new Promise((resume) => setTimeout(resume, 1));
    }
    if (this.#c.lx_count_idle() === count) return count;
    this.close();
    return 0;
  }

  /* Ends the workers of the session. After that, a session that had workers cannot answer. */
  close() {
    for (const worker of this.#helpers.splice(0)) worker.terminate();
  }

  /* Writes a model into memory, and returns { address, length }. */
  async writeModel(model, onProgress) {
    const total = Number(model.headers?.get("content-length") ?? 0);
    if (!model.ok || !model.body || !total || model.headers.get("content-encoding")) {
      const bytes = await readBytes(model);
      const address = this.#take(bytes.length);
      new Uint8Array(this.#c.memory.buffer).set(bytes, address);
      onProgress(bytes.length, bytes.length);
      return { address, length: bytes.length };
    }
    const address = this.#take(total);
    const reader = model.body.getReader();
    let length = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return { address, length };
      if (length + value.length > total) throw new Error(`${model.url}: is longer than the ${total} bytes that its server announced`);
      new Uint8Array(this.#c.memory.buffer).set(value, address + length);
      length += value.length;
      onProgress(length, total);
    }
  }

  openModel({ address, length }, threads) {
    const c = this.#c;
    const opened = c.lx_open_bytes(address, length, this.#error, ERROR_BYTES) || this.#fail();
    if (c.lx_verify(opened, this.#error, ERROR_BYTES)) this.#fail();
    this.#session = c.lx_session_open(opened, threads, 0, this.#error, ERROR_BYTES) || this.#fail();
    this.#answers = Number(c.lx_count_scores(opened));
    this.threads = threads;
    this.inputs = Array.from({ length: c.lx_count_inputs(opened) }, (_, place) => this.#readInput(opened, place));
  }

  /* The bytes of its memory: the model, and the most that an answer needed so far. */
  get memoryBytes() {
    return this.#c.memory.buffer.byteLength;
  }

  /* { scores: { type, dims: [B, A], data: Float32Array } } of `feeds`, { dims, data } for each of `inputs` by its name.
     Whole numbers may come as a BigInt64Array or as any array of numbers. */
  run(feeds) {
    return this.#answer(feeds, this.inputs);
  }

  /* Computes what depends on one image alone, and keeps it for `ask`, until the next call. `feeds` has the inputs of the
     image, each with its mask. If it throws an Error, nothing is kept. */
  see(feeds) {
    const c = this.#c, taken = [];
    this.#seen = [];
    try {
      const inputs = this.inputs.filter(({ name }) => feeds[name]);
      if (inputs.length === this.inputs.length) throw new Error("all inputs are given to see: give those of the image alone");
      const images = inputs.length ? this.#checkFeeds(feeds, inputs) : 1;
      if (images !== 1) throw new Error(`one image is seen at a time, but was given ${images}`);
      if (c.lx_see(this.#session, this.#writeFeeds(feeds, inputs, taken), this.#error, ERROR_BYTES)) this.#fail();
      this.#seen = inputs;
    } finally {
      taken.forEach((each) => c.free(each));
    }
  }

  /* What `run` gives, of questions about the image that was seen: `feeds` has the other inputs. */
  ask(feeds) {
    if (!this.#seen.length) throw new Error("asked before an image was seen: call see first, or run");
    return this.#answer(feeds, this.inputs.filter((input) => !this.#seen.includes(input)));
  }

  #answer(feeds, inputs) {
    const c = this.#c, taken = [];
    try {
      const batch = this.#checkFeeds(feeds, inputs);
      const table = this.#writeFeeds(feeds, inputs, taken);
      const scores = this.#take(4 * batch * this.#answers, taken);
      if (c.lx_run(this.#session, table, BigInt(batch), scores, this.#error, ERROR_BYTES)) this.#fail();
      const data = new Float32Array(c.memory.buffer, scores, batch * this.#answers).slice();
      return { scores: { type: "float32", dims: [batch, this.#answers], data } };
    } finally {
      taken.forEach((each) => c.free(each));
    }
  }

  /* The address of the feeds of all inputs; those of others than `inputs` have no data. */
  #writeFeeds(feeds, inputs, taken) {
    const c = this.#c, bytes = FEED_BYTES * this.inputs.length, table = this.#take(bytes, taken);
    new Uint8Array(c.memory.buffer, table, bytes).fill(0);
    this.inputs.forEach((input, place) => {
      if (!inputs.includes(input)) return;
      const { dims, data } = feeds[input.name];
      const size = dims.reduce((a, b) => a * b, 1);
      const at = this.#take(size * (input.type === "int64" ? 8 : 4), taken);
      if (input.type === "int64") new BigInt64Array(c.memory.buffer, at, size).set(Array.from(data, BigInt));
      else new Float32Array(c.memory.buffer, at, size).set(data);
      const feed = new DataView(c.memory.buffer, table + FEED_BYTES * place, FEED_BYTES);
      feed.setUint32(0, at, true);
      feed.setBigInt64(8, BigInt(dims[1]), true);
      feed.setBigInt64(16, BigInt(dims[2] ?? 1), true);
    });
    return table;
  }

  /* How many questions there are; sizes and ids are the engine's to check. */
  #checkFeeds(feeds, inputs) {
    const batches = inputs.map(({ name, shape }) => {
      const feed = feeds[name];
      if (!feed) throw new Error(`${name} is missing`);
      const size = feed.dims.reduce((a, b) => a * b, 1);
      if (feed.dims.length !== shape.length || feed.data.length !== size)
        throw new Error(`${name} is ${shape.join(" x ")}, but was given ${feed.data.length} values as ${feed.dims.join(" x ")}`);
      return feed.dims[0];
    });
    if (batches.some((batch) => batch !== batches[0])) throw new Error(`inputs have ${batches.join(", ")} questions, expected as many of each`);
    return batches[0];
  }

  #readInput(model, place) {
    const at = this.#take(INPUT_BYTES);
    this.#c.lx_get_input(at, model, place);
    const input = new DataView(this.#c.memory.buffer, at, INPUT_BYTES);
    const [name, type, rank] = [0, 4, 8].map((offset) => input.getUint32(offset, true));
    const [width, mostRows] = [16, 24].map((offset) => Number(input.getBigInt64(offset, true)));
    this.#c.free(at);
    const shape = rank === 2 ? ["batch", "rows"] : ["batch", "rows", width];
    return { name: this.#readText(name), type: TYPES[type], shape, mostRows };
  }

  /* Memory of the engine's, at a multiple of 64. As it may grow, views of it are made anew. */
  #take(bytes, taken = []) {
    const at = this.#c.aligned_alloc(ALIGN, Math.ceil(Math.max(bytes, 1) / ALIGN) * ALIGN) >>> 0;  // JavaScript takes what is above 2 GB to be negative
    if (!at) throw new Error(`there is no memory for ${bytes} bytes`);
    taken.push(at);
    return at;
  }

  #readText(at) {
    const bytes = new Uint8Array(this.#c.memory.buffer, at);
    return new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0)));
  }

  #fail() {
    throw new Error(this.#readText(this.#error));
  }
}
