/* Lets models answer in turns whose order rotates, so that what slows the device slows all of them alike. */

const SAMPLES_A_TURN = 5;
const PAUSE_MS = 200;  // between two looks at whether the page is visible again

/* Returns { warmUp, run, stop }. `warmUp` prepares a model, { call, name, objects }, for `run`, and returns what its worker
   found: { tick, repeats }. `run` measures models that are warm, and returns { tick, models, isStopped }; models has
   { samples, rounds, repeats, memoryBytes } of each. `lengths` are the tokens of each timed question. `report` gets what was
   measured after each round. The measurement waits while the page is hidden. */
export function makeTurns() {
  let isStopped = false;

  function warmUp({ call, name, objects }, lengths) {
    return call("warmUp", { model: name, lengths, objects });
  }

  async function run(models, lengths, report) {
    isStopped = false;
    const tick = Math.max(...models.map((model) => model.tick));
    const measured = models.map(({ call, name, repeats }) => ({ call, name, repeats, samples: [], rounds: [] }));
    for (let start = 0; start < lengths.length && !isStopped; start += SAMPLES_A_TURN) {
      const asked = lengths.slice(start, start + SAMPLES_A_TURN);
      for (const model of rotate(measured, start / SAMPLES_A_TURN)) await takeTurn(model, asked);
      report({ done: start + asked.length, total: lengths.length, tick, models: measured });
      await waitUntilVisible(() => isStopped);
    }
    return { tick, models: measured, isStopped };
  }

  const stop = () => {
    isStopped = true;
  };
  return { warmUp, run, stop };
}

function rotate(list, by) {
  const first = by % list.length;
  return [...list.slice(first), ...list.slice(0, first)];
}

/* Adds the samples of one turn to what was measured of a model. */
async function takeTurn(model, lengths) {
  const { samples, memoryBytes } = await model.call("takeTurn", { model: model.name, lengths, repeats: model.repeats });
  model.samples.push(...samples);
  model.rounds.push(lengths.length);
  model.memoryBytes = memoryBytes;
}

/* Waits while the page is hidden and the measurement is not stopped. */
async function waitUntilVisible(isStopped) {
  while (document.hidden && !isStopped()) {
    await new Promise((resume) => setTimeout(resume, PAUSE_MS));
  }
}
