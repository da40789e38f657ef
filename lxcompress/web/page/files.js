/* Fetches the files of the page: with progress, and compared with their SHA-256. */

/* The bytes of `file`, { path, sha256, bytes }, relative to the address `base`. Throws an Error of one sentence. */
export async function fetchFile(file, base, report = () => {}) {
  const address = new URL(file.path, base);
  for (const cache of ["default", "reload"]) {  // what was kept may be damaged: it is fetched again, once
    const response = await fetch(address, { cache }).catch(() => null);
    if (!response?.ok) throw new PageError("missing", file.path);
    const bytes = await readAll(response, file.bytes, report);
    if ((await digest(bytes)) === file.sha256) return bytes;
  }
  await forget(address);
  throw new PageError("damaged", file.path);
}

/* An error whose sentence is in words.js, under `key`. */
export class PageError extends Error {
  constructor(key, detail = "") {
    super(`${key} ${detail}`);
    this.key = key;
    this.detail = detail;
  }
}

async function readAll(response, expected, report) {
  const bytes = new Uint8Array(expected), reader = response.body.getReader();
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read().catch(() => { throw new PageError("cut", response.url); });
    if (done) return bytes.subarray(0, length);
    if (length + value.length > expected) throw new PageError("damaged", new URL(response.url).pathname.split("/").at(-1));
    bytes.set(value, length);
    length += value.length;
    report(length, expected);
  }
}

/* Removes a file from what is kept for offline use, so that it is fetched again. */
async function forget(address) {
  if (!globalThis.caches) return;
  for (const name of await caches.keys()) await (await caches.open(name)).delete(address);
}

/* The SHA-256 of bytes. A page that came by plain HTTP has no crypto.subtle. */
export async function digest(bytes) {
  const found = globalThis.crypto?.subtle ? new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)) : digestSlowly(bytes);
  return Array.from(found, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/* SHA-256 as in FIPS 180-4. */
export function digestSlowly(bytes) {
  const { start, round } = CONSTANTS, hash = Uint32Array.from(start), words = new Uint32Array(64);
  const padded = new Uint8Array(Math.ceil((bytes.length + 9) / 64) * 64);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setBigUint64(padded.length - 8, 8n * BigInt(bytes.length));
  for (let block = 0; block < padded.length; block += 64) {
    for (let index = 0; index < 16; index += 1) words[index] = view.getUint32(block + 4 * index);
    for (let index = 16; index < 64; index += 1) {
      const early = words[index - 15], late = words[index - 2];
      words[index] = words[index - 16] + words[index - 7] + (turn(early, 7) ^ turn(early, 18) ^ (early >>> 3)) + (turn(late, 17) ^ turn(late, 19) ^ (late >>> 10));
    }
    let [a, b, c, d, e, f, g, h] = hash;
    for (let index = 0; index < 64; index += 1) {
      const one = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + round[index] + words[index]) | 0;
      const two = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [a, b, c, d, e, f, g, h] = [(one + two) | 0, a, b, c, (d + one) | 0, e, f, g];
    }
    [a, b, c, d, e, f, g, h].forEach((value, index) => { hash[index] += value; });
  }
  const found = new DataView(new ArrayBuffer(32));
  hash.forEach((word, index) => found.setUint32(4 * index, word));
  return new Uint8Array(found.buffer);
}

function turn(word, by) {
  return (word >>> by) | (word << (32 - by));
}

const CONSTANTS = findConstants();

/* The first 32 bits of the fractions of the square roots of the first 8 primes, and of the cube roots of 64. */
function findConstants() {
  const primes = [];
  for (let number = 2; primes.length < 64; number += 1) if (primes.every((prime) => number % prime)) primes.push(number);
  const fraction = (root) => Math.floor((root % 1) * 2 ** 32);
  return { start: primes.slice(0, 8).map((prime) => fraction(Math.sqrt(prime))), round: primes.map((prime) => fraction(Math.cbrt(prime))) };
}
