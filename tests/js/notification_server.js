// An HTTP server with one user's notifications, for tests of the npm package: server-sent events, long poll and poll, with
// a bearer token, for pages of every origin. Answers as docs/protocol.md says.

import { EventEmitter, once } from "node:events";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const TYPE = { problem: "application/problem+json", json: "application/json", stream: "text/event-stream" };

/** Emits "request" for each request. */
export class NotificationServer extends EventEmitter {
  token = "t0ken";
  heartbeat = 20; // seconds
  kinds = []; // of all requests
  targets = [];
  refuses = new Set(); // kinds that get status 502
  #rows = new Map();
  #time = 1732284183.123456;
  #held = new Map(); // open responses: what sends them the new rows
  #server = createServer((request, response) => this.#answer(request, response));

  async start() {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    this.url = `http://127.0.0.1:${this.#server.address().port}`;
    return this;
  }

  stop() {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  publish(data, name = "unread_message_count") {
    this.#time += 1.000001;
    this.#rows.set(name, { name, data, timestamp: this.#time });
    for (const deliver of [...this.#held.values()]) deliver();
  }

  /** Cuts all open responses. */
  cut() {
    for (const response of this.#held.keys()) response.destroy();
    this.#held.clear();
  }

  #answer(request, response) {
    const url = new URL(request.url, this.url);
    const { origin, accept, authorization } = request.headers;
    response.setHeader("Cache-Control", "no-store");
    if (origin) {
      response.setHeader("Access-Control-Allow-Origin", origin);
      response.setHeader("Access-Control-Allow-Headers", "Authorization");
      response.setHeader("Access-Control-Expose-Headers", "Heartbeat, Poll-After, Retry-After");
    }
    if (request.method === "OPTIONS") return response.writeHead(204).end();
    const kind = accept === TYPE.stream ? "sse" : url.searchParams.has("wait") ? "longpoll" : "poll";
    this.kinds.push(kind);
    this.targets.push(request.url);
    this.emit("request");
    if (this.refuses.has(kind)) return response.writeHead(502).end();
    if (authorization !== `Bearer ${this.token}`) return send(response, 401, TYPE.problem, { code: "signed_out" });
    const names = url.searchParams.getAll("name");
    const newer = (since) =>
      [...this.#rows.values()]
        .filter(({ name, timestamp }) => timestamp > since && (!names.length || names.includes(name)))
        .sort((a, b) => a.timestamp - b.timestamp);
    const since = Number(url.searchParams.get("since"));
    if (kind === "sse") return this.#stream(response, since, newer);
    response.setHeader("Poll-After", "1");
    if (newer(since).length || !Number(url.searchParams.get("wait"))) return send(response, 200, TYPE.json, newer(since));
    return this.#hold(response, () => {
      if (!newer(since).length) return;
      this.#held.delete(response);
      send(response, 200, TYPE.json, newer(since));
    });
  }

  #stream(response, since, newer) {
    response.writeHead(200, { "Content-Type": TYPE.stream, Heartbeat: this.heartbeat });
    response.write(":\nretry: 1500\n");
    const deliver = () => {
      for (const row of newer(since)) {
        since = row.timestamp;
        response.write(`id: ${since}\ndata: ${JSON.stringify(row)}\n\n`);
      }
    };
    deliver();
    this.#hold(response, deliver);
  }

  #hold(response, deliver) {
    this.#held.set(response, deliver);
    response.on("close", () => this.#held.delete(response));
  }
}

function send(response, status, type, body) {
  response.writeHead(status, { "Content-Type": type }).end(JSON.stringify(body));
}

// As a program: prints its address, and publishes each line of its input, a JSON value.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const server = await new NotificationServer().start();
  console.log(server.url);
  for await (const line of createInterface({ input: process.stdin })) server.publish(JSON.parse(line));
  server.stop();
}
