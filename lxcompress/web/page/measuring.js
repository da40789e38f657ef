/* Measures files, which answer in turns. The raw samples are kept after each round; they are shown, sent and saved. */

import { ENGINE, listMeasurable, makeKey } from "./measurable.js";
import { compare, findDrift, findPercentile } from "./stats.js";
import { makeTurns } from "./turns.js";
import { say, sayShare } from "./words.js";

const KEPT = "measurement";
const LARGE_DRIFT = 0.1;
const MEMORY_MS = 3000;
const BROWSER = /(Firefox|Edg|OPR|Chrome|Version)\/(\d+)/;
const BROWSER_NAMES = { Version: "Safari", Edg: "Edge", OPR: "Opera" };
const SYSTEM = /Android [\d.]+; ([^;)]+)|iPhone|iPad|Android|Windows|Mac OS X|Linux/;
const KERNELS = { base: "SIMD", pairs: "relaxed SIMD, pairs", dot: "relaxed SIMD, dot products" };

const find = (id) => document.getElementById(id);

/* Connects the section of measurements. Returns { showWords }, which writes its texts again in the language of the page. */
export function startMeasuring(app) {
  const { page, showProblem } = app;
  const measurable = listMeasurable(app, document.baseURI);
  const names = new Map(measurable.map(({ key, name }) => [key, name]));
  const turns = makeTurns();
  let record = null;
  let state = null;
  let leftOut = [];

  measurable.forEach(({ title, isMeasured }, index) => {
    const choice = document.createElement("label");
    const box = document.createElement("input");
    Object.assign(box, { type: "checkbox", value: index, checked: isMeasured });
    choice.className = "choice";
    choice.append(box, ` ${title}`);
    find("candidates").append(choice);
  });
  find("device").value = guessDevice();

  async function measure() {
    const boxes = find("candidates").querySelectorAll("input:checked");
    const chosen = Array.from(boxes, (box) => measurable[box.value]);
    if (!chosen.length) {
      setState("noneChosen");
      return;
    }
    setRunning(true);
    let watch = null;
    const opened = [];
    try {
      watch = await watchDevice();
      await openAll(chosen, opened);
      if (!opened.length) return;
      record = makeRecord(page, find("device").value, watch, opened);
      const result = await turns.run(opened, page.bench.lengths, (progress) => {
        find("measuring").value = progress.done / progress.total;
        setState("round", sayShare(progress.done / progress.total));
        fill(record, progress, opened);
        keep(record);
      });
      fill(record, result, opened);
      record.conditions.page_memory_bytes = await measurePage();
      record.conditions.pressure = watch.pressure;
      record.conditions.hidden = watch.hidden;
      keep(record);
      setState(result.isStopped ? "stopped" : "done");
      show();
    } catch (error) {
      setState(null);
      showProblem(error);
    } finally {
      for (const { close } of opened) close();
      watch?.end();
      setRunning(false);
    }
  }

  /* Opens and warms up all that was chosen, and adds it to `opened`. A runtime that does not work here is left out. */
  async function openAll(chosen, opened) {
    leftOut = [];
    for (const model of chosen) {
      setState("loading", model.name);
      try {
        opened.push({ ...model, ...(await model.open(opened[0]?.threads ?? 1)) });
        setState("warmingUp", model.name);
        Object.assign(opened.at(-1), await turns.warmUp(opened.at(-1), page.bench.lengths));
      } catch (error) {
        if (model.runtime === ENGINE) throw error;
        if (opened.at(-1)?.key === model.key) opened.pop().close();
        leftOut.push(`${model.name}: ${describeReason(error)}`);
      }
    }
    if (!opened.length) setState("leftOut", leftOut[0]);
  }

  function setRunning(isRunning) {
    find("start").disabled = isRunning;
    find("stop").hidden = !isRunning;
    find("measuring").hidden = !isRunning;
    if (isRunning) find("stop").focus();
    else if (document.activeElement === document.body) find("start").focus();
  }

  function setState(key, detail) {
    state = key && [key, detail];
    find("measure-state").textContent = key ? say(key, detail) : "";
  }

  function show() {
    const [baseline] = record.models;
    find("rows").replaceChildren(...record.models.map((model) => makeRow(findName(model), model, baseline)));
    const warnings = [...findWarnings(record, findName), ...leftOut.map((reason) => say("leftOut", reason))];
    find("warnings").replaceChildren(...warnings.map(makeItem));
    find("result").hidden = false;
    find("result").setAttribute("aria-label", say("measure"));
    find("finish").hidden = false;
  }

  function findName({ sha256, runtime }) {
    return names.get(makeKey(sha256, runtime));
  }

  async function send() {
    record.device = find("device").value || guessDevice();
    const request = {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(record),
    };
    const response = await fetch("measurements", request).catch(() => null);
    if (response?.ok) {
      setState("sent");
      forget();
    } else {
      const reason = await response?.text();
      setState("notSent", reason || response?.status || "offline");
    }
  }

  function save() {
    record.device = find("device").value || guessDevice();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(record)], { type: "application/json" }));
    link.download = `${record.device.replace(/[^A-Za-z0-9]+/g, "-")}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  function restore() {
    const kept = readKept();
    if (!kept?.models?.length || !kept.models.every(findName)) return;
    record = kept;
    setState("restored");
    show();
  }

  find("start").addEventListener("click", measure);
  find("stop").addEventListener("click", turns.stop);
  find("send").addEventListener("click", send);
  find("save").addEventListener("click", save);
  restore();
  return {
    showWords: () => {
      if (state) setState(...state);
      if (record?.models.length) show();
    },
  };
}

/* Returns a row of the table: the name, the median in milliseconds, the ratio to the baseline, two more percentiles, and the
   memory in MB. The ratio comes early, so that a narrow screen shows it. */
function makeRow(name, model, baseline) {
  const [p50, p90, p99] = [0.5, 0.9, 0.99].map((share) => (1000 * findPercentile(model.samples, share)).toPrecision(3));
  const ratio = model === baseline ? "1" : sayRatio(compare(model, baseline));
  const memory = (model.memory_bytes / 1e6).toFixed(1);
  const row = document.createElement("tr");
  row.append(Object.assign(document.createElement("th"), { scope: "row", textContent: name }));
  for (const text of [p50, ratio, p90, p99, memory]) Object.assign(row.insertCell(), { textContent: text, dir: "ltr" });
  return row;
}

function makeItem(text) {
  return Object.assign(document.createElement("li"), { textContent: text });
}

/* Returns why a runtime does not work: a sentence of the page, or what the runtime says. */
function describeReason({ key, detail, message }) {
  return key && key !== "engine" ? say(key, detail) : detail || message;
}

/* Returns the sentences about what may make a measurement wrong. */
function findWarnings({ models, conditions }, findName) {
  const drifted = models.filter((model) => Math.abs(findDrift(model.samples)) > LARGE_DRIFT);
  const warnings = drifted.map((model) => say("drift", findName(model)));
  const mostRepeats = Math.max(...models.map(({ repeats }) => repeats));
  if (mostRepeats > 1) warnings.push(say("coarse", mostRepeats));
  if (conditions.hidden) warnings.push(say("hidden"));
  if (!conditions.isolated) warnings.push(say("notIsolated"));
  return warnings;
}

/* Returns what lxcompress/web/records.py reads as a PageMeasurement, still without models. */
function makeRecord(page, device, watch, opened) {
  const engine = opened.find(({ kernels }) => kernels);
  return {
    kind: "lxcompress-page",
    version: 1,
    started: new Date().toISOString(),
    device: device || guessDevice(),
    user_agent: navigator.userAgent,
    cores: navigator.hardwareConcurrency ?? 1,
    memory_gb: navigator.deviceMemory ?? null,
    engine: engine ? KERNELS[engine.kernels] : "not measured",
    threads: engine?.threads ?? 1,
    lxcompress: page.lxcompress,
    tick_s: 0,
    objects: page.bench.objects,
    lengths: page.bench.lengths,
    conditions: {
      isolated: globalThis.crossOriginIsolated === true,
      wake_lock: watch.hasWakeLock,
      hidden: false,
      battery: watch.battery,
      pressure: null,
      page_memory_bytes: null,
    },
    models: [],
  };
}

/* Writes the samples into a record. `opened` are the models, in the order of those that were measured. */
function fill(record, { tick, models }, opened) {
  record.tick_s = tick;
  record.models = models.map(({ samples, rounds, repeats, memoryBytes }, index) => {
    const model = opened[index];
    return {
      sha256: model.sha256,
      runtime: model.runtime,
      runtime_version: model.version ?? null,
      objects: model.objects,
      threads: model.threads ?? 1,
      samples,
      rounds,
      repeats,
      compile_s: model.compileS,
      fetch_s: model.fetchS,
      load_s: model.loadS,
      memory_bytes: memoryBytes,
    };
  });
}

function keep(record) {
  try {
    localStorage.setItem(KEPT, JSON.stringify(record));
  } catch {
    // The storage is full: the record is still in the page.
  }
}

function readKept() {
  try {
    return JSON.parse(localStorage.getItem(KEPT));
  } catch {
    return null;
  }
}

function forget() {
  localStorage.removeItem(KEPT);
}

/* Keeps the screen on, and watches what disturbs a measurement, until `end` is called. */
async function watchDevice() {
  const watch = { hidden: document.hidden, pressure: null, hasWakeLock: false, battery: null };
  const noteHidden = () => {
    watch.hidden ||= document.hidden;
  };
  document.addEventListener("visibilitychange", noteHidden);
  const lock = await navigator.wakeLock?.request("screen").catch(() => null);
  watch.hasWakeLock = Boolean(lock);
  const battery = await navigator.getBattery?.().catch(() => null);
  if (battery) watch.battery = { level: battery.level, charging: battery.charging };
  const notePressure = (records) => {
    watch.pressure = records.at(-1).state;
  };
  const observer = globalThis.PressureObserver ? new PressureObserver(notePressure) : null;
  observer?.observe("cpu").catch(() => null);
  watch.end = () => {
    document.removeEventListener("visibilitychange", noteHidden);
    lock?.release();
    observer?.disconnect();
  };
  return watch;
}

/* Returns the memory of the whole page in bytes; null if the browser does not tell it within MEMORY_MS. */
async function measurePage() {
  const measured = globalThis.crossOriginIsolated ? performance.measureUserAgentSpecificMemory?.() : null;
  const timeout = new Promise((resolve) => setTimeout(resolve, MEMORY_MS, null));
  const memory = await Promise.race([measured?.catch(() => null), timeout]);
  return memory?.bytes ?? null;
}

/* Returns the ratio to the baseline, with its interval in brackets. */
function sayRatio({ value, low, high }) {
  const range = low === null ? "" : ` (${low.toFixed(2)}\u2013${high.toFixed(2)})`;
  return `${value.toFixed(2)}${range}`;
}

/* Returns a name such as "Chrome 156 on Android", from what the browser says of itself. */
function guessDevice() {
  const [, browser = "Browser", version = ""] = BROWSER.exec(navigator.userAgent) ?? [];
  const [system = "a device", phone] = SYSTEM.exec(navigator.userAgent) ?? [];
  return `${BROWSER_NAMES[browser] ?? browser} ${version} on ${phone ?? system}`;
}
