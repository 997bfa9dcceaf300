// The page draws what the server computes; frontier, hypervolume and figures are the report's.

const $ = (id) => document.getElementById(id);
const writes = document.documentElement.dataset.write === "yes";
const STATES = ["complete", "stopped", "failed", "running", "waiting"];
const POLL = 2000;
const ROWS = 25;

let shown = null;          // the view that is drawn
let rows = [];             // every trial
let changed = {};          // metric -> threshold where it is not the experiment's
let dragged = null;           // the threshold that is being dragged
let stored = false; // whether the table shows what trials returned besides their metrics
let filter = "all", sorting = { key: "number", down: true }, many = ROWS;
// The page asks the server while the browser still compiles plotly.js, which comes after it.
const plotly = new Promise((ready) => document.addEventListener("DOMContentLoaded", ready));
const tags = new Map(), answers = new Map(); // address -> ETag, answer

// Asking the server

function query() {
  const pairs = Object.entries(changed).map(([name, value]) => [`threshold.${name}`, value === null ? "" : value]);
  return pairs.length ? `?${new URLSearchParams(pairs)}` : "";
}

/** The answer, and whether it is another one than the last from this address. */
async function ask(address) {
  const headers = tags.has(address) ? { "If-None-Match": tags.get(address) } : {};
  const response = await fetch(address, { headers, cache: "no-store" });
  if (response.status === 304) return [answers.get(address), false];
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  if (tags.size > 40) { tags.clear(); answers.clear(); }
  tags.set(address, response.headers.get("ETag"));
  answers.set(address, answer);
  return [answer, true];
}

/** kind: "on" where trials run, "off" where the page is not up to date. */
function live(kind, words) {
  $("live").className = `live ${kind}`;
  $("live").textContent = words;
}

// Plots

const widths = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const layout = target._fullLayout;
    if (layout && target.clientWidth && Math.abs(layout.width - target.clientWidth) > 1) Plotly.Plots.resize(target);
  }
});

function place(group, plot) {
  const id = `plot-${plot.key}`;
  let figure = $(id);
  if (!figure) {
    figure = element("figure", { class: `plot${plot.wide ? " wide" : ""}`, id },
      element("figcaption", {}, element("h3", {}), element("p", { class: "key" })),
      element("div", { class: "canvas", role: "img" }));
    $(group).append(figure);
  }
  figure.querySelector("h3").textContent = plot.title;
  figure.querySelector(".key").textContent = plot.note;
  figure.querySelector(".canvas").setAttribute("aria-label", plot.alt);
  return figure.querySelector(".canvas");
}

async function draw(group, plots) {
  const section = $(group).closest(".panels");
  const wanted = new Set(plots.map((plot) => `plot-${plot.key}`));
  for (const old of [...$(group).children]) {
    if (wanted.has(old.id)) continue;
    const canvas = old.querySelector(".canvas");
    for (const observer of [widths, sight]) observer.unobserve(canvas);
    later.delete(canvas);
    seen.delete(canvas);
    Plotly.purge(canvas);
    old.remove();
  }
  if (section) section.hidden = !plots.length && !section.querySelector(".plot");
  // All places first: each plot is drawn as wide as it stays.
  const places = plots.map((plot) => place(group, plot));
  for (const [index, plot] of plots.entries()) {
    const canvas = places[index];
    canvas.style.minHeight = `${plot.figure.layout.height}px`;
    const paint = () => paintPlot(canvas, group, plot);
    if (group === "scatter" || seen.has(canvas)) await paint(); else later.set(canvas, paint);
    sight.observe(canvas);
  }
}

// What is out of sight is drawn when it comes near: a page of many trials opens sooner.
const later = new Map(), seen = new Set();
const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) { seen.delete(target); continue; }
    seen.add(target);
    const paint = later.get(target);
    later.delete(target);
    if (paint) paint();
  }
}, { rootMargin: "300px" });

