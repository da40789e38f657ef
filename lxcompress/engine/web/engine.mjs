/* The engine in a browser or in Node: one model, answered in the page. engine.wasm comes of build.sh.

     import { open } from "./engine.mjs";
     const session = await open(await fetch("model.lxe"), await fetch("engine.wasm"));
     const { scores } = session.run({ input_ids: { data: ids, dims: [1, 9] }, ... });   // scores.data, scores.dims
     session.see({ visual_feats: { data: features, dims: [1, 36, 2048] }, ... });        // one image,
     const next = session.ask({ input_ids: { data: ids, dims: [1, 9] }, ... });          // and any number of questions about it

   A call keeps its page busy until it has answered: call it from a worker where that matters. */

const ALIGN = 64, ERROR_BYTES = 512, INPUT_BYTES = 32, FEED_BYTES = 24;  // of engine.h's lx_input and lx_feed, 32 bits a pointer
const TYPES = ["int64", "float32"];
const NO_SUCH_CALL = 52;  // the engine opens no files: what C's library asks of the system is never called

/* A session over a model. Both arguments are bytes (an ArrayBuffer or a view of one) or a Response; `engine` may also be
   a WebAssembly.Module, to open several models with. Throws an Error of one sentence for a file that is not sound. */
export async function open(model, engine) {
  const module = engine instanceof WebAssembly.Module ? engine : await WebAssembly.compile(await readBytes(engine));
  const system = Object.fromEntries(WebAssembly.Module.imports(module).map(({ name }) => [name, () => NO_SUCH_CALL]));
  const instance = await WebAssembly.instantiate(module, { wasi_snapshot_preview1: system });
  instance.exports._initialize();
  return new Session(instance.exports, await readBytes(model));
}

async function readBytes(source) {
  if (source instanceof Uint8Array) return source;
  if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (source.ok === false) throw new Error(`${source.url}: cannot be fetched (${source.status})`);
  return new Uint8Array(await source.arrayBuffer());
}

/* It has a memory of its own, which is free again once nothing refers to the session. */
class Session {
  #c;
  #error;
  #session;
  #answers;
  #seen = [];

  constructor(c, bytes) {
    this.#c = c;
    this.#error = this.#take(ERROR_BYTES);
    const model = this.#take(bytes.length);
    new Uint8Array(c.memory.buffer).set(bytes, model);
    const opened = c.lx_open_bytes(model, bytes.length, this.#error, ERROR_BYTES) || this.#fail();
    if (c.lx_verify(opened, this.#error, ERROR_BYTES)) this.#fail();
    this.#session = c.lx_session_open(opened, 1, 0, this.#error, ERROR_BYTES) || this.#fail();
    this.#answers = Number(c.lx_count_scores(opened));
    this.inputs = Array.from({ length: c.lx_count_inputs(opened) }, (_, place) => this.#readInput(opened, place));
  }

  /* The size of its memory: the model, and the largest work so far. */
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
