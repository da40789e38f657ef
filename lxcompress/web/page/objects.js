/* The scene that the page asks about: its picture, its description in words, and a form for each object. */

import { STEP, describeScene, drawScene, paintScene } from "./scene.js";
import { getLanguage, say, sayCount } from "./words.js";

const AXES = ["right", "front"];
const MIDDLE = 1;  // an object nearer to the centre than this is in the middle
const MARKS = { en: { comma: ", ", semicolon: "; " }, fa: { comma: "، ", semicolon: "؛ " } };

const find = (id) => document.getElementById(id);

/* Shows a scene, and calls `changed` after each change of it. Returns { describe, show }; `describe` returns a promise of
   the inputs of a model that depend on the scene. */
export function startScene(world, changed) {
  let objects = drawScene(world);

  function show() {
    paint();
    find("objects").replaceChildren(...objects.map((object, index) => makeForm(object, index)));
    find("add").disabled = objects.length >= world.most;
  }

  function paint() {
    paintScene(find("picture"), objects, world);
    find("described").textContent = describeInWords(objects, world);
  }

  function replace(next) {
    objects = next;
    show();
    changed();
  }

  function update(object, name, value) {
    object[name] = value;
    paint();
    changed();
  }

  function makeForm(object, index) {
    const form = document.createElement("fieldset");
    const legend = document.createElement("legend");
    legend.textContent = say("object", sayCount(index + 1));
    const fields = document.createElement("div");
    fields.className = "fields";
    for (const [name, values] of Object.entries(world.attributes)) {
      const names = values.map((value) => nameValue(value, world));
      const choice = makeChoice(names, object[name], (value) => update(object, name, value));
      fields.append(makeLabel(say(name), choice));
    }
    for (const axis of AXES) {
      const slider = makeSlider(object[axis], (value) => update(object, axis, value));
      fields.append(makeLabel(say(axis), slider));
    }
    form.append(legend, fields, makeRemoveButton(object, index));
    return form;
  }

  function makeRemoveButton(object, index) {
    const remove = document.createElement("button");
    remove.type = "button";
    remove.textContent = say("removeObject");
    remove.disabled = objects.length <= 1;
    remove.addEventListener("click", () => {
      replace(objects.filter((other) => other !== object));
      find("objects").querySelectorAll("button")[Math.max(0, index - 1)]?.focus();
    });
    return remove;
  }

  find("draw").addEventListener("click", () => replace(drawScene(world)));
  find("add").addEventListener("click", () => replace([...objects, drawScene(world)[0]]));
  show();
  return { describe: async () => describeScene(objects, world), show };
}

function makeLabel(text, control) {
  const label = document.createElement("label");
  label.append(text, control);
  return label;
}

function makeChoice(names, chosen, choose) {
  const select = document.createElement("select");
  names.forEach((name, index) => select.append(new Option(name, index, false, index === chosen)));
  select.addEventListener("change", () => choose(Number(select.value)));
  return select;
}

function makeSlider(value, choose) {
  const slider = document.createElement("input");
  Object.assign(slider, { type: "range", dir: "ltr", min: -3, max: 3, step: STEP, value });
  slider.addEventListener("input", () => choose(Number(slider.value)));
  return slider;
}

/* Returns the name of an attribute's value, such as "red", in the language of the page. */
function nameValue(value, world) {
  return world.words[getLanguage()]?.[value] ?? value;
}

/* Returns the scene in words, for those who do not see the picture. */
function describeInWords(objects, world) {
  const { semicolon } = MARKS[getLanguage()];
  const phrases = objects.map((object) => describeObject(object, world));
  return say("sceneOf", sayCount(objects.length)) + phrases.join(semicolon) + ".";
}

/* Returns a phrase such as "small red metal cube (left, in front)"; Persian has the noun first. */
function describeObject(object, world) {
  const nameAttribute = (name) => nameValue(world.attributes[name][object[name]], world);
  const [size, color, material, shape] = ["size", "color", "material", "shape"].map(nameAttribute);
  const words = getLanguage() === "fa" ? [shape, material, color, size] : [size, color, material, shape];
  const sides = [nameSide(object.right, "leftSide", "rightSide"), nameSide(object.front, "behind", "inFront")];
  return `${words.join(" ")} (${sides.join(MARKS[getLanguage()].comma)})`;
}

function nameSide(position, below, above) {
  if (Math.abs(position) < MIDDLE) return say("middle");
  return say(position < 0 ? below : above);
}
