// What the client uses of a browser's window, and the events of the page that the client reacts to.

/** The part of `env` that does not depend on the server: network, clocks, timers, storage, tabs. */
export function browserEnvironment(window) {
  return {
    WebSocket: window.WebSocket,
    fetch: (...request) => window.fetch(...request),
    now: () => window.performance.now(),
    wallClock: () => Date.now(),
    setTimeout: (callback, ms) => window.setTimeout(callback, ms),
    clearTimeout: (id) => window.clearTimeout(id),
    random: () => Math.random(),
    storage: () => window.localStorage,
    visible: () => window.document.visibilityState === "visible",
    locks: window.navigator.locks,
    openChannel: window.BroadcastChannel && ((name) => new window.BroadcastChannel(name)),
  };
}

/** Starts `client` (a Leader) once the page is shown, and passes the page's events to it until `signal` is aborted. */
export function followPage(window, client, signal) {
  const { document } = window;
  const listen = (target, type, listener) => target.addEventListener(type, listener, { signal });
  listen(window, "online", () => client.wake({ networkChanged: true }));
  listen(window, "offline", () => client.offline());
  listen(window, "pagehide", () => client.pause());
  listen(window, "pageshow", ({ persisted }) => persisted && client.start());
  listen(document, "freeze", () => client.pause());
  listen(document, "resume", () => client.start());
  listen(document, "visibilitychange", () => client.visibilityChanged());
  if (document.prerendering) document.addEventListener("prerenderingchange", () => client.start(), { once: true, signal });
  else client.start();
}
