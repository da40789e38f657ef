/* The questions about a scene or a photograph: typed, spoken or taken from examples; answered in words, aloud if wanted. */

import { readAnswer } from "./answer.js";
import { startScene } from "./objects.js";
import { startPhoto } from "./photo.js";
import { getLanguage, say, sayCount, sayShare } from "./words.js";
import { makeTokenizer } from "./wordpiece.js";

const find = (id) => document.getElementById(id);
const Recognition = globalThis.SpeechRecognition ?? globalThis.webkitSpeechRecognition;
const DENIED = ["not-allowed", "service-not-allowed", "audio-capture"];  // errors of a browser without a microphone for the page

/* Connects the form of questions. Returns { choose, showWords }: `choose` opens the chosen model, and `showWords` writes
   all texts again in the language of the page. `readVocabulary` returns a promise of a model's vocabulary. */
export function startAsking(app, readVocabulary) {
  const { page, call, showProblem, openModel } = app;
  let model = null;
  let tokenize = null;
  let isImageSeen = false;
  let shownAnswer = null;
  const forgetImage = () => {
    isImageSeen = false;
    showAnswer(null);
  };
  const image = page.asks === "scene" ? startScene(page.world, forgetImage) : startPhoto(app, forgetImage);
  const candidates = page.models.filter(({ reads }) => reads === page.asks);
  find("model").append(
    ...candidates.map(({ name, title }, index) => new Option(title, index, false, name === page.answering)),
  );

  async function choose() {
    const chosen = candidates[find("model").value];
    find("answer-it").disabled = true;
    try {
      tokenize = makeTokenizer(await readVocabulary(chosen));
      await openModel(chosen);
      model = chosen;
      isImageSeen = false;
      find("problem").textContent = "";
      showAnswer(null);
    } catch (error) {
      model = null;
      showProblem(error);
    } finally {
      find("answer-it").disabled = model === null;
    }
  }

  async function ask() {
    const question = find("question").value.trim();
    if (!question) {
      showNote("noQuestion");
      return;
    }
    const ids = tokenize(question);
    if (ids.length > model.positions) {
      showNote("tooLong", sayCount(model.positions));
      return;
    }
    try {
      if (!isImageSeen) {
        const inputs = await image.describe();
        if (!inputs) {
          showNote("choosePhoto");
          return;
        }
        await call("seeImage", { model: model.name, image: inputs });
        isImageSeen = true;
      }
      showAnswer(readAnswer(await call("askQuestion", { model: model.name, ids }), model));
      if (find("say").checked) speak(find("answer").innerText);
    } catch (error) {
      showProblem(error);
    }
  }

  function showNote(key, detail) {
    find("answer").textContent = say(key, detail);
    find("others").hidden = true;
    find("question").focus();
  }

  /* The answer is replaced as a whole: a screen reader says it again, even if it is the same as before. */
  function showAnswer(answer) {
    shownAnswer = answer;
    find("others").hidden = !answer;
    find("answer").replaceChildren();
    if (!answer) return;
    const [best] = answer.best;
    const isHeldBack = answer.isSure === false;
    const probability = sayShare(best.probability);
    const words = makeParagraph("said", isHeldBack ? say("notSure") : best.text);
    words.lang = isHeldBack ? getLanguage() : page.language;
    const note = isHeldBack
      ? `${say("guess", best.text)} (${probability})`
      : say(answer.isSure ? "sure" : "unmeasured", probability);
    find("answer").append(words, makeParagraph("note", note));
    find("best").replaceChildren(...answer.best.map((possible) => makeRow(possible.text, sayShare(possible.probability))));
  }

  function speak(text) {
    const spoken = new SpeechSynthesisUtterance(text);
    spoken.lang = page.language;
    speechSynthesis.cancel();
    speechSynthesis.speak(spoken);
  }

  function listen() {
    const recognition = new Recognition();
    const button = find("speak");
    recognition.lang = page.language;
    recognition.onresult = ({ results }) => {
      find("question").value = results[0][0].transcript;
      ask();
    };
    recognition.onerror = ({ error }) => showNote(DENIED.includes(error) ? "noMicrophone" : "notHeard");
    recognition.onend = () => {
      button.setAttribute("aria-pressed", "false");
      button.textContent = say("speakQuestion");
    };
    button.setAttribute("aria-pressed", "true");
    button.textContent = say("listening");
    recognition.start();
  }

  function showWords() {
    find("question-language").textContent = say("askIn", say(page.language === "fa" ? "persian" : "english"));
    find("ask-title").textContent = say(page.asks === "scene" ? "ask" : "askPhoto");
    image.show();
    if (shownAnswer) showAnswer(shownAnswer);
    if (model) find("state").textContent = app.describeReady(model);
  }

  const question = find("question");
  question.lang = page.language;
  question.dir = page.language === "fa" ? "rtl" : "ltr";
  for (const id of ["picture", "scene-choice", "scene-objects"]) find(id).toggleAttribute("hidden", page.asks !== "scene");
  find("photo-choice").hidden = page.asks !== "photo";
  find("example").hidden = !page.examples.length;
  find("examples").append(...page.examples.map((text) => new Option(text)));
  find("model").addEventListener("change", choose);
  find("asking").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  find("example").addEventListener("click", () => {
    question.value = page.examples[Math.floor(Math.random() * page.examples.length)];
    if (model) ask();
  });
  find("speak").hidden = !Recognition;
  find("speak").addEventListener("click", listen);
  find("say-choice").hidden = !globalThis.speechSynthesis;
  return { choose, showWords };
}

function makeParagraph(className, text) {
  return Object.assign(document.createElement("p"), { className, textContent: text });
}

function makeRow(...texts) {
  const row = document.createElement("tr");
  for (const text of texts) row.insertCell().textContent = text;
  return row;
}
