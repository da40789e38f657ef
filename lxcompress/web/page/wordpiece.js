/* WordPiece (Devlin et al. 2019), with the same ids as lxcompress/data/tokens.py, which uses the tokenizers library.
   A vocabulary is { tokens, lowercase, stripAccents, splitChinese, replacements }; `replacements` are the rules of a
   language, applied after Unicode's NFC, or null. */

const SPECIAL = /(\[(?:PAD|UNK|CLS|SEP|MASK)\])/;
const MOST_CHARACTERS = 100;  // a longer word is unknown
const KEPT = /[\t\n\r]/;
const SPACE = /\p{White_Space}/u;
const ACCENT = /\p{Mn}/gu;
const PUNCTUATION = /[!-/:-@[-`{-~]|\p{P}/u;
const CHINESE = /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/u;
const REMOVED = /[\0\ufffd]|\p{Cc}|\p{Cf}|\p{Co}|\p{Cs}/u;

/* Returns a function from a text to its ids: [CLS], the words, [SEP]. */
export function makeTokenizer(vocabulary) {
  const ids = new Map(vocabulary.tokens.map((token, id) => [token, id]));
  return (text) => {
    const pieces = applyLanguage(text, vocabulary.replacements).split(SPECIAL);
    const found = pieces.flatMap((piece, index) =>
      index % 2 ? [ids.get(piece)] : splitWords(normalise(piece, vocabulary)).flatMap((word) => splitWord(word, ids)));
    return [ids.get("[CLS]"), ...found, ids.get("[SEP]")];
  };
}

function applyLanguage(text, replacements) {
  if (!replacements) return text;
  return Array.from(text.normalize("NFC"), (character) => replacements[character] ?? character).join("");
}

function normalise(text, vocabulary) {
  let characters = Array.from(text).filter((character) => KEPT.test(character) || !REMOVED.test(character));
  characters = characters.map((character) => (SPACE.test(character) ? " " : character));
  if (vocabulary.splitChinese)
    characters = characters.map((character) => (CHINESE.test(character) ? ` ${character} ` : character));
  let found = characters.join("");
  if (vocabulary.stripAccents ?? vocabulary.lowercase) found = found.normalize("NFD").replace(ACCENT, "");
  // One character at a time: a whole word would end in another sigma.
  return vocabulary.lowercase ? Array.from(found, (character) => character.toLowerCase()).join("") : found;
}

/* Splits at white space; a punctuation mark is a word. */
function splitWords(text) {
  const words = [];
  let word = "";
  const finish = () => { if (word) words.push(word); word = ""; };
  for (const character of text) {
    const isMark = PUNCTUATION.test(character);
    if (isMark || SPACE.test(character)) finish();
    if (isMark) words.push(character);
    else if (!SPACE.test(character)) word += character;
  }
  finish();
  return words;
}

/* The ids of the longest pieces of a word, from its start; one [UNK] if a piece is missing. */
function splitWord(word, ids) {
  const characters = Array.from(word), unknown = [ids.get("[UNK]")], found = [];
  if (characters.length > MOST_CHARACTERS) return unknown;
  for (let start = 0; start < characters.length;) {
    let end = characters.length, id;
    while (end > start && id === undefined) {
      id = ids.get((start ? "##" : "") + characters.slice(start, end).join(""));
      if (id === undefined) end -= 1;
    }
    if (id === undefined) return unknown;
    found.push(id);
    start = end;
  }
  return found;
}
