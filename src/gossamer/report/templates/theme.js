"use strict";
// What all pages share: elements, and the theme, which is the system's unless the reader chose one.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

const count = (number) => number.toLocaleString("en-US");

const system = matchMedia("(prefers-color-scheme: dark)");
const chosen = document.documentElement.dataset; // "light" or "dark" in its `theme`
const isDark = () => (chosen.theme ? chosen.theme === "dark" : system.matches);

/** Calls back whenever the theme has changed. */
function onTheme(redraw) {
  system.addEventListener("change", redraw);
  document.addEventListener("theme", redraw);
}

(function themeSwitch() {
  const button = document.getElementById("theme");
  // Storage is refused to some pages that are opened as files.
  const stored = (use) => { try { return use(localStorage); } catch { return null; } };
  const show = () => {
    button.textContent = isDark() ? "☀ Light" : "☾ Dark";
    button.setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`);
  };
  const choice = stored((storage) => storage.getItem("gossamer-theme"));
  if (choice === "light" || choice === "dark") chosen.theme = choice;
  button.addEventListener("click", () => {
    chosen.theme = isDark() ? "light" : "dark";
    stored((storage) => storage.setItem("gossamer-theme", chosen.theme));
    document.dispatchEvent(new Event("theme"));
  });
  onTheme(show);
  show();
})();
