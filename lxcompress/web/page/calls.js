/* The worker's side of calls: answers what the page asks of it.

   A message is { id, call, ... }, where `call` is a name in `calls`. The reply is { id, result } or { id, error, key, detail };
   { id, progress } may come before it. */

/* Answers each message with the function of `calls` that it names; the function gets the message and `report`. */
export function answerCalls(calls) {
  self.onmessage = async ({ data }) => {
    const report = (progress) => self.postMessage({ id: data.id, progress });
    try {
      self.postMessage({ id: data.id, result: await calls[data.call](data, report) });
    } catch (error) {
      self.postMessage({ id: data.id, error: error.message, key: error.key, detail: error.detail });
    }
  };
}
