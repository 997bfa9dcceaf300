// What the report and the dashboard share: how a plot and its legend are drawn.

const DARK = JSON.parse(document.documentElement.dataset.dark);
const CONFIG = {
  displaylogo: false, plotlyServerURL: "",
  // Without a pointer that hovers the buttons would always cover the plot.
  displayModeBar: matchMedia("(hover: hover)").matches && "hover",
  // Named one by one: plotly's own list has one that uploads the plot.
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
};

/** The figure in the colors of the theme. */
function themed(figure, light = !isDark()) {
  let text = JSON.stringify(figure);
  if (!light) for (const [color, other] of Object.entries(DARK)) text = text.replaceAll(color, other);
  return JSON.parse(text);
}

const ENTITIES = { "&lt;": "<", "&gt;": ">", "&amp;": "&" };
/** A text of plotly's, whose names are escaped, as it reads. */
const unescaped = (text) => text.replace(/&(lt|gt|amp);/g, (entity) => ENTITIES[entity]);
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** A name without its middle, if it is longer than `room` pixels: plotly would cut off both ends. */
function shortened(text, room) {
  const name = unescaped(text), most = Math.max(Math.floor(room / 7), 12);
  if (name.length <= most) return text;
  return escaped(`${name.slice(0, Math.ceil(most / 2))}…${name.slice(1 - Math.floor(most / 2))}`);
}

/** Shortens the names along axes that are longer than these. */
function fit(canvas, figure) {
  const margin = figure.layout.margin ?? figure.layout.template.layout.margin;
  for (const [key, axis] of Object.entries(figure.layout)) {
    if (!/^[xy]axis/.test(key) || !axis.title?.text) continue;
    const room = key[0] === "x" ? canvas.clientWidth - margin.l - margin.r : figure.layout.height - margin.t - margin.b;
    axis.title.text = shortened(axis.title.text, room);
  }
  // Labels of parallel axes are centered above them, the outer ones above the margin.
  const room = 2 * (margin.l ?? 70);
  for (const trace of figure.data) {
    for (const part of trace.dimensions ?? []) {
      part.label = shortened(part.label, room);
      if (part.ticktext) part.ticktext = part.ticktext.map((name) => shortened(name, room));
    }
    const bar = trace.line?.colorbar?.title;
    if (bar?.text) bar.text = shortened(bar.text, room);
  }
}

/** Draws the legend above the plot, where it takes no room from it; a click hides a trace. */
function legend(canvas, figure) {
  const hidden = canvas.hiddenTraces ??= new Set();
  const group = (trace) => trace.legendgroup ?? trace.name;
  const named = figure.data.filter((trace) => trace.name && trace.showlegend !== false && trace.visible !== false);
  let list = canvas.previousElementSibling;
  if (!list?.classList.contains("legend")) {
    list = document.createElement("div");
    list.className = "legend";
    canvas.before(list);
  }
  list.replaceChildren(...(named.length < 2 ? [] : named).map((trace) => {
    const button = document.createElement("button"), mark = document.createElement("i");
    const lines = trace.mode === "lines";
    mark.className = lines ? "line" : "";
    const color = lines ? trace.line?.color : trace.marker?.color ?? trace.line?.color;
    if (color) mark.style.setProperty("--mark", color);
    button.type = "button";
    button.setAttribute("aria-pressed", String(!hidden.has(group(trace))));
    button.append(mark, unescaped(trace.name));
    button.addEventListener("click", () => {
      hidden[hidden.has(group(trace)) ? "delete" : "add"](group(trace));
      button.setAttribute("aria-pressed", String(!hidden.has(group(trace))));
      const indexes = [...figure.data.keys()].filter((i) => group(figure.data[i]) === group(trace));
      Plotly.restyle(canvas, { visible: !hidden.has(group(trace)) }, indexes);
    });
    return button;
  }));
  figure.layout.showlegend = false;
  for (const trace of figure.data) if (hidden.has(group(trace))) trace.visible = false;
}
