/* Starts the page: reads page.json, opens the model that answers, and connects the parts. */

import { startAsking } from "./asking.js";
import { startEngine } from "./engine.js";
import { PageError, fetchFile } from "./files.js";
import { startMeasuring } from "./measuring.js";
import { getLanguage, say, setLanguage } from "./words.js";

const find = (id) => document.getElementById(id);
const BASE = document.baseURI;
const TAKE_OVER_MS = 5000;

function showProblem(error) {
  const isMemory = error instanceof RangeError || /memory/i.test(error.message);
  find("problem").textContent = error instanceof PageError && error.key !== "engine" ? say(error.key, error.detail) : isMemory ? say("noMemory") : say("engine", error.detail || error.message);
}

async function readPage() {
  const response = await fetch(new URL("page.json", BASE)).catch(() => null);
  if (!response?.ok) throw new PageError("missing", "page.json");
  return response.json();
}

/* Keeps the page for use without a network, where the browser allows that. */
async function keepOffline() {
  if (!navigator.serviceWorker) return;
  navigator.serviceWorker.addEventListener("message", ({ data }) => { if (data === "notKept") find("notice").textContent = say("notKept"); });
  const { serviceWorker } = navigator;
  const taken = new Promise((resume) => serviceWorker.addEventListener("controllerchange", resume, { once: true }));
  const isRegistered = await serviceWorker.register("sw.js").then(() => true, () => false);
  navigator.storage?.persist?.();
  // The models are kept only if the worker that fetches them starts under the service worker.
  if (isRegistered && !serviceWorker.controller) await Promise.race([taken, new Promise((resume) => setTimeout(resume, TAKE_OVER_MS))]);
}

async function start() {
  setLanguage(localStorage.getItem("language") ?? navigator.language.slice(0, 2));
  find("language").value = getLanguage();
  const page = await readPage();
  await keepOffline();
  const call = startEngine();
  const app = { page, call, showProblem, openModel };

  async function openModel(model) {
    find("loading").hidden = false;
    find("state").textContent = say("loading", model.name);
    try {
      const report = ({ done, total }) => { find("loading").value = done / total; };
      if (page.extractor) await call("openExtractor", { extractor: page.extractor, engines: page.engines, base: BASE }, report);
      const opened = await call("openModel", { model, engines: page.engines, base: BASE }, report);
      find("state").textContent = say("ready", model.name);
      return opened;
    } catch (error) {
      find("state").textContent = "";
      throw error;
    } finally {
      find("loading").hidden = true;
    }
  }

  const readVocabulary = async (model) => JSON.parse(new TextDecoder().decode(await fetchFile(model.vocabulary, BASE)));
  const asking = page.asks ? startAsking(app, readVocabulary) : null;
  if (!asking) for (const id of ["ask", "model"]) find(id).hidden = true;
  const measuring = startMeasuring(app);
  const showWords = () => {
    find("about").textContent = say("about", page.lxcompress);
    asking?.showWords();
    measuring.showWords();
  };
  find("language").addEventListener("change", ({ target }) => {
    setLanguage(target.value);
    try { localStorage.setItem("language", target.value); } catch { /* private windows may refuse to store */ }
    showWords();
  });
  showWords();
  if (asking) await asking.choose();
  else find("state").textContent = say("noModel");
}

start().catch(showProblem);