async function paintPlot(canvas, group, plot) {
  await plotly;
  const figure = themed(plot.figure);
  const first = !canvas.classList.contains("js-plotly-plot");
  figure.layout.uirevision = "same"; // a zoom survives new trials
  if (dragged && group === "scatter" && !first) { // the ground must not move under the pointer
    for (const axis of ["xaxis", "yaxis"]) figure.layout[axis].range = canvas._fullLayout[axis].range.slice();
  }
  legend(canvas, figure);
  fit(canvas, figure);
  await Plotly.react(canvas, figure.data, figure.layout, CONFIG);
  if (first) {
    widths.observe(canvas);
    canvas.on("plotly_click", (event) => {
      const number = event.points[0].customdata;
      if (Number.isInteger(number)) detail(number);
    });
    if (group === "scatter") canvas.on("plotly_afterplot", () => handles(canvas, plot.key));
  }
  if (group === "scatter") handles(canvas, plot.key);
}

// Thresholds: a handle over each dashed line of the scatters

function threshold(name) {
  return name in changed ? changed[name] : shown.metrics.find((m) => m.name === name).stored;
}

function set(name, value) {
  const metric = shown.metrics.find((m) => m.name === name);
  if (value === metric.stored) delete changed[name]; else changed[name] = value;
}

function handles(canvas, key) {
  const [, upright, level] = key.split("-").map(Number); // scatter-FIRST-SECOND
  const area = canvas._fullLayout._size;
  for (const [letter, index] of [["x", level], ["y", upright]]) {
    const metric = shown.metrics[index], axis = canvas._fullLayout[`${letter}axis`];
    let handle = canvas.querySelector(`.handle.${letter}`);
    const value = threshold(metric.name);
    const at = value === null ? NaN : axis.d2p(value);
    if (!(at >= -1 && at <= axis._length + 1)) { if (handle) handle.remove(); continue; }
    if (!handle) {
      handle = element("div", { class: `handle ${letter}`, role: "slider", tabindex: "0" }, element("output"));
      handle.addEventListener("pointerdown", (event) => grab(event, canvas, letter, metric.name, key));
      handle.addEventListener("keydown", (event) => nudge(event, canvas, letter, metric.name));
      canvas.append(handle);
    }
    handle.setAttribute("aria-label", `Threshold of ${metric.name}`);
    handle.setAttribute("aria-valuenow", value);
    handle.setAttribute("aria-valuetext", value);
    handle.querySelector("output").textContent = value;
    const style = letter === "x"
      ? { left: `${area.l + at}px`, top: `${area.t}px`, height: `${area.h}px` }
      : { top: `${area.t + at}px`, left: `${area.l}px`, width: `${area.w}px` };
    Object.assign(handle.style, style);
  }
}

/** A value of the axis with the digits that a pixel tells apart. */
function rounded(axis, pixel) {
  const value = axis.p2d(pixel), step = Math.abs(axis.p2d(pixel + 1) - value);
  const digits = Math.ceil(Math.log10(Math.abs(value) / step)) + 1;
  return Number(value.toPrecision(Math.min(15, Math.max(1, digits || 1))));
}

function moved(canvas, letter, name, pixel) {
  const axis = canvas._fullLayout[`${letter}axis`];
  set(name, rounded(axis, Math.min(axis._length, Math.max(0, pixel))));
  for (const scatter of $("scatter").querySelectorAll(".canvas")) {
    handles(scatter, scatter.parentElement.id.replace("plot-", ""));
  }
  limits();
  drag();
}

function grab(event, canvas, letter, name) {
  event.preventDefault();
  event.stopPropagation();
  const handle = event.currentTarget;
  handle.setPointerCapture(event.pointerId);
  handle.classList.add("dragged");
  dragged = name;
  const move = (at) => {
    const box = canvas.getBoundingClientRect(), area = canvas._fullLayout._size;
    moved(canvas, letter, name, letter === "x" ? at.clientX - box.left - area.l : at.clientY - box.top - area.t);
  };
  const drop = () => {
    handle.classList.remove("dragged");
    handle.removeEventListener("pointermove", move);
    dragged = null;
    refresh();
  };
  handle.addEventListener("pointermove", move);
  handle.addEventListener("lostpointercapture", drop, { once: true });
}

function nudge(event, canvas, letter, name) {
  const steps = { ArrowLeft: -1, ArrowDown: letter === "y" ? 1 : -1, ArrowRight: 1, ArrowUp: letter === "y" ? -1 : 1 };
  if (!(event.key in steps)) return;
  event.preventDefault();
  const axis = canvas._fullLayout[`${letter}axis`];
  moved(canvas, letter, name, axis.d2p(threshold(name)) + steps[event.key] * (event.shiftKey ? 20 : 2));
  clearTimeout(nudge.later);
  nudge.later = setTimeout(refresh, 400);
}

