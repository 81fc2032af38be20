const study = given();
const trials = new Map(study.trials.map((trial) => [trial.number, trial]));
let selected = study.shown;
let view = study.fronts[0];

const nameOf = (trial) => trial.label || "trial " + trial.number;

/** The colour of a format: between --few and --many by its place among the formats in use. */
function shade(index) {
  const parts = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const share = study.formats.length > 1 ? index / (study.formats.length - 1) : 1;
  const [few, many] = [parts(token("few")), parts(token("many"))];
  return "rgb(" + few.map((low, i) => Math.round(low + share * (many[i] - low))).join(",") + ")";
}

function planOf(trial) {
  const entries = study.sites.map((site, i) => [site.name, trial.plan[i]]);
  return Object.fromEntries(entries.filter(([, f]) => f >= 0).map(([name, f]) => [name, study.formats[f].name]));
}

function drawFront() {
  const figure = structuredClone(view.plot);
  const ring = figure.data[figure.data.length - 1];
  const metrics = trials.get(selected).metrics;
  Object.assign(ring, { x: [metrics[view.across]], y: [metrics[view.up]] });
  draw("front", figure);
  Plotly.Plots.resize("front");
}

/** One row a site, one column a format that the plan uses; the cell that holds has its shade. */
function drawMap(trial) {
  const used = study.formats.map((_, f) => f).filter((f) => trial.plan.includes(f));
  const rows = study.sites.map((site, i) => [site, trial.plan[i]]).filter(([, f]) => f >= 0).reverse();
  const names = rows.map(([site]) => site.name);
  const columns = used.map((f) => study.formats[f].short);
  const crowded = columns.join("").length * 8 + columns.length * 10 > element("map").clientWidth - 200;
  const z = rows.map(([, f]) => used.map((column) => (column === f ? used.indexOf(f) + 1 : 0)));
  const text = rows.map(([site, f]) => used.map((column) => column !== f ? "" :
    `<b>${site.name}</b><br>${study.formats[f].name}, ${number(study.formats[f].bits)} bits per value<br>` +
    `${site.role} ${site.shape.join(" × ")}: ${site.elements.toLocaleString("en")} values`));
  const steps = ["@grid", ...used.map(shade)];
  const colorscale = steps.flatMap((colour, i) => [[i / steps.length, colour], [(i + 1) / steps.length, colour]]);
  const axis = { showgrid: false, zeroline: false, automargin: true, ticks: "", fixedrange: true };
  element("map").style.height = 70 + 19 * rows.length + "px";
  draw("map", {
    data: [{ type: "heatmap", x: columns, y: names, z, text, colorscale, zmin: -0.5, zmax: used.length + 0.5,
      showscale: false, xgap: 3, ygap: 2, hoverinfo: "text", hoverongaps: false }],
    layout: { ...view.plot.layout, shapes: [], showlegend: false,
      annotations: [], margin: { l: 10, r: 10, t: 30, b: 10 },
      xaxis: { ...axis, side: "top", type: "category", tickangle: crowded ? -35 : 0 },
      yaxis: { ...axis, type: "category", tickmode: "linear", dtick: 1,
        tickfont: { family: "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace", size: 12 } } },
  });
}

/** The share of the plan's elements that each format has. */
function showShares(trial) {
  const elements = study.formats.map(() => 0);
  study.sites.forEach((site, i) => { if (trial.plan[i] >= 0) elements[trial.plan[i]] += site.elements || 1; });
  const bar = element("plan-shares");
  const total = elements.reduce((sum, count) => sum + count, 0);
  bar.replaceChildren();
  element("plan-key").replaceChildren();
  elements.forEach((count, f) => {
    if (count === 0) return;
    const share = add(bar, "div", "", { title: study.formats[f].name });
    share.style.cssText = `flex:${count};background:${shade(f)}`;
    const item = add(element("plan-key"), "li", "", { title: study.formats[f].name });
    add(item, "span", "").style.background = shade(f);
    item.append(`${study.formats[f].short} ${Math.round((100 * count) / total)}%`);
  });
}

function showPlan() {
  const trial = trials.get(selected);
  element("plan-title").textContent = nameOf(trial) + (selected === study.chosen ? " (chosen)" : "");
  element("map-title").textContent = nameOf(trial);
  element("pick").value = String(selected);
  element("plan-metrics").replaceChildren();
  for (const [metric, value] of Object.entries(trial.metrics)) {
    const pair = add(element("plan-metrics"), "div", "");
    add(pair, "dt", metric.replaceAll("_", " ") + (metric === "memory" ? " (bytes)" : ""));
    add(pair, "dd", number(value), { "data-metric": metric });
  }
  const body = element("plan-table").tBodies[0];
  body.replaceChildren();
  study.sites.forEach((site, i) => {
    if (trial.plan[i] < 0) return;
    const row = add(body, "tr", "", { "data-site": site.name });
    add(row, "td", site.name, { class: "name" });
    add(row, "td", study.formats[trial.plan[i]].short, { class: "format", title: study.formats[trial.plan[i]].name });
    add(row, "td", number(study.formats[trial.plan[i]].bits), { class: "number" });
  });
  element("plan-json").textContent = JSON.stringify(planOf(trial), null, 2);
  showShares(trial);
  drawMap(trial);
  drawFront();
}

function select(chosen) {
  selected = chosen;
  showPlan();
}

