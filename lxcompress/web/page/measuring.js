/* The measurement: files answer in turns; the raw samples are kept after each round, shown, sent and saved. */

import { compare, findDrift, findPercentile } from "./stats.js";
import { say, sayShare } from "./words.js";

const KEPT = "measurement";
const LARGE_DRIFT = 0.1;
const KERNELS = { base: "SIMD", pairs: "relaxed SIMD, pairs", dot: "relaxed SIMD, dot products" };

const find = (id) => document.getElementById(id);

/* Returns { showWords }. */
export function startMeasuring({ page, call, showProblem, openModel }) {
  let record = null, state = null;

  page.models.forEach((model, index) => {
    const choice = document.createElement("label"), box = document.createElement("input");
    Object.assign(box, { type: "checkbox", value: index, checked: model.isMeasured });
    choice.className = "choice";
    choice.append(box, ` ${model.title}`);
    find("candidates").append(choice);
  });
  find("device").value = guessDevice();

  async function measure() {
    const models = Array.from(find("candidates").querySelectorAll("input:checked"), (box) => page.models[box.value]);
    if (!models.length) return;
    const watch = await watchDevice();
    setRunning(true);
    try {
      const opened = [];
      for (const model of models) opened.push(await openModel(model));
      record = makeRecord(page, find("device").value, watch, opened[0].kernels);
      setState("warmingUp");
      const { bench } = page, names = models.map(({ name }) => name);
      const found = await call("measure", { models: names, ...bench }, (progress) => {
        find("measuring").value = progress.done / progress.total;
        setState("round", sayShare(progress.done / progress.total));
        fill(record, progress, models, opened);
        keep(record);
      });
      fill(record, found, models, opened);
      record.conditions.page_memory_bytes = await measurePage();
      record.conditions.pressure = watch.pressure;
      record.conditions.hidden = watch.hidden;
      keep(record);
      setState(found.isStopped ? "stopped" : "done");
      show();
    } catch (error) {
      setState(null);
      showProblem(error);
    } finally {
      watch.end();
      setRunning(false);
    }
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
    const names = new Map(page.models.map((model) => [model.sha256, model.name]));
    const [baseline] = record.models, ms = (model, at) => (1000 * findPercentile(model.samples, at)).toPrecision(3);
    find("rows").replaceChildren(...record.models.map((model) => {
      const cells = [ms(model, 0.5), ms(model, 0.9), ms(model, 0.99), model === baseline ? "1" : sayRatio(compare(model, baseline)), (model.memory_bytes / 1e6).toFixed(1)];
      const row = document.createElement("tr"), head = document.createElement("th");
      head.scope = "row";
      head.textContent = names.get(model.sha256);
      row.append(head);
      for (const text of cells) Object.assign(row.insertCell(), { textContent: text, dir: "ltr" });
      return row;
    }));
    const drifted = record.models.filter((model) => Math.abs(findDrift(model.samples)) > LARGE_DRIFT);
    const most = Math.max(...record.models.map(({ repeats }) => repeats));
    const warnings = drifted.map((model) => say("drift", names.get(model.sha256)));
    if (most > 1) warnings.push(say("coarse", most));
    if (record.conditions.hidden) warnings.push(say("hidden"));
    find("warnings").replaceChildren(...warnings.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
    find("result").hidden = false;
    find("result").setAttribute("aria-label", say("measure"));
    find("finish").hidden = false;
  }

  async function send() {
    record.device = find("device").value || guessDevice();
    const body = JSON.stringify(record);
    const response = await fetch("measurements", { method: "POST", headers: { "Content-Type": "application/json" }, body }).catch(() => null);
    if (response?.ok) { setState("sent"); forget(); } else setState("notSent", (await response?.text()) || response?.status || "offline");
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
    const known = new Set(page.models.map(({ sha256 }) => sha256));
    if (!kept?.models?.length || !kept.models.every(({ sha256 }) => known.has(sha256))) return;
    record = kept;
    setState("restored");
    show();
  }

  find("start").addEventListener("click", measure);
  find("stop").addEventListener("click", () => call("stop"));
  find("send").addEventListener("click", send);
  find("save").addEventListener("click", save);
  document.addEventListener("visibilitychange", () => call("pause", { isHidden: document.hidden }));
  restore();
  return { showWords: () => { if (state) setState(...state); if (record?.models.length) show(); } };
}

/* What bench --import reads; the samples are in seconds. */
function makeRecord(page, device, watch, kernels) {
  const agent = navigator;
  return {
    kind: "lxcompress-page",
    version: 1,
    started: new Date().toISOString(),
    device: device || guessDevice(),
    user_agent: agent.userAgent,
    cores: agent.hardwareConcurrency ?? 1,
    memory_gb: agent.deviceMemory ?? null,
    engine: KERNELS[kernels],
    threads: 1,
    lxcompress: page.lxcompress,
    tick_s: 0,
    objects: page.bench.objects,
    lengths: page.bench.lengths,
    conditions: { isolated: globalThis.crossOriginIsolated === true, wake_lock: watch.hasWakeLock, hidden: false, battery: watch.battery, pressure: null, page_memory_bytes: null },
    models: [],
  };
}

function fill(record, { tick, models }, chosen, opened) {
  record.tick_s = tick;
  record.models = models.map(({ samples, rounds, repeats, memoryBytes }, index) => {
    const { compileS, fetchS, loadS } = opened[index];
    return { sha256: chosen[index].sha256, samples, rounds, repeats, compile_s: compileS, fetch_s: fetchS, load_s: loadS, memory_bytes: memoryBytes ?? opened[index].memoryBytes };
  });
}

function keep(record) {
  try { localStorage.setItem(KEPT, JSON.stringify(record)); } catch { /* full storage: the record is still in the page */ }
}

function readKept() {
  try { return JSON.parse(localStorage.getItem(KEPT)); } catch { return null; }
}

function forget() {
  localStorage.removeItem(KEPT);
}

/* Keeps the screen on, and watches what disturbs a measurement, until `end` is called. */
async function watchDevice() {
  const watch = { hidden: document.hidden, pressure: null, hasWakeLock: false, battery: null };
  const hide = () => { watch.hidden ||= document.hidden; };
  document.addEventListener("visibilitychange", hide);
  const lock = await navigator.wakeLock?.request("screen").catch(() => null);
  watch.hasWakeLock = Boolean(lock);
  const battery = await navigator.getBattery?.().catch(() => null);
  if (battery) watch.battery = { level: battery.level, charging: battery.charging };
  const observer = globalThis.PressureObserver ? new PressureObserver((found) => { watch.pressure = found.at(-1).state; }) : null;
  observer?.observe("cpu").catch(() => null);
  watch.end = () => {
    document.removeEventListener("visibilitychange", hide);
    lock?.release();
    observer?.disconnect();
  };
  return watch;
}

/* The memory of the whole page in bytes, where the browser tells it within some seconds. */
async function measurePage() {
  const asked = globalThis.crossOriginIsolated ? performance.measureUserAgentSpecificMemory?.() : null;
  const late = new Promise((resolve) => setTimeout(resolve, 3000, null));
  return (await Promise.race([asked?.catch(() => null), late]))?.bytes ?? null;
}

function sayRatio({ value, low, high }) {
  const range = low === null ? "" : ` (${low.toFixed(2)}\u2013${high.toFixed(2)})`;
  return `${value.toFixed(2)}${range}`;
}

/* A name such as "Chrome 156 on Android". */
function guessDevice() {
  const agent = navigator.userAgent;
  const browser = /(Firefox|Edg|OPR|Chrome|Version)\/(\d+)/.exec(agent) ?? [];
  const system = /Android [\d.]+; ([^;)]+)|iPhone|iPad|Android|Windows|Mac OS X|Linux/.exec(agent) ?? [];
  const names = { Version: "Safari", Edg: "Edge", OPR: "Opera" };
  return `${names[browser[1]] ?? browser[1] ?? "Browser"} ${browser[2] ?? ""} on ${system[1] ?? system[0] ?? "a device"}`;
}
