/* Starts the page: reads page.json, opens the model that answers, and connects the parts. */

import { startAsking } from "./asking.js";
import { startWorker } from "./engine.js";
import { PageError, fetchFile } from "./files.js";
import { startMeasuring } from "./measuring.js";
import { getLanguage, say, sayCount, setLanguage } from "./words.js";

const find = (id) => document.getElementById(id);
const BASE = document.baseURI;
const TAKE_OVER_MS = 5000;  // how long the page waits until the service worker answers its requests

function showProblem(error) {
  find("problem").textContent = describeProblem(error);
}

/* Returns the sentence of an error in the language of the page. */
function describeProblem(error) {
  if (error instanceof PageError && error.key !== "engine") return say(error.key, error.detail);
  const isMemory = error instanceof RangeError || /memory/i.test(error.message);
  if (isMemory) return say("noMemory");
  return say("engine", error.detail || error.message);
}

/* The language that was chosen before; null if none was, or if the browser stores nothing for this page. */
function readLanguage() {
  try {
    return localStorage.getItem("language");
  } catch {
    return null;
  }
}

async function readPage() {
  const response = await fetch(new URL("page.json", BASE)).catch(() => null);
  if (!response?.ok) throw new PageError("missing", "page.json");
  return response.json();
}

/* Keeps the page for use without a network, where the browser allows that. */
async function keepOffline() {
  const { serviceWorker } = navigator;
  if (!serviceWorker) return;
  serviceWorker.addEventListener("message", ({ data }) => {
    if (data === "notKept") find("notice").textContent = say("notKept");
  });
  const takeOver = new Promise((resume) => serviceWorker.addEventListener("controllerchange", resume, { once: true }));
  const isRegistered = await serviceWorker.register("sw.js").then(() => true, () => false);
  navigator.storage?.persist?.();
  // The models are kept only if the worker that fetches them starts under the service worker.
  if (isRegistered && !serviceWorker.controller) {
    const timeout = new Promise((resume) => setTimeout(resume, TAKE_OVER_MS));
    await Promise.race([takeOver, timeout]);
  }
}

async function start() {
  setLanguage(readLanguage() ?? navigator.language.slice(0, 2));
  find("language").value = getLanguage();
  const page = await readPage();
  await keepOffline();
  const { call } = startWorker("worker.js");
  const app = { page, call, showProblem, openModel, describeReady };
  let threads = 1;

  async function openModel(model) {
    find("loading").hidden = false;
    find("state").textContent = say("loading", model.name);
    try {
      const report = ({ done, total }) => {
        find("loading").value = done / total;
      };
      const { engines, extractor } = page;
      if (extractor) await call("openExtractor", { extractor, engines, base: BASE }, report);
      const opened = await call("openModel", { model, engines, base: BASE }, report);
      threads = opened.threads;
      find("state").textContent = describeReady(model);
      return opened;
    } catch (error) {
      find("state").textContent = "";
      throw error;
    } finally {
      find("loading").hidden = true;
    }
  }

  function describeReady(model) {
    return `${say("ready", model.name)} ${say("threads", sayCount(threads))}`;
  }

  const asking = page.asks ? startAsking(app, readVocabulary) : null;
  if (!asking) {
    for (const id of ["ask", "model"]) find(id).hidden = true;
  }
  const measuring = startMeasuring(app);
  const showWords = () => {
    find("about").textContent = say("about", page.lxcompress);
    asking?.showWords();
    measuring.showWords();
  };
  find("language").addEventListener("change", ({ target }) => {
    setLanguage(target.value);
    keepLanguage(target.value);
    showWords();
  });
  showWords();
  if (asking) await asking.choose();
  else find("state").textContent = say("noModel");
}

async function readVocabulary(model) {
  const bytes = await fetchFile(model.vocabulary, BASE);
  return JSON.parse(new TextDecoder().decode(bytes));
}

function keepLanguage(language) {
  try {
    localStorage.setItem("language", language);
  } catch {
    // A private window may refuse to store it: then the language is chosen again next time.
  }
}

start().catch(showProblem);