function fillPick() {
  const group = (label, members) => {
    if (members.length === 0) return;
    const parent = add(element("pick"), "optgroup", "", { label });
    for (const trial of members) {
      add(parent, "option", `${nameOf(trial)}: ${view.up} ${number(trial.metrics[view.up])}, ` +
        `${view.across} ${number(trial.metrics[view.across])}`, { value: trial.number });
    }
  };
  const onFront = new Set(study.front);
  const by = (a, b) => a.metrics[view.across] - b.metrics[view.across];
  group("On the front", study.trials.filter((t) => onFront.has(t.number)).sort(by));
  group("Uniform formats", study.trials.filter((t) => t.label && !onFront.has(t.number)).sort(by));
  group("Other trials", study.trials.filter((t) => !t.label && !onFront.has(t.number)));
}

function fillFigures() {
  const metrics = [...new Set(study.figures.flatMap((row) => Object.keys(row.metrics)))];
  element("figures-section").hidden = study.figures.length === 0;
  const head = add(element("figures").tHead, "tr", "");
  const words = study.figures.some((row) => row.split) ? ["label", "split"] : ["label"];
  [...words, ...metrics].forEach((text, i) => add(head, "th", text === "label" ? "Model" : text.replaceAll("_", " "),
    { scope: "col", class: i >= words.length ? "number" : "" }));
  for (const figure of study.figures) {
    const row = add(element("figures").tBodies[0], "tr", "");
    for (const word of words) add(row, "td", figure[word]);
    for (const metric of metrics) {
      add(row, "td", metric in figure.metrics ? number(figure.metrics[metric]) : "", { class: "number" });
    }
  }
}

function fillKey() {
  const marks = {
    "on the front": '<path d="M0 7H16" stroke="var(--front)" stroke-width="2"/><circle cx="8" cy="7" r="4.5" fill="var(--front)"/>',
    "uniform format": '<path d="M8 1L14 7L8 13L2 7Z" fill="var(--uniform)"/>',
    "other trial": '<circle cx="8" cy="7" r="3.5" fill="var(--trial)" opacity=".7"/>',
    "chosen plan": '<path d="M8 0L9.9 5H15L10.9 8.2L12.5 13.5L8 10.2L3.5 13.5L5.1 8.2L1 5H6.1Z" fill="var(--chosen)"/>',
  };
  for (const [name, mark] of Object.entries(marks)) {
    const item = add(element("key"), "li", "");
    item.innerHTML = `<svg viewBox="0 0 16 14" aria-hidden="true">${mark}</svg>`;
    item.append(name);
  }
}

function fillWords() {
  const { complete, pruned, failed } = study.counts;
  const limits = Object.entries(study.limits).map(([metric, bound]) =>
    `${metric} ${study.lower.includes(metric) ? "at least" : "at most"} ${number(bound)}`);
  const ways = { min: "lowest", max: "highest" };
  const aims = Object.entries(study.objectives).map(([metric, way]) => `${ways[way]} ${metric}`);
  const runs = [`${complete} trials run`, pruned && `${pruned} beyond a limit, not run`, failed && `${failed} failed`];
  if (limits.length && study.front.length === 0) runs.push("no plan within the limits");
  add(element("summary"), "li", `${study.sites.length} sites · sought: ${[aims.join(" and "), ...limits].join(", ")}`);
  add(element("summary"), "li", runs.filter(Boolean).join(" · "));
  element("progress-note").textContent = limits.length ? `Among trials with ${limits.join(" and ")}.` : "";
  element("errors-section").hidden = study.errors.length === 0;
  element("errors-title").textContent = `${study.errors.length} failed trials`;
  for (const { number: trial, error } of study.errors) add(element("errors"), "li", `trial ${trial}: ${error}`);
}

function drawTensor() {
  const tensor = study.tensors[element("tensor").selectedIndex];
  if (!tensor) return;
  element("tensor-note").textContent = tensor.note;
  draw("distribution", tensor.plot);
}

function drawAll() {
  showPlan();
  draw("progress", study.progress);
  drawTensor();
}

study.fronts.forEach((front) => add(element("axes"), "option", `${front.up.replaceAll("_", " ")} against ${front.across.replaceAll("_", " ")}`));
element("axes-pick").hidden = study.fronts.length === 1;
fillKey();
fillWords();
fillPick();
fillFigures();
element("tensor-section").hidden = study.tensors.length === 0;
study.tensors.forEach((tensor) => add(element("tensor"), "option", tensor.name));
drawAll();
element("front").on("plotly_click", (event) => {
  const point = event.points.find((candidate) => candidate.customdata !== undefined);
  if (point) select(point.customdata);
});
element("pick").addEventListener("change", (event) => select(Number(event.target.value)));
element("axes").addEventListener("change", (event) => {
  view = study.fronts[event.target.selectedIndex];
  drawFront();
});
element("tensor").addEventListener("change", drawTensor);
element("copy").addEventListener("click", async () => {
  const text = element("plan-json").textContent;
  try {
    await navigator.clipboard.writeText(text);
    element("copy").textContent = "Copied";
  } catch {
    element("plan-json").parentElement.open = true;
    getSelection().selectAllChildren(element("plan-json"));
    element("copy").textContent = "Selected: press Ctrl-C";
  }
  setTimeout(() => { element("copy").textContent = "Copy as JSON"; }, 2000);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
document.documentElement.dataset.ready = "true";
