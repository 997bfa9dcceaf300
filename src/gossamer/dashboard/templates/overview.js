// The server writes the table; this page asks for it again while it is looked at.

const POLL = 5000;
let tag = null;

async function refresh() {
  const live = document.getElementById("live");
  try {
    const response = await fetch("/", { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
    if (response.status !== 304) {
      const text = await response.text();
      if (!response.ok) throw new Error(JSON.parse(text).error);
      tag = response.headers.get("ETag");
      const answer = new DOMParser().parseFromString(text, "text/html");
      for (const part of ["h1", "#experiments"]) {
        document.querySelector(part).replaceChildren(...answer.querySelector(part).childNodes);
      }
    }
    live.className = "live on";
    live.textContent = "up to date";
    document.documentElement.dataset.ready = "yes";
  } catch (error) {
    live.className = "live off";
    live.textContent = `not up to date: ${error.message}; asking again`;
  }
}

(async function poll() {
  if (!document.hidden) await refresh();
  setTimeout(poll, POLL);
})();
