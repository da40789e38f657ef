/* Draws a picture to ask about, for who has no photograph at hand: a red apple, a blue cup and a yellow book on a table. */

const WIDTH = 640;
const HEIGHT = 480;

export function drawSample(canvas) {
  Object.assign(canvas, { width: WIDTH, height: HEIGHT });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const fill = (color, draw) => {
    context.fillStyle = color;
    context.beginPath();
    draw();
    context.fill();
  };
  fill("#dfe7ea", () => context.rect(0, 0, WIDTH, HEIGHT));
  fill("#a9743f", () => context.rect(0, 300, WIDTH, HEIGHT - 300));
  fill("#e6b91e", () => context.rect(60, 320, 190, 50));  // the book: its cover, then its pages
  fill("#f7f3e6", () => context.rect(70, 355, 180, 10));
  fill("#24509e", () => context.ellipse(425, 265, 32, 38, 0, 0, 2 * Math.PI));  // the cup: its handle, body and opening
  fill("#dfe7ea", () => context.ellipse(425, 265, 17, 23, 0, 0, 2 * Math.PI));
  fill("#24509e", () => context.rect(300, 210, 120, 140));
  fill("#16305f", () => context.ellipse(360, 210, 60, 16, 0, 0, 2 * Math.PI));
  fill("#b3141f", () => context.ellipse(530, 340, 62, 58, 0, 0, 2 * Math.PI));  // the apple: its body, stem and leaf
  fill("#4a2f16", () => context.rect(527, 262, 7, 32));
  fill("#2f8a3a", () => context.ellipse(552, 272, 22, 9, -0.4, 0, 2 * Math.PI));
}
