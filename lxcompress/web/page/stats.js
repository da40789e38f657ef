/* Percentiles, and the interval of a ratio, of samples that were taken in turns. */

const RESAMPLES = 1000;
const FEW_ROUNDS = 6;  // fewer all lie on one side of the true ratio in more than 5 % of cases

/* The share `at` (0-1) of the sorted values, interpolated between neighbours as numpy does. */
export function findPercentile(values, at) {
  const sorted = Float64Array.from(values).sort(), position = at * (sorted.length - 1), below = Math.floor(position);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (position - below) * (sorted[above] - sorted[below]);
}

/* { value, low, high }: the ratio of the medians, and a 95 % interval by drawing whole rounds with replacement.
   `one` and `baseline` are { samples, rounds } of the same rounds. Without enough rounds, low and high are null. */
export function compare(one, baseline) {
  const ours = splitRounds(one), theirs = splitRounds(baseline), count = Math.min(ours.length, theirs.length);
  const value = findPercentile(one.samples, 0.5) / findPercentile(baseline.samples, 0.5);
  if (count < FEW_ROUNDS) return { value, low: null, high: null };
  const random = makeRandom(), ratios = [];
  for (let resample = 0; resample < RESAMPLES; resample += 1) {
    const drawn = Array.from({ length: count }, () => Math.floor(random() * count));
    const median = (rounds) => findPercentile(drawn.flatMap((round) => rounds[round]), 0.5);
    ratios.push(median(ours) / median(theirs));
  }
  return { value, low: findPercentile(ratios, 0.025), high: findPercentile(ratios, 0.975) };
}

/* How much slower (above 0) the last third of the samples was than the first. */
export function findDrift(samples) {
  const third = Math.floor(samples.length / 3);
  if (!third) return 0;
  return findPercentile(samples.slice(-third), 0.5) / findPercentile(samples.slice(0, third), 0.5) - 1;
}

function splitRounds({ samples, rounds }) {
  let start = 0;
  return rounds.map((count) => samples.slice(start, (start += count)));
}

/* Numbers of 0 to 1 that are the same each time (a linear congruential generator; Numerical Recipes' constants). */
function makeRandom() {
  let state = 1;
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
}
