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
    "#message_count": new FakeElement({}, { textContent: "2" }),
    ".navbar-brand": new FakeElement({}, { textContent: "Microblog" }),
  };
  return { elements, link, content };
}

/** A <time> element as templates/_macros.html renders it. */
export function timeElement(datetime, format = "recent") {
  return new FakeElement({ datetime }, { textContent: "as rendered", dataset: { format } });
}

/** `elements` maps selectors to elements; `times` are the <time> elements. */
export class FakeDocument extends EventTarget {
  visibilityState = "visible";
  prerendering = false;
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
