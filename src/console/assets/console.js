// What a page does beyond reading: it puts in what has changed, as the server sends it. Without this script it is read as it was made.
(() => {
  "use strict";
  document.documentElement.classList.add("js");
  const live = document.getElementById("live");
  if (!live) return;

  const link = document.getElementById("link");
  const ended = () => live.querySelector("[data-ended]")?.dataset.ended === "true";
  const wasOpen = !ended();
  let source;

  // Makes `before` look like `after`, and leaves alone what is the same: where somebody reads, selects or scrolls, nothing jumps.
  // Rows go by their key, so that a mark stays with its job when others come in above it.
  function become(before, after) {
    const keyed = new Map([...before.children].filter((row) => row.dataset.key).map((row) => [row.dataset.key, row]));
    const fresh = [...after.childNodes];
    for (let index = 0; index < fresh.length; index++) {
      const is = fresh[index];
      let was = before.childNodes[index];
      const key = is.dataset?.key;
      if (key) {
        const same = keyed.get(key) ?? is;
        if (same !== was) before.insertBefore(same, was ?? null);
        was = same;
      }
      if (!was) before.append(is);
      else if (was === is || was.isEqualNode(is)) continue;
      else if (was.nodeType === 1 && is.nodeType === 1 && was.tagName === is.tagName) {
        for (const {name} of [...was.attributes]) if (!is.hasAttribute(name)) was.removeAttribute(name);
        for (const {name, value} of is.attributes) if (was.getAttribute(name) !== value) was.setAttribute(name, value);
        become(was, is);
      } else was.replaceWith(is);
    }
    while (before.childNodes.length > fresh.length) before.lastChild.remove();
  }

  function connect() {
    source = new EventSource(live.dataset.live);
    source.onopen = () => (link.textContent = "· live");
    source.onmessage = ({data}) => {
      const made = new DOMParser().parseFromString(data, "text/html").body;
      become(live, made);
      // What it found is on the page that the server makes now.
      if (wasOpen && ended() && live.querySelector("[data-ended]")) {
        source.close();
        location.reload();
      }
    };
    source.onerror = () => {
      link.textContent = "· connecting";
      // An answer that is none (a session that is over) ends it for good: the page itself says why.
      if (source.readyState === EventSource.CLOSED) link.textContent = "· not live: load the page anew";
    };
  }

  // A page that nobody sees needs nothing.
  document.addEventListener("visibilitychange", () => {
    source?.close();
    if (document.hidden) link.textContent = "";
    else connect();
  });
  if (!document.hidden) connect();
})();
