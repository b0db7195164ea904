// The page after the end of its session: without private content, until the same user signs in again.

/** { signedOut(), resumed() } for the client. */
export function signedOutView({ document, fetch, location, DOMParser }) {
  /** Another account may have signed in: the page then says which one. */
  async function nameOther() {
    const response = await fetch(document.querySelector(".navbar-brand").href, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const name = page.querySelector(".bar-name")?.textContent;
    const notice = document.querySelector("#other_account");
    if (!name) return;
    notice.textContent = notice.dataset.text.replace("{name}", name);
    notice.hidden = false;
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
      document.querySelector(".bar").remove();
      document.title = document.querySelector(".navbar-brand").textContent;
      notice.hidden = false;
      if (focused) link.focus();
      nameOther().catch(() => {}); // offline: the notice is true all the same
    },

    /** Loads the page again; also one that was the response to a form. */
    resumed() {
      location.replace(location.href.split("#")[0]);
    },
  };
}
