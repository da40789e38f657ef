/* From the scores of a model to its answer: probabilities, and whether the model is sure enough to say it. */

/* Returns the softmax of the scores divided by the temperature, as lxcompress/confidence/temperature.py computes it. */
export function findProbabilities(scores, temperature) {
  const scaled = Array.from(scores, (score) => score / temperature);
  const largest = Math.max(...scaled);
  const powers = scaled.map((score) => Math.exp(score - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

/* Returns { best: [{ text, probability }], isSure } of a model's scores: its `top` answers, the most probable first.
   isSure is null if its thresholds were not measured, and false if no threshold keeps the risk. */
export function readAnswer(scores, model, top = 5) {
  const probabilities = findProbabilities(scores, model.temperature);
  const best = probabilities
    .map((probability, index) => ({ text: model.labels[index], probability }))
    .sort((one, other) => other.probability - one.probability)
    .slice(0, top);
  return { best, isSure: model.hasThreshold ? reachesThreshold(best[0], model.threshold) : null };
}

function reachesThreshold({ probability }, threshold) {
  return threshold !== null && probability >= threshold;
}
