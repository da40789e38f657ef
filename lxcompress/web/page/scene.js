/* Draws scenes of objects as lxcompress/data/scenes.py does, finds their features and boxes, and paints them.
   `world` has the constants of data/objects.py: { attributes, radius, width, height, focal, cameraRight, cameraFront,
   fewest, most }. An object is { color, shape, size, material, right, front }: indices of its attributes, and its
   position, -3 to 3. */

export const STEP = 0.05;  // positions are its multiples, as the sliders of the page have them
const SVG = "http://www.w3.org/2000/svg";
const COLORS = {
  gray: "#7b7b7b",
  red: "#c5272d",
  blue: "#2b53d6",
  green: "#1b8a3a",
  brown: "#85501f",
  purple: "#8a35c4",
  cyan: "#1fa5ad",
  yellow: "#e6cf2a",
};

/* Returns a random scene; no two objects have the same depth or side position. */
export function drawScene(world) {
  const count = world.fewest + Math.floor(Math.random() * (world.most - world.fewest + 1));
  const right = drawPositions(count);
  const front = drawPositions(count);
  return right.map((_, index) => ({ ...drawAttributes(world), right: right[index], front: front[index] }));
}

function drawAttributes(world) {
  const entries = Object.entries(world.attributes);
  return Object.fromEntries(entries.map(([name, values]) => [name, Math.floor(Math.random() * values.length)]));
}

/* Returns positions from -3 to 3 in random order: one in each of `count` parts of equal width. */
function drawPositions(count) {
  const parts = Array.from({ length: count }, (_, index) => index).sort(() => Math.random() - 0.5);
  return parts.map((part) => {
    const position = 6 * (part + 0.15 + 0.7 * Math.random()) / count - 3;
    return Math.round(position / STEP) * STEP;
  });
}

/* Returns the inputs of a model that depend on the scene: features, boxes, and the mask of the objects. */
export function describeScene(objects, world) {
  const features = objects.flatMap((object) => findFeatures(object, world));
  const boxes = objects.flatMap((object) => findBox(object, world));
  const count = objects.length;
  return {
    visual_feats: { data: Float32Array.from(features), dims: [1, count, features.length / count] },
    visual_pos: { data: Float32Array.from(boxes), dims: [1, count, 4] },
    visual_attention_mask: { data: new Array(count).fill(1), dims: [1, count] },
  };
}

/* Returns the features of an object: each attribute one-hot, then its position on the ground and its radius, divided by 3. */
function findFeatures(object, world) {
  const oneHot = Object.entries(world.attributes).flatMap(([name, values]) =>
    values.map((_, index) => Number(index === object[name])));
  const ground = [0, 1].map((axis) => object.right * world.cameraRight[axis] + object.front * world.cameraFront[axis]);
  return [...oneHot, ...ground.map((value) => value / 3), findRadius(object, world) / 3];
}

/* Returns the left, top, right and bottom side of an object in the picture, 0 to 1. */
function findBox(object, world) {
  const { x, y, half } = project(object, world);
  const { width, height } = world;
  const clip = (share) => Math.min(1, Math.max(0, share));
  return [clip((x - half) / width), clip((y - half) / height), clip((x + half) / width), clip((y + half) / height)];
}

function findRadius(object, world) {
  return world.radius[world.attributes.size[object.size]];
}

/* Returns the centre of an object in pixels, and half its width, as `project` in lxcompress/data/objects.py does. */
function project(object, world) {
  const depth = 10.6 - 0.85 * object.front;
  const height = findRadius(object, world);
  return {
    x: world.width / 2 + world.focal * object.right / depth,
    y: world.height / 2 + world.focal * (0.477 * object.front - 0.870 * height) / depth,
    half: world.focal * height / depth,
  };
}

/* Fills the <svg> `picture` with the objects; those behind are drawn first. */
export function paintScene(picture, objects, world) {
  picture.setAttribute("viewBox", `0 0 ${world.width} ${world.height}`);
  const farthestFirst = [...objects].sort((one, other) => one.front - other.front);
  picture.replaceChildren(...farthestFirst.map((object) => paintObject(object, world)));
}

/* Returns a group of the shapes of one object. */
function paintObject(object, world) {
  const { x, y, half } = project(object, world);
  const value = (name) => world.attributes[name][object[name]];
  const group = makeElement("g", { fill: COLORS[value("color")], class: value("material") });
  group.append(...PAINTERS[value("shape")](x, y, half));
  if (value("material") === "metal") group.append(paintShine(x, y, half));
  return group;
}

/* Shape -> a function of its centre and half its width, which returns the elements. */
const PAINTERS = { sphere: paintSphere, cube: paintCube, cylinder: paintCylinder };

function paintSphere(x, y, half) {
  return [makeElement("circle", { cx: x, cy: y, r: half })];
}

function paintCube(x, y, half) {
  const side = 1.5 * half;
  const edge = 0.4 * half;
  const left = x - side / 2 - edge / 2;
  const top = y - side / 2 + edge / 2;
  const outline = `M${left} ${top}l${edge} ${-edge}h${side}v${side}l${-edge} ${edge}`;
  return [
    makeElement("path", { d: `M${left} ${top}h${side}v${side}h${-side}z` }),
    makeElement("path", { d: `${outline}M${left + side} ${top}l${edge} ${-edge}` }),
  ];
}

function paintCylinder(x, y, half) {
  const wide = 0.85 * half;
  const flat = 0.28 * half;
  const top = y - 0.75 * half;
  const tall = 1.5 * half;
  return [
    makeElement("path", { d: `M${x - wide} ${top}v${tall}a${wide} ${flat} 0 0 0 ${2 * wide} 0v${-tall}` }),
    makeElement("ellipse", { cx: x, cy: top, rx: wide, ry: flat }),
  ];
}

function paintShine(x, y, half) {
  const ellipse = { cx: x - 0.3 * half, cy: y - 0.35 * half, rx: 0.2 * half, ry: 0.12 * half };
  return makeElement("ellipse", { class: "shine", ...ellipse });
}

function makeElement(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
