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
    // Plotly's names are escaped.
    button.append(mark, trace.name.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&"));
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
