// The cases of tests/client_cases.json, which the Python client is tested with as well.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Client } from "../../static/rt/client.js";
import { FakeClock, makeTab } from "./fake_browser.js";

const { cases } = JSON.parse(readFileSync(new URL("../client_cases.json", import.meta.url), "utf8"));

for (const { name, client = "javascript", steps, ...settings } of cases) {
  if (client === "javascript") test(name, () => run(steps, settings));
}

async function run(steps, { since = 1000.25, random = 0.5, transports = [] }) {
  const actions = [];
  const network = new Network(actions);
  const clock = new FakeClock();
  const tab = makeTab({
    since,
    clock,
    random: () => random,
    fetch: network.fetch,
    WebSocket: network.WebSocket,
    pollsOnly: () => transports[0] === "poll",
    ClientClass: recording(actions),
  });
  for (const [index, { expect, state, ...step }] of steps.entries()) {
    actions.length = 0;
    if ("advance" in step) await clock.advance(step.advance);
    perform(step, tab.client, network);
    await clock.advance(0);
    assert.deepEqual({ expect: actions, state: tab.client.state }, { expect, state }, `step ${index}`);
  }
}

function perform(step, client, network) {
  if (step.do === "wake") client.wake({ networkChanged: step.network_changed ?? false });
  else if (step.do) client[step.do]();
  else if (step.merge) client.merge(step.merge);
  else network.perform(step);
}

/** A Client whose calls of the page are actions. */
function recording(actions) {
  return class {
    constructor(env, since, page) {
      const apply = (notifications) => actions.push({ apply: notifications });
      const stop = (status) => () => actions.push({ stop: status });
      return new Client(env, since, { ...page, apply, signedOut: stop(401), offline: stop(403) });
    }
  };
}

/** Numbers every socket and request, and ends them as the steps say. */
class Network {
  #actions;
  #operations = [];

  constructor(actions) {
    this.#actions = actions;
    const network = this;
    this.WebSocket = class {
      constructor(href) {
        this.number = network.#open("websocket", href, this);
      }

      send(data) {
        actions.push({ send: JSON.parse(data), on: this.number });
      }

      close() {
        network.#close(this.number);
      }
    };
  }

  fetch = (href, { signal }) =>
    new Promise((done, fail) => {
      const kind = new URL(href).searchParams.has("wait") ? "longpoll" : "poll";
      const number = this.#open(kind, href, { done, fail });
      signal.addEventListener("abort", () => this.#close(number));
    });

  perform({ on, text, close, reason = "", status, headers, body, fail }) {
    if (text !== undefined) this.#operations[on].onmessage?.({ data: text });
    else if (close) this.#end(on).onclose?.({ code: close, reason });
    else if (status) this.#end(on).done?.(new Response(body, { status, headers }));
    else if (fail) {
      const operation = this.#end(fail);
      if (operation.fail) operation.fail(new TypeError("Failed to fetch"));
      else operation.onclose?.({ code: 1006, reason: "" });
    }
  }

  #open(kind, href, operation) {
    const query = new URL(href).searchParams;
    const hold = query.has("wait") ? { hold: Number(query.get("wait")) } : {};
    this.#actions.push({ open: kind, since: Number(query.get("since")), ...hold });
    this.#operations[0] ??= null;
    return this.#operations.push(operation) - 1;
  }

  #end(number) {
    const operation = this.#operations[number];
    operation.ended = true;
    return operation;
  }

  #close(number) {
    if (!this.#operations[number].ended) this.#actions.push({ close: number });
    this.#end(number);
  }
}
