/* The scene that the page asks about: its picture, its description in words, and a form for each object. */

import { STEP, describeScene, drawScene, paintScene } from "./scene.js";
import { getLanguage, say, sayCount } from "./words.js";

const AXES = ["right", "front"];
const SIDE = 1;  // an object nearer to the middle than this is in the middle

const find = (id) => document.getElementById(id);

/* Shows a scene, and calls `changed` whenever it is another one. Returns { describe, show }; `describe` is a promise of
   the inputs of a model that depend on the scene. */
export function startScene(world, changed) {
  let objects = drawScene(world);

  function show() {
    paintScene(find("picture"), objects, world);
    find("described").textContent = describe(objects, world);
    find("objects").replaceChildren(...objects.map((object, index) => makeForm(object, index)));
    find("add").disabled = objects.length >= world.most;
  }

  function replace(next) {
    objects = next;
    show();
    changed();
  }

  function update(object, name, value) {
    object[name] = value;
    paintScene(find("picture"), objects, world);
    find("described").textContent = describe(objects, world);
    changed();
  }

  function makeForm(object, index) {
    const form = document.createElement("fieldset"), legend = document.createElement("legend"), fields = document.createElement("div");
    legend.textContent = say("object", sayCount(index + 1));
    fields.className = "fields";
    for (const [name, values] of Object.entries(world.attributes))
      fields.append(label(say(name), makeChoice(values.map((value) => nameValue(value, world)), object[name], (value) => update(object, name, value))));
    for (const axis of AXES) fields.append(label(say(axis), makeSlider(object[axis], (value) => update(object, axis, value))));
    const remove = document.createElement("button");
    remove.type = "button";
    remove.textContent = say("removeObject");
    remove.disabled = objects.length <= 1;
    remove.addEventListener("click", () => {
      replace(objects.filter((other) => other !== object));
      find("objects").querySelectorAll("button")[Math.max(0, index - 1)]?.focus();
    });
    form.append(legend, fields, remove);
    return form;
  }

  find("draw").addEventListener("click", () => replace(drawScene(world)));
  find("add").addEventListener("click", () => replace([...objects, drawScene(world)[0]]));
  show();
  return { describe: async () => describeScene(objects, world), show };
}

function label(text, control) {
  const found = document.createElement("label");
  found.append(text, control);
  return found;
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

function nameValue(value, world) {
  return world.words[getLanguage()]?.[value] ?? value;
}

/* The scene in words, for those who do not see the picture. */
function describe(objects, world) {
  const sentences = objects.map((object) => {
    const values = Object.fromEntries(Object.entries(world.attributes).map(([name, names]) => [name, nameValue(names[object[name]], world)]));
    const adjectives = [values.size, values.color, values.material];
    const name = getLanguage() === "fa" ? [values.shape, ...adjectives.reverse()] : [...adjectives, values.shape];
    return `${name.join(" ")} (${[nameSide(object.right, "leftSide", "rightSide"), nameSide(object.front, "behind", "inFront")].join(getLanguage() === "fa" ? "، " : ", ")})`;
  });
  return say("sceneOf", sayCount(objects.length)) + sentences.join(getLanguage() === "fa" ? "؛ " : "; ") + ".";
}

function nameSide(position, below, above) {
  if (Math.abs(position) < SIDE) return say("middle");
  return say(position < 0 ? below : above);
}
