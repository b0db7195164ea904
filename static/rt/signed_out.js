// The page after the end of its session: without private content, until the same user signs in again.

/** { signedOut(), resumed() } for the client. */
export function signedOutView({ document, fetch, location, DOMParser }) {
  /** Another account may sign in: the page then says which one. */
  async function nameOther() {
    if (document.visibilityState !== "visible") return;
    const home = fetch(document.querySelector(".navbar-brand").href, { headers: { Accept: "text/html" } });
    const html = await home.then((response) => response.text()).catch(() => null);
    if (html === null) return; // offline
    const page = new DOMParser().parseFromString(html, "text/html");
    const name = page.querySelector(".bar-name .bar-label")?.textContent;
    const notice = document.querySelector("#other_account");
    notice.hidden = !name;
    notice.textContent = notice.dataset.text.replace("{name}", name);
  }

  return {
    /** Removes the private content, and shows the link that signs in and leads back to this page. */
    signedOut() {
      const main = document.querySelector("main");
      const notice = document.querySelector("#signed_out");
      const link = notice.querySelector("a");
      const focused = main.contains(document.activeElement);
      link.href = `${link.href.split("?")[0]}?next=${encodeURIComponent(location.pathname + location.search)}`;
      for (const element of [...main.children]) if (element !== notice) element.remove();
      document.querySelector(".bar")?.remove();
      document.title = document.querySelector(".navbar-brand").textContent;
      notice.hidden = false;
      if (focused) link.focus();
      document.addEventListener("visibilitychange", nameOther);
      nameOther();
    },

    /** Loads the page again; also one that was the response to a form. */
    resumed() {
      location.replace(location.href.split("#")[0]);
    },
  };
}
