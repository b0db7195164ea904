// A page without a browser: only the elements and events that the browser module uses.

export class FakeElement extends EventTarget {
  hidden = false;
  textContent = "";
  title = "";
  dataset = {};

  constructor(attributes = {}, fields = {}) {
    super();
    this.attributes = attributes;
    Object.assign(this, fields);
  }

  getAttribute(name) {
    return this.attributes[name];
  }

  contains(element) {
    return this.children?.includes(element) ?? false;
  }

  focus() {
    this.focused = true;
  }
}

/** The elements that signed_out.js changes: a link in its notice, and other content. */
export function signedOutElements() {
  const link = new FakeElement({}, { href: "https://example.org/auth/login" });
  const notice = new FakeElement({}, { hidden: true, querySelector: () => link });
  const content = new FakeElement({}, { remove: () => main.children.pop() });
  const main = new FakeElement({}, { children: [notice, content] });
  const elements = {
    main,
    "#signed_out": notice,
    ".navbar-brand": new FakeElement({}, { textContent: "Microblog" }),
    ".bar": new FakeElement({}, { remove() {} }),
  };
  return { elements, link, content };
}

/** A <time> element as templates/_macros.html renders it. */
export function timeElement(datetime, format = "recent") {
  return new FakeElement({ datetime }, { textContent: "as rendered", dataset: { format } });
}

/** The elements that show the number of unread messages, by selector. */
export function badgeElements(count) {
  const number = new FakeElement({}, { hidden: !count, textContent: String(count), dataset: { count: String(count) } });
  const announcer = new FakeElement({}, { dataset: { one: "{n} unread message", other: "{n} unread messages" } });
  const icon = new FakeElement({}, { href: "/static/favicon.svg" });
  const text = new FakeElement();
  return { ...otherBadges(), "#message_count": number, "#message_count_text": text, "#announcer": announcer, "link[rel=icon]": icon };
}

/** The badges of new posts and of unread mentions, which show nothing. */
function otherBadges() {
  const sentences = (what) => ({ one: `{n} ${what}`, other: `{n} ${what}s` });
  const elements = { "#mention_announcer": new FakeElement({}, { dataset: sentences("unread mention") }) };
  for (const [name, what] of [
    ["post", "new post"],
    ["mention", "unread mention"],
  ]) {
    elements[`#${name}_count`] = new FakeElement({}, { hidden: true, textContent: "0", dataset: { count: "0" } });
    elements[`#${name}_count_text`] = new FakeElement({}, { dataset: sentences(what) });
  }
  return elements;
}

/** `elements` maps selectors to elements; `times` are the <time> elements. */
export class FakeDocument extends EventTarget {
  visibilityState = "visible";
  prerendering = false;
  title = "People - Microblog";
  documentElement = { lang: "en" };
  body = new FakeElement();

  constructor(elements = {}, times = []) {
    super();
    this.elements = elements;
    this.times = times;
  }

  querySelector(selector) {
    return this.elements[selector] ?? null;
  }

  querySelectorAll() {
    return this.times;
  }

  setVisibility(visibilityState) {
    this.visibilityState = visibilityState;
    this.dispatchEvent(new Event("visibilitychange"));
  }
}
