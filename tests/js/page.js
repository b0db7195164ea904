// A page without a browser: just the elements and events that the browser module knows.

export class Element extends EventTarget {
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

/** The form of the messages page, and its button. */
export function readForm() {
  const button = new Element();
  const elements = [
    { type: "hidden", name: "csrf_token", value: "t0ken" },
    { type: "hidden", name: "up_to", value: "2024-11-22T14:00:00+00:00" },
    { type: "submit", name: "", value: "" },
  ];
  const form = new Element({ action: "/messages/read" }, { elements, querySelectorAll: () => [button] });
  return { form, button };
}

/** `elements`: what each selector finds. */
export class Document extends EventTarget {
  visibilityState = "visible";
  prerendering = false;
  documentElement = { lang: "en" };
  body = new Element();

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

  becomes(visibilityState) {
    this.visibilityState = visibilityState;
    this.dispatchEvent(new Event("visibilitychange"));
  }
}
