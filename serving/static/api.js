// Requests to the server, and its errors as sentences.

let authorization = "";

/** Sends this API key with every request from now on. */
export function useKey(key) {
  // The server compares the bytes of UTF-8; a header holds one character a byte.
  authorization = key && `Bearer ${String.fromCharCode(...new TextEncoder().encode(key))}`;
}

/** An answer other than 2xx, or none. The message is a sentence for people. */
export class ServerError extends Error {
  constructor(message, status = 0, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter; // seconds until the same request may succeed; 0: it will not
  }

  /** Whether a key, or another key, would help. */
  get needsKey() {
    return this.status === 401 || this.status === 403;
  }
}

/** Returns the models that are served; throws a ServerError while the server loads them. */
export async function listModels() {
  await call("readyz");
  return (await call("v1/models")).models;
}

/** Returns the model's output for a text, and the time from sending the text to having the output. */
export async function generate(model, text, signal) {
  const translates = model.task === "translation";
  const languages = translates ? { source: model.source ?? undefined, target: model.target ?? undefined } : {};
  // A sentence over the model's limit is translated in parts; of a long text, the beginning is summarized.
  const truncation = translates ? "split" : "longest_first";
  const started = performance.now();
  const answer = await call(translates ? "v1/translate" : "v1/summarize", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ inputs: text, model: model.id, truncation, ...languages }),
    signal,
  });
  return { output: answer.outputs[0], milliseconds: performance.now() - started };
}

async function call(path, { headers, ...options } = {}) {
  let response, body;
  try {
    response = await fetch(path, {
      ...options,
      headers: { ...headers, ...(authorization && { Authorization: authorization }) },
    });
    body = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server cannot be reached.", 0, 2);
  }
  const answer = parsed(body);
  if (response.ok && answer) return answer;
  const retryAfter = [429, 503].includes(response.status) ? Number(response.headers.get("Retry-After")) || 5 : 0;
  throw new ServerError(sentence(response.status, answer ?? {}, retryAfter), response.status, retryAfter);
}

function parsed(body) {
  try {
    return JSON.parse(body);
  } catch {
    return null; // a proxy's page
  }
}

function sentence(status, problem, retryAfter) {
  const detail = String(problem.detail ?? "no reason was given").replace(/\.$/, "");
  const reasons = (problem.errors ?? []).map(({ message }) => message.replace(/^(is|has) /, "it $1 "));
  switch (status) {
    case 401:
    case 403:
      return authorization ? "The server does not accept this key." : "The server needs a key.";
    case 413:
      return `The text is too long for one request: ${detail}.`;
    case 422:
      return `The server cannot take this text: ${reasons.join("; ") || detail}.`;
    case 429:
      return `The server takes no more requests at the moment. It is asked again in ${retryAfter} s.`;
    case 503:
      return `The server is not ready: ${detail}.`;
    case 504:
      return "The answer took longer than the server allows. A shorter text takes less time.";
    default:
      return `The server answered with error ${status}: ${detail}.`;
  }
}
