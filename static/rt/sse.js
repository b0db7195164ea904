// The SSE transport: one response that does not end, read with fetch, since an EventSource cannot send a bearer token.
// See also: connection.js for the interface of transports.

import { get, milliseconds, notificationsUrl, outcome } from "./request.js";
import { Timer } from "./timers.js";

const SILENCE = 2.5; // heartbeats

export function sse(env, connection) {
  const abort = new AbortController();
  const silenceTimer = new Timer(env);
  const close = () => {
    silenceTimer.clear();
    abort.abort();
  };
  const end = (reason) => {
    if (abort.signal.aborted) return;
    close();
    connection.end(reason);
  };
  const fail = () => end({ status: 0 });
  const restartSilenceTimer = (heartbeat) => silenceTimer.set(SILENCE * heartbeat, fail);

  async function follow() {
    const url = notificationsUrl(env.url, connection.since);
    const response = await get(env, url, "text/event-stream", abort.signal);
    if (response.status !== 200) return outcome(response);
    if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) return { status: 0 };
    const heartbeat = milliseconds(response, "Heartbeat") ?? env.heartbeat;
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    const parser = new EventStreamParser();
    for (;;) {
      const { done, value } = await reader.read();
      if (abort.signal.aborted) return undefined;
      if (done) return parser.restarts ? { status: 503, restarts: true } : { status: 0 };
      restartSilenceTimer(heartbeat);
      // Also when the part has no event: a comment is a heartbeat.
      connection.receive(parser.push(decoder.decode(value, { stream: true })));
    }
  }

  restartSilenceTimer(env.heartbeat);
  follow().then(end, fail);
  return { close };
}

/** Parses a stream of server-sent events whose data are notifications. */
export class EventStreamParser {
  restarts = false; // the last line was a `retry` that is not the first one: the server announces that it restarts
  #retries = 0;
  #line = ""; // without its end
  #endedWithReturn = false;
  #data = [];
  #event = "";

  /** The notifications of the events that `text` completes. */
  push(text) {
    const continued = this.#endedWithReturn && text.startsWith("\n") ? text.slice(1) : text;
    if (text) this.#endedWithReturn = text.endsWith("\r");
    const lines = (this.#line + continued).split(/\r\n|\r|\n/);
    this.#line = lines.pop();
    return lines.map((line) => (line ? this.#field(line) : this.#complete())).filter(Boolean);
  }

  #field(line) {
    const [, name, value = ""] = line.match(/^([^:]*)(?:: ?(.*))?$/s);
    if (name === "data") this.#data.push(value);
    if (name === "event") this.#event = value;
    if (name === "retry") this.#retries++;
    this.restarts = name === "retry" && this.#retries > 1; // a stream begins with the first one
  }

  /** Events with a name are reserved for extensions. */
  #complete() {
    const notification = this.#data.length && !this.#event ? parse(this.#data.join("\n")) : null;
    this.#data = [];
    this.#event = "";
    return isNotification(notification) ? notification : undefined;
  }
}

function parse(data) {
  try {
    return JSON.parse(data);
  } catch {
    return undefined;
  }
}

function isNotification(value) {
  return typeof value?.name === "string" && typeof value.timestamp === "number";
}
