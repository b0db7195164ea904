// Subscribes with the npm package, for tests/published.py: `node subscriber.js PACKAGE URL TOKEN...`, one subscription for
// each token. Prints a JSON line for each array that is applied, with the cursor after it, and for each state.

import { pathToFileURL } from "node:url";

import { FakeStorage } from "./fake_browser.js";
import { FakeDocument } from "./fake_page.js";

const [path, url, ...tokens] = process.argv.slice(2);
const document = Object.assign(new FakeDocument(), { baseURI: "https://site.example/page" });
const location = new URL(document.baseURI);
const globals = { fetch, performance, setTimeout, clearTimeout, reportError };
const own = { document, location, navigator: {}, localStorage: new FakeStorage() };
globalThis.window = Object.assign(new EventTarget(), globals, own);

function reportError(error) {
  throw error;
}

const { connect } = await import(pathToFileURL(`${path}/index.js`));
const print = (line) => console.log(JSON.stringify(line));
for (const [number, token] of tokens.entries()) {
  const apply = (notifications) => print({ number, notifications, since: connection.since });
  const connection = connect({ url, token, apply });
  connection.addEventListener("microblog:state", ({ detail }) => print({ number, state: detail }));
}
process.stdin.resume();
process.stdin.on("end", () => process.exit());
