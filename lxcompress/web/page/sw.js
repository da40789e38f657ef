/* Keeps the page for use without a network. Files whose names have their SHA-256 never change, so what is kept is
   served at once; the others are fetched when there is a network. */

const KEPT = "lxcompress-page";
const ENTRIES = ["./", "page.json", "manifest.webmanifest", "icon.svg"];

self.addEventListener("install", (event) => event.waitUntil(keepPage().then(() => self.skipWaiting())));
self.addEventListener("activate", (event) => event.waitUntil(forgetOld().then(() => self.clients.claim())));
self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method !== "GET" || !url.startsWith(self.registration.scope)) return;
  const isEntry = ENTRIES.some((entry) => url.split(/[?#]/)[0] === new URL(entry, self.registration.scope).href);
  event.respondWith(isEntry ? askNetworkFirst(event.request) : askKeptFirst(event.request));
});

/* Everything but the models and the engine, which are kept once they are fetched. */
async function keepPage() {
  const page = await (await fetch("page.json", { cache: "no-store" })).json();
  await (await caches.open(KEPT)).addAll([...ENTRIES, ...page.code.map(({ path }) => path)]);
}

async function forgetOld() {
  const page = await (await fetch("page.json")).json(), cache = await caches.open(KEPT);
  const files = [...page.code, ...Object.values(page.engines), ...(page.extractor ? [page.extractor.file] : []), ...page.models.flatMap((model) => [model.file, model.vocabulary])];
  const wanted = new Set([...ENTRIES, ...files.map(({ path }) => path)].map((path) => new URL(path, self.registration.scope).href));
  for (const request of await cache.keys()) if (!wanted.has(request.url)) await cache.delete(request);
}

async function askNetworkFirst(request) {
  const found = await fetch(request, { cache: "no-store" }).catch(() => null);
  if (!found?.ok) return (await caches.match(request, { ignoreSearch: true })) ?? found ?? Response.error();
  await keep(request, found.clone());
  return found;
}

async function askKeptFirst(request) {
  const kept = request.cache === "reload" ? null : await caches.match(request);
  if (kept) return kept;
  const found = await fetch(request);
  if (found.ok) keep(request, found.clone());
  return found;
}

async function keep(request, response) {
  try {
    await (await caches.open(KEPT)).put(request, response);
  } catch {
    for (const client of await self.clients.matchAll({ includeUncontrolled: true })) client.postMessage("notKept");
  }
}
