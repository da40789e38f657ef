/* Finds percentiles, and the interval of a ratio, of samples that were taken in turns. */

const RESAMPLES = 1000;
const FEWEST_ROUNDS = 6;  // fewer than 6 all lie on one side of the true ratio in more than 5 % of cases

/* Returns the percentile of the values at a share (0-1), interpolated between neighbours as numpy does. */
export function findPercentile(values, share) {
  const sorted = Float64Array.from(values).sort();
  const position = share * (sorted.length - 1);
  const below = Math.floor(position);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (position - below) * (sorted[above] - sorted[below]);
}

function findMedian(values) {
  return findPercentile(values, 0.5);
}

/* Returns { value, low, high }: the ratio of the medians, and its 95 % interval, for which whole rounds are drawn with
   replacement. `model` and `baseline` are { samples, rounds } of the same rounds. With few rounds, low and high are null. */
export function compare(model, baseline) {
  const modelRounds = splitRounds(model);
  const baselineRounds = splitRounds(baseline);
  const count = Math.min(modelRounds.length, baselineRounds.length);
  const value = findMedian(model.samples) / findMedian(baseline.samples);
  if (count < FEWEST_ROUNDS) return { value, low: null, high: null };
  const random = makeRandom();
  const ratios = [];
  for (let resample = 0; resample < RESAMPLES; resample += 1) {
    const drawn = Array.from({ length: count }, () => Math.floor(random() * count));
    const findDrawnMedian = (rounds) => findMedian(drawn.flatMap((index) => rounds[index]));
    ratios.push(findDrawnMedian(modelRounds) / findDrawnMedian(baselineRounds));
  }
  return { value, low: findPercentile(ratios, 0.025), high: findPercentile(ratios, 0.975) };
}

/* Returns how much slower (above 0) the last third of the samples was than the first. */
export function findDrift(samples) {
  const third = Math.floor(samples.length / 3);
  if (!third) return 0;
  return findMedian(samples.slice(-third)) / findMedian(samples.slice(0, third)) - 1;
}

/* Returns the samples of each round; `rounds` are their counts. */
function splitRounds({ samples, rounds }) {
  let end = 0;
  return rounds.map((count) => {
    end += count;
    return samples.slice(end - count, end);
  });
}

/* Returns a function that gives numbers from 0 to 1, the same after each start of it (a linear congruential generator with
   the constants of Numerical Recipes). */
function makeRandom() {
  let state = 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