// While a threshold moves, one question at a time is under way, and the last one is asked.
let asking = false, again = false;
async function drag() {
  if (asking) { again = true; return; }
  asking = true;
  try {
    do {
      again = false;
      const asked = query(), [view] = await ask(`api/view${asked}`);
      if (dragged || asked === query()) await show(view); // else a newer answer may be shown
    } while (again);
  } catch (error) { live("off", error.message); } finally { asking = false; }
}

function limits() {
  for (const metric of shown.metrics) {
    const id = `limit-${shown.metrics.indexOf(metric)}`;
    let row = $(id);
    if (!row) {
      const input = element("input", { id: `${id}-value`, type: "number", step: "any", placeholder: "none" });
      input.addEventListener("change", () => {
        if (!input.checkValidity()) return;
        const value = input.value === "" ? null : Number(input.value);
        if (value === null && !metric.optimized) { limits(); return; }
        set(metric.name, value);
        refresh();
      });
      row = element("div", { class: "limit", id },
        element("label", { for: `${id}-value` }, metric.name, element("small", {})),
        element("span", { "aria-hidden": "true" }, metric.goal === "maximize" ? "≥" : "≤"), input);
      $("limits").append(row);
    }
    const differs = metric.name in changed;
    row.classList.toggle("changed", differs);
    row.querySelector("small").textContent =
      [metric.role, metric.split, differs ? `stored: ${metric.storedText}` : ""].filter(Boolean).join(", ");
    const input = row.querySelector("input"), value = threshold(metric.name);
    if (document.activeElement !== input || dragged) input.value = value === null ? "" : value;
  }
  const any = Object.keys(changed).length > 0;
  $("reset").hidden = !any;
  if (writes) $("store").hidden = !any;
  for (const kind of ["csv", "json"]) $(kind).href = `export.${kind}${query()}`;
}

