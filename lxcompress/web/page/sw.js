/* Keeps the page for use without a network. Files whose names have their SHA-256 never change, so what is kept is
   served at once; the others are fetched when there is a network. */

const KEPT = "lxcompress-page";
const ENTRIES = ["./", "page.json", "manifest.webmanifest", "icon.svg"];

self.addEventListener("install", (event) => event.waitUntil(keepPage().then(() => self.skipWaiting())));
self.addEventListener("activate", (event) => event.waitUntil(forgetOld().then(() => self.clients.claim())));
self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method !== "GET" || !url.startsWith(self.registration.scope)) return;
  const [address] = url.split(/[?#]/);
  const isEntry = ENTRIES.some((entry) => address === new URL(entry, self.registration.scope).href);
  event.respondWith(isEntry ? askNetworkFirst(event.request) : askKeptFirst(event.request));
});

/* Keeps everything but the models and the engine, which are kept once they are fetched. */
async function keepPage() {
  const response = await fetch("page.json", { cache: "no-store" });
  const page = await response.json();
  const cache = await caches.open(KEPT);
  await cache.addAll([...ENTRIES, ...page.code.map(({ path }) => path)]);
}

/* Removes the files that the page no longer has. */
async function forgetOld() {
  const response = await fetch("page.json");
  const page = await response.json();
  const cache = await caches.open(KEPT);
  const paths = [...ENTRIES, ...listFiles(page).map(({ path }) => path)];
  const wanted = new Set(paths.map((path) => new URL(path, self.registration.scope).href));
  for (const request of await cache.keys()) {
    if (!wanted.has(request.url)) await cache.delete(request);
  }
}

/* Returns the files that page.json names, each { path, sha256, bytes }. */
function listFiles(page) {
  const extractors = page.extractor ? [page.extractor.file] : [];
  const models = page.models.flatMap((model) => [model.file, model.vocabulary]);
  const runtimes = (page.rivals?.runtimes ?? []).flatMap(({ files }) => Object.values(files));
  const rivals = (page.rivals?.models ?? []).map(({ file }) => file);
  return [...page.code, ...Object.values(page.engines), ...extractors, ...models, ...runtimes, ...rivals];
}

/* Returns what the network answers and keeps it; without the network, what was kept. */
async function askNetworkFirst(request) {
  const response = await fetch(request, { cache: "no-store" }).catch(() => null);
  if (!response?.ok) {
    const kept = await caches.match(request, { ignoreSearch: true });
    return kept ?? response ?? Response.error();
  }
  await keep(request, response.clone());
  return response;
}

/* Returns what was kept, or what the network answers, which is kept then. The page asks to reload a damaged file. */
async function askKeptFirst(request) {
  const kept = request.cache === "reload" ? null : await caches.match(request);
  if (kept) return kept;
  const response = await fetch(request);
  if (response.ok) keep(request, response.clone());
  return response;
}

/* Keeps a response; the page is told if there is no room for it. */
async function keep(request, response) {
  try {
    const cache = await caches.open(KEPT);
    await cache.put(request, response);
  } catch {
    const clients = await self.clients.matchAll({ includeUncontrolled: true });
    for (const client of clients) client.postMessage("notKept");
  }
}
