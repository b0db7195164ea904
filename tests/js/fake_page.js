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