async function store() {
  $("store").disabled = true;
  try {
    const response = await fetch("api/thresholds", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(changed),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    changed = {};
    $("message").textContent = "Stored: the next suggestions are made for these thresholds.";
    await refresh();
  } catch (error) {
    $("message").textContent = `Not stored: ${error.message}`;
  } finally { $("store").disabled = false; }
}

// What is next to the plots

function numbers(view) {
  const total = Math.max(view.budget, STATES.reduce((sum, state) => sum + view.worth[state], 0));
  $("bar").replaceChildren(...STATES.filter((s) => s !== "waiting" && view.states[s]).map((state) => {
    const part = element("i", { class: state });
    part.style.width = `${100 * view.worth[state] / total}%`;
    return part;
  }));
  $("states").replaceChildren(
    element("strong", {}, view.ended),
    ...STATES.filter((s) => view.states[s]).map((state) =>
      element("span", { class: state }, element("b", {}, count(view.states[state])), ` ${state === "stopped" ? "stopped early" : state}${state === "complete" && view.cheaper ? ` (${count(view.cheaper)} of a cheaper task)` : ""}`)),
    view.sign ? element("span", { class: "sign" }, view.sign) : "");
  $("inside").textContent = count(view.inside);
  $("best-count").textContent = count(view.frontier.length);
  $("best-kind").textContent = view.place;
  [$("volume-name").textContent, $("volume").textContent] = view.measure;
  $("left").textContent = view.timeLeft;
  $("best-title").textContent = view.title;
  const listed = view.best.length < view.frontier.length ? ` The first ${view.best.length} are listed.` : "";
  const verdict = `${view.verdict.charAt(0).toUpperCase()}${view.verdict.slice(1)}.`;
  $("verdict").textContent = `${verdict}${listed}`;
  $("scatter").dataset.empty = verdict; // shown where there is no plot yet
  const names = view.metrics.map((m) => m.name);
  $("best").hidden = !view.best.length;
  $("best").replaceChildren(
    element("thead", {}, element("tr", {}, element("th", {}, "trial"),
      ...view.metrics.map((m) => element("th", { class: "metric" }, m.label)), ...view.parameters.map((n) => element("th", {}, n)))),
    element("tbody", {}, ...view.best.map((trial) => element("tr", { class: "link", "data-number": trial.number, onclick: () => detail(trial.number) },
      element("td", { class: "trial" }, pinBox(trial.number), opener(trial.number), trial.note ? element("small", { class: "note" }, trial.note) : null),
      ...names.map((n) => element("td", { "data-label": view.metrics.find((m) => m.name === n).label, class: `metric${trial.missed.includes(n) ? " missed" : ""}` }, trial.values[n])),
      ...view.parameters.map((n) => element("td", { "data-label": n }, trial.parameters[n]))))));
}

function opener(number) {
  return element("button", { type: "button", "aria-label": `Details of trial ${number}`, onclick: (event) => { event.stopPropagation(); detail(number); } }, count(number));
}

function fill(title, pairs) {
  const listed = Object.entries(pairs);
  if (!listed.length) return null;
  return element("div", {}, element("h3", {}, title), element("table", {}, element("tbody", {},
    ...listed.map(([name, value]) => element("tr", {}, element("td", {}, name), element("td", {}, String(value)))))));
}

/** What a trial's texts hold of a kind, by name. */
function texts(trial, kind) {
  return Object.fromEntries(Object.entries(trial.texts)
    .filter(([key]) => key.startsWith(`${kind}:`)).map(([key, text]) => [key.slice(kind.length + 1), text]));
}

/** Images are shown, other files linked. */
function attached(trial) {
  if (!trial.files.length) return null;
  const address = (file) => `files/${trial.number}/${file.name.split("/").map(encodeURIComponent).join("/")}`;
  return element("div", { class: "files" }, element("h3", {}, "Files"),
    ...trial.files.map((file) => element("p", {},
      element("a", { href: address(file), target: "_blank", rel: "noopener" }, file.name), ` ${file.size}`,
      file.kind === "image" ? element("img", { src: address(file), alt: `${file.name} of trial ${count(trial.number)}`, loading: "lazy" }) : null)));
}

function detail(number) {
  const trial = rows.find((row) => row.number === number);
  if (!trial) return;
  $("detail-title").textContent = `Trial ${count(number)}`;
  const place = trial.state !== "complete" ? "" : trial.inside ? ", inside the thresholds" : ", outside the thresholds";
  const facts = { state: trial.state === "stopped" ? "stopped early" : trial.state + place, time: trial.texts.seconds };
  if (trial.fidelity) facts["cheaper task"] = trial.fidelity;
  if (trial.worker) facts.worker = trial.worker;
  if (trial.attempts > 1) facts.attempts = trial.attempts;
  if (trial.reports) facts["reports while training"] = trial.reports;
  if (trial.continued) facts["times as long"] = 2 ** trial.continued;
  if (Number.isInteger(trial.origin)) facts[trial.continued ? "continues trial" : "repeats trial"] = trial.origin;
  $("detail-body").replaceChildren(...[
    element("label", { class: "pin" }, pinBox(number), " compare with other trials"),
    trial.reason ? element("p", { class: "why" }, trial.reason) : null,
    trial.note ? element("p", {}, trial.note) : null,
    fill("Values", texts(trial, "value")), fill("Expected at the end, when it was stopped", texts(trial, "expected")),
    fill("Parameters", texts(trial, "parameter")), attached(trial), fill("About", facts)].filter((part) => part !== null));
  showPins();
  $("detail").showModal();
}

function cell(row, key) {
  const [kind, ...rest] = key.split(":"), name = rest.join(":");
  return kind === "value" ? row.values[name] : kind === "parameter" ? row.parameters[name] : row[kind];
}

function table() {
  const states = ["all", "inside", ...STATES];
  const matches = (state) => (row) => state === "all" || (state === "inside" ? row.inside : row.state === state);
  $("filters").replaceChildren(...states.map((state) => [state, rows.filter(matches(state)).length])
    .filter(([state, size]) => size || state === "all")
    .map(([state, size]) => element("button", { type: "button", "aria-pressed": String(state === filter),
      onclick: () => { filter = state; many = ROWS; table(); } }, `${state === "stopped" ? "stopped early" : state} ${count(size)}`)));
  if (shown.beside.length) $("filters").append(element("button", { type: "button", "aria-pressed": String(stored),
    onclick: () => { stored = !stored; table(); } }, `stored values ${count(shown.beside.length)}`));
  const columns = [["number", "trial"], ["state", "state"], ...shown.metrics.map((m) => [`value:${m.name}`, m.label]),
    ...(stored ? shown.beside : []).map((n) => [`value:${n}`, n]),
    ...shown.parameters.map((n) => [`parameter:${n}`, n]), ["seconds", "time"], ["reason", "reason or note"]];
  const matching = rows.filter(matches(filter));
  const missing = (v) => v === null || v === undefined;
  matching.sort((a, b) => {
    const x = cell(a, sorting.key), y = cell(b, sorting.key);
    if (missing(x) || missing(y)) return missing(x) - missing(y);
    const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
    return sorting.down ? -order : order;
  });
  const head = columns.map(([key, name]) => element("th", {
    class: key.startsWith("value:") ? "metric" : "",
    "aria-sort": sorting.key !== key ? null : sorting.down ? "descending" : "ascending" },
    element("button", { type: "button", onclick: () => {
      sorting = { key, down: sorting.key === key ? !sorting.down : false };
      table();
    } }, name + (sorting.key !== key ? "" : sorting.down ? " ↓" : " ↑"))));
  const body = matching.slice(0, many).map((row) => element("tr", { class: "link", onclick: () => detail(row.number) },
    ...columns.map(([key, name]) => {
      if (key === "number") return element("td", { class: "trial" }, opener(row.number));
      if (key === "state") return element("td", {}, element("span", { class: `state ${row.state}` }, row.state === "stopped" ? "stopped early" : row.state),
        row.fidelity ? element("small", { class: "note" }, row.fidelity) : null);
      if (key === "reason") return element("td", { class: "reason" }, [row.reason, row.note].filter(Boolean).join("; "));
      return element("td", { "data-label": name, class: key.startsWith("value:") ? "metric" : "" }, row.texts[key] ?? "–");
    })));
  $("trials").replaceChildren(element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
  $("more").hidden = matching.length <= many;
  $("more").textContent = `Show more (${count(matching.length - many)} left)`;
}

// The whole page

const showPins = pinning(document.body, () => ({ metrics: shown.metrics, trials: rows }));

async function show(view) {
  shown = view;
  numbers(view);
  $("choosing").hidden = !view.choice;
  choosing($("choice"), view.choice, (number) => { markWeighed($("best"), number); showPins(); });
  limits();
  for (const [group, plots] of Object.entries(view.plots)) await draw(group, plots);
}

/** What is further down: asked for when the upper part is drawn. */
async function showBelow(asked) {
  const [plots] = await ask(`api/plots${asked}`);
  for (const [group, listed] of Object.entries(plots)) await draw(group, listed);
  [rows] = await ask(`api/trials${asked}`);
  table();
  showPins();
}

let drawn = "", busy = false, wanted = false;
async function refresh() {
  if (busy) { wanted = true; return; }
  busy = true;
  try {
    do {
      wanted = false;
      const asked = query(), address = `api/view${asked}`;
      const [view] = await ask(address);
      if (dragged || asked !== query()) continue; // moved on meanwhile
      if (drawn !== `${view.version}${asked}${isDark()}`) {
        await show(view);
        if (!drawn) performance.mark("drawn");
        await showBelow(asked);
        if (!drawn) performance.mark("complete");
        drawn = `${view.version}${asked}${isDark()}`;
      }
      document.documentElement.dataset.ready = "yes";
      live(view.running ? "on" : "", view.running ? `live, ${count(view.running)} running` : "up to date, nothing runs");
    } while (wanted);
  } catch (error) {
    live("off", `not up to date: ${error.message}; asking again`);
  } finally { busy = false; }
}

let slowTheme = "";
/** The panels that take seconds to compute. */
async function slow() {
  if (!shown) return;
  try {
    const [answer, isNew] = await ask("api/slow");
    if (!isNew && slowTheme === String(isDark())) return;
    for (const [group, plots] of Object.entries(answer.plots)) await draw(group, plots);
    slowTheme = String(isDark());
    $("slow-note").textContent = answer.of
      ? `From ${count(answer.of)} complete trials.`
      : answer.coming ? "Being computed …" : "Computed from 10 complete trials, and two a parameter, on.";
  } catch { /* refresh says so */ }
}

$("reset").addEventListener("click", () => { changed = {}; $("message").textContent = ""; refresh(); });
if (writes) $("store").addEventListener("click", store);
$("more").addEventListener("click", () => { many += 200; table(); });
onTheme(() => { refresh(); slow(); });

(async function poll() {
  if (!dragged && !document.hidden) { await refresh(); await slow(); }
  setTimeout(poll, POLL);
})();
