/* Splits questions into word pieces (WordPiece, Devlin et al. 2019). The ids are those of lxcompress/data/tokens.py.
   A vocabulary is { tokens, lowercase, stripAccents, splitChinese, replacements }; `replacements` are the rules of a
   language, applied after Unicode's NFC, or null. */

const SPECIAL = /(\[(?:PAD|UNK|CLS|SEP|MASK)\])/;
const MOST_CHARACTERS = 100;  // a longer word is unknown
const KEPT = /[\t\n\r]/;  // control characters that become spaces; the others are removed
const SPACE = /\p{White_Space}/u;
const ACCENT = /\p{Mn}/gu;
const PUNCTUATION = /[!-/:-@[-`{-~]|\p{P}/u;
const CHINESE = /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/u;
const REMOVED = /[\0\ufffd]|\p{Cc}|\p{Cf}|\p{Co}|\p{Cs}/u;

/* Returns a function from a text to its ids: [CLS], the words, [SEP]. */
export function makeTokenizer(vocabulary) {
  const ids = new Map(vocabulary.tokens.map((token, id) => [token, id]));
  const findIds = (text) => splitWords(normalise(text, vocabulary)).flatMap((word) => splitWord(word, ids));
  return (question) => {
    // Every second part is a special token, because SPECIAL has a group.
    const parts = applyLanguage(question, vocabulary.replacements).split(SPECIAL);
    const found = parts.flatMap((part, index) => (index % 2 ? [ids.get(part)] : findIds(part)));
    return [ids.get("[CLS]"), ...found, ids.get("[SEP]")];
  };
}

/* Returns the text by the rules of its language, such as one way to write each Persian letter. */
function applyLanguage(text, replacements) {
  if (!replacements) return text;
  return Array.from(text.normalize("NFC"), (character) => replacements[character] ?? character).join("");
}

/* Returns the text as BERT's normalizer does. */
function normalise(text, vocabulary) {
  let characters = Array.from(text).filter((character) => KEPT.test(character) || !REMOVED.test(character));
  characters = characters.map((character) => (SPACE.test(character) ? " " : character));
  if (vocabulary.splitChinese) {
    characters = characters.map((character) => (CHINESE.test(character) ? ` ${character} ` : character));
  }
  let normal = characters.join("");
  if (vocabulary.stripAccents ?? vocabulary.lowercase) normal = normal.normalize("NFD").replace(ACCENT, "");
  if (!vocabulary.lowercase) return normal;
  // One character at a time: a whole word would end in another sigma.
  return Array.from(normal, (character) => character.toLowerCase()).join("");
}

/* Splits at white space; a punctuation mark is a word. */
function splitWords(text) {
  const words = [];
  let word = "";
  const finishWord = () => {
    if (word) words.push(word);
    word = "";
  };
  for (const character of text) {
    if (PUNCTUATION.test(character)) {
      finishWord();
      words.push(character);
    } else if (SPACE.test(character)) finishWord();
    else word += character;
  }
  finishWord();
  return words;
}

/* Returns the ids of the longest pieces of a word, from its start; one [UNK] if a piece is missing. */
function splitWord(word, ids) {
  const characters = Array.from(word);
  const unknown = [ids.get("[UNK]")];
  if (characters.length > MOST_CHARACTERS) return unknown;
  const found = [];
  for (let start = 0; start < characters.length;) {
    const { id, end } = findLongestPiece(characters, start, ids);
    if (id === undefined) return unknown;
    found.push(id);
    start = end;
  }
  return found;
}

/* Returns { id, end } of the longest piece that starts at `start`; its id is undefined if there is none. */
function findLongestPiece(characters, start, ids) {
  const prefix = start ? "##" : "";
  for (let end = characters.length; end > start; end -= 1) {
    const id = ids.get(prefix + characters.slice(start, end).join(""));
    if (id !== undefined) return { id, end };
  }
  return { id: undefined, end: start };
}
