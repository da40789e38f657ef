/* Times full-size models in headless Chromium, in turns: the engine's builds beside onnxruntime-web, as bench/web.mjs in Node.

     node bench/browser.mjs [--runs 30] [--tokens 20] [--browser chromium] [--out FILE] --ort node_modules/onnxruntime-web/dist \
       model.onnx engine-dot.wasm:dense.lxe engine-dot-threads.wasm:dense.lxe:2

   A model of the engine is BUILD:FILE, or BUILD:FILE:THREADS. It serves a page with the headers of isolation, which opens the models
   in one worker (browser_worker.mjs), and sends its figures back. --out keeps them with all samples. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createReadStream, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { basename, dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { makeLine } from "./web_models.mjs";

const { values: options, positionals: names } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: "string", default: "30" },
    tokens: { type: "string", default: "20" },
    objects: { type: "string", default: "36" },
    ort: { type: "string" },
    browser: { type: "string", default: "chromium" },
    out: { type: "string" },
  },
});
const BENCH = fileURLToPath(new URL(".", import.meta.url));
const ENGINE = fileURLToPath(new URL("../lxcompress/engine/web/", import.meta.url));
const TYPES = { ".mjs": "text/javascript", ".wasm": "application/wasm", ".html": "text/html" };
const ISOLATED = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
const FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"];
const PAGE = `<!doctype html><script type="module">
  const send = (path, text) => fetch(path, { method: "POST", body: text });
  const worker = new Worker("/bench/browser_worker.mjs", { type: "module" });
  worker.onmessage = ({ data }) => send("/result", JSON.stringify(data));
  worker.onerror = ({ message }) => send("/failure", message ?? "the worker did not start");
</script>`;

/* What the page needs to know of a model, which is named by its folder and its build. */
const models = names.map((given) => {
  const [build, file, threads = "1"] = given.split(":");
  if (!file) return { name: basename(dirname(given)) };
  return { name: `${basename(dirname(file))} in ${build}, threads: ${threads}`, build, threads: Number(threads) };
});
const settings = { runs: Number(options.runs), tokens: Number(options.tokens), objects: Number(options.objects), models };

/* Returns the file of an address: /bench, /engine and /ort are folders, and /model/N is the file of a model. Browsers ask for
   other addresses too, which have no file. */
function findFile(address) {
  const [, part, name] = address.split("/");
  if (part === "model") return names[Number(name)].split(":")[1] ?? names[Number(name)];
  const folder = { bench: BENCH, engine: ENGINE, ort: options.ort }[part];
  return folder ? join(folder, name) : "";
}

function answer(request, response, finish) {
  const { pathname } = new URL(request.url, "http://localhost");
  if (request.method === "POST") {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => finish(pathname, Buffer.concat(chunks).toString()));
    response.end();
  } else if (pathname === "/" || pathname === "/settings") {
    response.writeHead(200, { ...ISOLATED, "Content-Type": pathname === "/" ? "text/html" : "application/json" });
    response.end(pathname === "/" ? PAGE : JSON.stringify(settings));
  } else {
    sendFile(findFile(pathname), response);
  }
}

function sendFile(file, response) {
  const found = statSync(file, { throwIfNoEntry: false });
  if (!found) {
    response.writeHead(404).end();
    return;
  }
  const type = TYPES[extname(file)] ?? "application/octet-stream";
  response.writeHead(200, { ...ISOLATED, "Content-Type": type, "Content-Length": found.size });
  createReadStream(file).pipe(response);
}

/* Opens the page in the browser, and returns [path, text]: what the page posted, or "/failure" and a reason. */
async function visitPage() {
  const profile = mkdtempSync(join(tmpdir(), "bench-browser-"));
  let finish;
  const finished = new Promise((resolve) => {
    finish = (...found) => resolve(found);
  });
  const server = createServer((request, response) => answer(request, response, finish)).listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${server.address().port}/`;
  const browser = spawn(options.browser, [...FLAGS, `--user-data-dir=${profile}`, url], { stdio: "ignore" });
  browser.on("exit", (code) => finish("/failure", `the browser ended with ${code}`));
  const found = await finished;
  if (browser.exitCode === null) {
    browser.kill();
    await once(browser, "exit");
  }
  rmSync(profile, { recursive: true, force: true, maxRetries: 20 });
  return found;
}

const [path, text] = await visitPage();
if (path === "/failure") {
  console.error(text);
  process.exit(1);
}
const found = JSON.parse(text);
for (const record of found.records) console.log(makeLine(record));
if (options.out) writeFileSync(options.out, `${JSON.stringify(found, null, 1)}\n`);
process.exit(0);
