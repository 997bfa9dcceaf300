// Help in choosing, in the report and the dashboard; what it shows is computed by choice.py.

/** Which trial the weights of the metrics name: the one whose largest weighted loss is smallest
 * (augmented Chebyshev distance to the best values), so that every trial of the frontier can be. */
function weighed(trials, weights) {
  const even = weights.every((weight) => weight === 0);
  const distance = ({ gains }) => {
    const losses = gains.map((gain, at) => (even ? 1 : weights[at]) * (1 - gain));
    return Math.max(...losses) + 0.001 * losses.reduce((sum, loss) => sum + loss, 0);
  };
  return trials.reduce((best, trial) => (distance(trial) < distance(best) ? trial : best));
}

/** Fills the knee, the weights and the costs of steps; `named` is called with the trial that the weights name. */
function choosing(place, choice, named = () => {}) {
  place.hidden = !choice;
  if (!choice) { named(null); return; }
  const part = (name) => place.querySelector(`.${name}`);
  const about = (words, trial) => [`${words}: `, element("b", {}, `trial ${count(trial.number)}`), ` with ${trial.text}. `,
    element("label", { class: "pin" }, pinBox(trial.number), " compare")];
  const knee = choice.trials.find((trial) => trial.number === choice.knee);
  part("knee").replaceChildren(...(knee ? about("The knee, where the frontier bends most", knee) : ["The frontier has no knee."]));
  const name = () => {
    const trial = weighed(choice.trials, place.weights);
    part("weighed").replaceChildren(...about("By these weights", trial));
    named(trial.number);
  };
  const metrics = JSON.stringify(choice.metrics);
  if (place.dataset.metrics !== metrics) { // else the sliders stay as they are, and keep the focus
    place.dataset.metrics = metrics;
    place.weights = choice.metrics.map(() => 50);
    part("weights").replaceChildren(element("legend", {}, "How much each metric matters"),
      ...choice.metrics.map((metric, at) => {
        const id = `${place.id}-weight-${at}`, shown = element("output", { for: id }, "50");
        const slider = element("input", { id, type: "range", min: 0, max: 100, value: 50 });
        slider.addEventListener("input", () => {
          place.weights[at] = slider.valueAsNumber;
          shown.textContent = slider.value;
          place.rename();
        });
        return element("div", { class: "weight" }, element("label", { for: id }, metric), slider, shown);
      }));
  }
  place.rename = name;
  name();
  const { steps } = choice, first = choice.metrics[0];
  if (!part("steps").children.length) place.querySelector("details").open = steps.length <= 12;
  part("steps").replaceChildren(
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "From trial to trial"),
      element("th", { scope: "col", class: "number" }, first),
      ...choice.metrics.slice(1).flatMap((metric) => [element("th", { scope: "col", class: "number" }, metric),
        element("th", { scope: "col", class: "number" }, `${metric} per ${choice.unit}`)]))),
    element("tbody", {}, ...steps.map((step) => element("tr", {},
      element("th", { scope: "row" }, `${count(step.from)} → ${count(step.to)}${step.to === choice.knee ? ", the knee" : ""}`),
      element("td", { class: "number", "data-label": first }, step.gain),
      ...step.changes.flatMap((change) => [
        element("td", { class: "number", "data-label": change.metric }, change.text, change.times ? ` (${change.times})` : ""),
        element("td", { class: "number", "data-label": `${change.metric} per ${choice.unit}` }, change.price)])))));
}

/** Marks the row of the trial that the weights name. */
function markWeighed(root, number) {
  for (const row of root.querySelectorAll("tr[data-number]")) row.classList.toggle("weighed", row.dataset.number === String(number));
}

function pinBox(number) {
  return element("input", { type: "checkbox", "data-pin": number, "aria-label": `Compare trial ${count(number)}`,
    onclick: (event) => event.stopPropagation() });
}

/** Compares the trials that are pinned by checkboxes in a part of the page; returns what shows them again.
 * `known`: the metrics, and trials in words. */
function pinning(root, known) {
  const pinned = new Set();
  const show = () => {
    const { metrics, trials } = known();
    const chosen = [...pinned].map((number) => trials.find((trial) => trial.number === number)).filter(Boolean);
    compare(root.querySelector(".compared"), metrics, chosen);
    for (const box of root.querySelectorAll("input[data-pin]")) box.checked = pinned.has(Number(box.dataset.pin));
  };
  root.addEventListener("change", ({ target }) => {
    if (target.dataset?.pin === undefined) return;
    pinned[target.checked ? "add" : "delete"](Number(target.dataset.pin));
    show();
  });
  return show;
}

/** Trials in columns: the parameters that differ first. */
function compare(section, metrics, trials) {
  section.hidden = !trials.length;
  const all = (kind) => [...new Set(trials.flatMap((trial) => Object.keys(trial.texts)))].filter((key) => key.startsWith(`${kind}:`));
  const cell = (trial, key) => trial.texts[key] ?? "–";
  const differs = (key) => new Set(trials.map((trial) => cell(trial, key))).size > 1;
  const name = (key) => key.slice(key.indexOf(":") + 1);
  const own = new Map(metrics.map((metric) => [`value:${metric.name}`, metric]));
  const groups = [
    ["Parameters that differ", all("parameter").filter(differs)],
    ["Metrics", [...own.keys()]],
    ["Stored with the metrics", all("value").filter((key) => !own.has(key))],
    ["Parameters that agree", all("parameter").filter((key) => !differs(key))],
  ].filter(([, keys]) => keys.length);
  section.querySelector("table").replaceChildren(
    element("thead", {}, element("tr", {}, element("td", {}),
      ...trials.map((trial) => element("th", { scope: "col" }, element("label", { class: "pin" }, pinBox(trial.number), ` trial ${count(trial.number)}`))))),
    ...groups.map(([title, keys]) => element("tbody", {},
      element("tr", { class: "group" }, element("th", { scope: "colgroup", colspan: trials.length + 1 }, title)),
      ...keys.map((key) => element("tr", {},
        element("th", { scope: "row" }, own.get(key)?.label ?? name(key), own.has(key) ? element("small", {}, own.get(key).limit) : null),
        ...trials.map((trial) => element("td", {
          "data-label": `trial ${count(trial.number)}`,
          class: own.has(key) && trial.missed.includes(name(key)) ? "missed" : "",
        }, cell(trial, key))))))));
}
