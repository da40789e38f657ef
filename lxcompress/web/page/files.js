/* Fetches the files of the page: with progress, and compared with their SHA-256. */

/* Returns the bytes of `file`, { path, sha256, bytes }; its path is relative to the address `base`. `report` is called
   with the bytes so far, and with all bytes. Throws a PageError. */
export async function fetchFile(file, base, report = () => {}) {
  const address = new URL(file.path, base);
  for (const cache of ["default", "reload"]) {  // a kept file may be damaged: then it is fetched once more
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

/* Returns the bytes of a response, at most `expected`. Throws a PageError. */
async function readAll(response, expected, report) {
  const bytes = new Uint8Array(expected);
  const reader = response.body.getReader();
  const failReading = () => {
    throw new PageError("cut", response.url);
  };
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read().catch(failReading);
    if (done) return bytes.subarray(0, length);
    if (length + value.length > expected) {
      const name = new URL(response.url).pathname.split("/").at(-1);
      throw new PageError("damaged", name);
    }
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

/* Returns the SHA-256 of bytes in hexadecimal digits. A page that came by plain HTTP has no crypto.subtle. */
async function digest(bytes) {
  const hash = globalThis.crypto?.subtle ? await crypto.subtle.digest("SHA-256", bytes) : digestSlowly(bytes);
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/* Returns the 32 bytes of the SHA-256 of bytes, computed as in FIPS 180-4; a to h are its working variables. */
export function digestSlowly(bytes) {
  const { start, round } = CONSTANTS;
  const hash = Uint32Array.from(start);
  const words = new Uint32Array(64);
  const padded = new Uint8Array(Math.ceil((bytes.length + 9) / 64) * 64);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setBigUint64(padded.length - 8, 8n * BigInt(bytes.length));
  for (let block = 0; block < padded.length; block += 64) {
    for (let index = 0; index < 16; index += 1) words[index] = view.getUint32(block + 4 * index);
    for (let index = 16; index < 64; index += 1) {
      const early = words[index - 15];
      const late = words[index - 2];
      const sigma0 = rotate(early, 7) ^ rotate(early, 18) ^ (early >>> 3);
      const sigma1 = rotate(late, 17) ^ rotate(late, 19) ^ (late >>> 10);
      words[index] = words[index - 16] + words[index - 7] + sigma0 + sigma1;
    }
    let [a, b, c, d, e, f, g, h] = hash;
    for (let index = 0; index < 64; index += 1) {
      const sum1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
      const choice = (e & f) ^ (~e & g);
      const t1 = (h + sum1 + choice + round[index] + words[index]) | 0;
      const sum0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
      const majority = (a & b) ^ (a & c) ^ (b & c);
      const t2 = (sum0 + majority) | 0;
      [a, b, c, d, e, f, g, h] = [(t1 + t2) | 0, a, b, c, (d + t1) | 0, e, f, g];
    }
    [a, b, c, d, e, f, g, h].forEach((value, index) => {
      hash[index] += value;
    });
  }
  const bytesOfHash = new DataView(new ArrayBuffer(32));
  hash.forEach((word, index) => bytesOfHash.setUint32(4 * index, word));
  return new Uint8Array(bytesOfHash.buffer);
}

function rotate(word, by) {
  return (word >>> by) | (word << (32 - by));
}

const CONSTANTS = findConstants();

/* The first 32 bits of the fractions of the square roots of the first 8 primes, and of the cube roots of 64. */
function findConstants() {
  const primes = [];
  for (let number = 2; primes.length < 64; number += 1) {
    if (primes.every((prime) => number % prime)) primes.push(number);
  }
  const takeFraction = (root) => Math.floor((root % 1) * 2 ** 32);
  return {
    start: primes.slice(0, 8).map((prime) => takeFraction(Math.sqrt(prime))),
    round: primes.map((prime) => takeFraction(Math.cbrt(prime))),
  };
}
