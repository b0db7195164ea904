// The custom element <unread-badge>: a live number, for example of unread messages. See also: README.md.

import { Announcer } from "./announcer.js";
import { browserEnvironment } from "./environment.js";
import { connect } from "./index.js";

const TAG = "unread-badge";
const MOST = 99; // a larger number is shown as "99+"
const LABELS = { one: "{n} unread message", other: "{n} unread messages" };
const STYLE = `
  :host { display: inline-block; position: relative; }
  :host([hidden]), [hidden] { display: none; }
  [part=badge]:not([hidden]) {
    display: inline-block;
    box-sizing: border-box;
    min-width: 1.6em;
    padding: 0.3em 0.45em;
    border: 1px solid transparent; /* visible in forced colours */
    border-radius: 1em;
    background: var(--unread-badge-background, #c92a2a);
    color: var(--unread-badge-color, #fff);
    font: 700 0.75em / 1 system-ui, sans-serif;
    font-variant-numeric: tabular-nums;
    text-align: center;
    white-space: nowrap;
  }
  [part=status] {
    position: absolute;
    width: 1px;
    height: 1px;
    overflow: hidden;
    clip-path: inset(50%);
    white-space: nowrap;
  }
`;

let sheet;

// Servers that render pages import this module as well, and have no elements.
export class UnreadBadge extends (globalThis.HTMLElement ?? Object) {
  static observedAttributes = ["url", "token", "cookies", "name"];
  #badge;
  #status;
  #announcer = null; // null until the first number
  #count = 0; // the latest one received
  #refused = false; // the server has refused the token or session: nothing is shown
  #token = null; // the property
  #connection = null;
  #settings = null; // those of #connection
  #updating = false;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    // A style element would need the permission of the page's Content-Security-Policy.
    sheet ??= styleSheet();
    root.adoptedStyleSheets = [sheet];
    root.innerHTML = `<span part="badge" role="img" hidden></span><span part="status" role="status"></span>`;
    [this.#badge, this.#status] = root.children;
  }

  /** The number shown; 0 before the first response, and after a refusal. */
  get count() {
    return this.#refused ? 0 : this.#count;
  }

  /** A string, or a function that returns one or a promise of one. Not reflected by the attribute. */
  get token() {
    return this.#token ?? this.getAttribute("token");
  }

  set token(token) {
    this.#token = token;
    this.#update();
  }

  connectedCallback() {
    if (Object.hasOwn(this, "token")) {
      // Set before the element was defined.
      const { token } = this;
      delete this.token;
      this.token = token;
    }
    this.#update();
  }

  disconnectedCallback() {
    this.#update();
  }

  attributeChangedCallback() {
    this.#update();
  }

  /** Connects as the attributes say, once for all changes of a task; an element that is only moved stays connected. */
  #update() {
    if (this.#updating) return;
    this.#updating = true;
    queueMicrotask(() => {
      this.#updating = false;
      const settings = this.#wanted();
      if (same(settings, this.#settings)) return;
      this.#close();
      this.#settings = settings;
      if (settings) this.#open(settings);
    });
  }

  /** The options of connect(), or null while they are incomplete. */
  #wanted() {
    const url = this.getAttribute("url");
    const token = this.token ?? undefined;
    const cookies = this.hasAttribute("cookies");
    if (!this.isConnected || !url || !(token || cookies)) return null;
    return { url, token, cookies, name: this.getAttribute("name") ?? "unread_message_count" };
  }

  #open({ name, ...options }) {
    const apply = (notifications) => this.#received(count(notifications.at(-1).data));
    this.#connection = connect({ ...options, names: [name], target: this, apply });
    this.#connection.addEventListener("microblog:state", ({ detail }) => this.#stateChanged(detail));
    this.#stateChanged(this.#connection.state);
  }

  #close() {
    this.#connection?.close();
    this.#connection = null;
    this.#count = 0;
    this.#show();
    this.#announcer = null;
  }

  #received(count) {
    this.#count = count;
    // Announces what grows from now on, not the first number.
    this.#announcer ??= new Announcer(browserEnvironment(window), document, this.#status, this.#language, count);
    this.#show();
  }

  #stateChanged(state) {
    this.setAttribute("state", state);
    const refused = state === "signed-out" || state === "forbidden";
    if (refused === this.#refused || state === "connecting") return;
    this.#refused = refused;
    this.#show();
  }

  #show() {
    const n = this.count;
    this.#badge.hidden = n === 0;
    if (!this.#announcer) return;
    const other = this.getAttribute("label") ?? LABELS.other;
    const one = this.getAttribute("label-one") ?? this.getAttribute("label") ?? LABELS.one;
    Object.assign(this.#status.dataset, { one, other });
    this.#badge.textContent = n > MOST ? `${MOST}+` : String(n);
    this.#badge.setAttribute("aria-label", this.#announcer.sentence(n));
    this.#announcer.update(n);
  }

  /** The language of the labels: the page's, if the page gave them. */
  get #language() {
    const language = this.hasAttribute("label") ? this.closest("[lang]")?.lang : "en";
    try {
      return Intl.getCanonicalLocales(language)[0] ?? "en";
    } catch {
      return "en"; // no language tag
    }
  }
}

function styleSheet() {
  const created = new CSSStyleSheet();
  created.replaceSync(STYLE);
  return created;
}

function same(a, b) {
  return a === b || (a && b && Object.keys(a).every((key) => a[key] === b[key]));
}

/** The number in a notification's data; 0 for anything else. */
function count(data) {
  return Number.isFinite(data) && data > 0 ? data : 0;
}

// Two copies of this module may be on one page.
if (globalThis.customElements && !customElements.get(TAG)) customElements.define(TAG, UnreadBadge);
