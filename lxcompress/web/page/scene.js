/* Scenes of objects, as lxcompress/data/scenes.py draws them: their features and boxes, and a picture of them.
   `world` has the constants of data/objects.py: { attributes, radius, width, height, focal, cameraRight, cameraFront,
   fewest, most }. An object is { color, shape, size, material, right, front }: indices of its attributes, and its
   position, -3 to 3. */

export const STEP = 0.05;  // positions are its multiples, as the sliders of the page have them
const SVG = "http://www.w3.org/2000/svg";
const COLORS = { gray: "#7b7b7b", red: "#c5272d", blue: "#2b53d6", green: "#1b8a3a", brown: "#85501f", purple: "#8a35c4", cyan: "#1fa5ad", yellow: "#e6cf2a" };

/* A random scene; no two objects have the same depth or side position. */
export function drawScene(world) {
  const count = world.fewest + Math.floor(Math.random() * (world.most - world.fewest + 1));
  const pick = (names) => Math.floor(Math.random() * names.length);
  const right = spread(count), front = spread(count);
  return right.map((_, index) => ({
    ...Object.fromEntries(Object.entries(world.attributes).map(([name, values]) => [name, pick(values)])),
    right: right[index],
    front: front[index],
  }));
}

function spread(count) {
  const order = Array.from({ length: count }, (_, index) => index).sort(() => Math.random() - 0.5);
  return order.map((index) => Math.round((6 * (index + 0.15 + 0.7 * Math.random()) / count - 3) / STEP) * STEP);
}

/* The inputs of a model that depend on the scene: features, boxes, and the mask of the objects. */
export function describeScene(objects, world) {
  const features = objects.flatMap((object) => {
    const oneHot = Object.entries(world.attributes).flatMap(([name, values]) => values.map((_, index) => Number(index === object[name])));
    const ground = [0, 1].map((axis) => object.right * world.cameraRight[axis] + object.front * world.cameraFront[axis]);
    return [...oneHot, ...ground.map((value) => value / 3), findRadius(object, world) / 3];
  });
  const boxes = objects.flatMap((object) => {
    const { x, y, half } = project(object, world);
    const clip = (value, side) => Math.min(1, Math.max(0, value / side));
    return [clip(x - half, world.width), clip(y - half, world.height), clip(x + half, world.width), clip(y + half, world.height)];
  });
  const count = objects.length;
  return {
    visual_feats: { data: Float32Array.from(features), dims: [1, count, features.length / count] },
    visual_pos: { data: Float32Array.from(boxes), dims: [1, count, 4] },
    visual_attention_mask: { data: new Array(count).fill(1), dims: [1, count] },
  };
}

function findRadius(object, world) {
  return world.radius[world.attributes.size[object.size]];
}

/* The centre of an object in pixels, and half its width, as a camera like CLEVR's shows it. */
function project(object, world) {
  const depth = 10.6 - 0.85 * object.front, height = findRadius(object, world);
  return {
    x: world.width / 2 + world.focal * object.right / depth,
    y: world.height / 2 + world.focal * (0.477 * object.front - 0.870 * height) / depth,
    half: world.focal * height / depth,
  };
}

/* Fills the <svg> `picture` with the objects; those behind are drawn first. */
export function paintScene(picture, objects, world) {
  picture.setAttribute("viewBox", `0 0 ${world.width} ${world.height}`);
  const back = [...objects].sort((one, other) => one.front - other.front);
  picture.replaceChildren(...back.map((object) => paintObject(object, world)));
}

function paintObject(object, world) {
  const { x, y, half } = project(object, world), group = document.createElementNS(SVG, "g");
  const value = (name) => world.attributes[name][object[name]];
  group.setAttribute("fill", COLORS[value("color")]);
  group.setAttribute("class", value("material"));
  const add = (name, settings) => {
    const shape = document.createElementNS(SVG, name);
    for (const [key, found] of Object.entries(settings)) shape.setAttribute(key, found);
    group.append(shape);
  };
  if (value("shape") === "sphere") add("circle", { cx: x, cy: y, r: half });
  if (value("shape") === "cube") {
    const side = 1.5 * half, edge = 0.4 * half, left = x - side / 2 - edge / 2, top = y - side / 2 + edge / 2;
    add("path", { d: `M${left} ${top}h${side}v${side}h${-side}z` });
    add("path", { d: `M${left} ${top}l${edge} ${-edge}h${side}v${side}l${-edge} ${edge}M${left + side} ${top}l${edge} ${-edge}` });
  }
  if (value("shape") === "cylinder") {
    const wide = 0.85 * half, flat = 0.28 * half, top = y - 0.75 * half, tall = 1.5 * half;
    add("path", { d: `M${x - wide} ${top}v${tall}a${wide} ${flat} 0 0 0 ${2 * wide} 0v${-tall}` });
    add("ellipse", { cx: x, cy: top, rx: wide, ry: flat });
  }
  if (value("material") === "metal") add("ellipse", { class: "shine", cx: x - 0.3 * half, cy: y - 0.35 * half, rx: 0.2 * half, ry: 0.12 * half });
  return group;
}
