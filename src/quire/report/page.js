const study = given();
const trials = new Map(study.trials.map((trial) => [trial.number, trial]));
let selected = study.shown;
let view = study.fronts[0];

const MOST_BARS = 48;
const NARROW = 560;
const MONO = "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace";

const nameOf = (trial) => trial.label || "trial " + trial.number;

/** The colour of a format: between --few and --many by its place among the formats in use. */
function shade(index) {
  const parts = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const share = study.formats.length > 1 ? index / (study.formats.length - 1) : 1;
  const [few, many] = [parts(token("few")), parts(token("many"))];
  return "rgb(" + few.map((low, i) => Math.round(low + share * (many[i] - low))).join(",") + ")";
}

/** Black or white, whichever is read on a colour of `shade` (relative luminance, WCAG 2). */
function inkOn(colour) {
  const linear = colour.match(/\d+/g).map((part) => (part / 255 <= 0.04045 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.18 ? "#000" : "#fff";
}

/** The bits of a site's values in a format: those that are stored, if the study says. */
const bitsAt = (site, f) => site.bits[f];

function planOf(trial) {
  const entries = study.sites.map((site, i) => [site.name, trial.plan[i]]);
  return Object.fromEntries(entries.filter(([, f]) => f >= 0).map(([name, f]) => [name, study.formats[f].name]));
}

function drawFront() {
  const figure = structuredClone(view.plot);
  const ring = figure.data[figure.data.length - 1];
  const metrics = trials.get(selected).metrics;
  if (element("front").clientWidth < NARROW) {
    const uniform = figure.data.find((trace) => trace.name === "uniform formats");
    uniform.mode = "markers";  // their names would hide each other: a touch tells them
    for (const axis of ["xaxis", "yaxis"]) figure.layout[axis].title.font = { size: 11 };
  }
  Object.assign(ring, { x: [metrics[view.across]], y: [metrics[view.up]] });
  draw("front", figure);
  Plotly.Plots.resize("front");
}

/** The sensitivities, with a mark at each choice of the plan. */
function drawHeat(trial) {
  const { plot, sites, columns } = study.heat;
  const figure = structuredClone(plot);
  const rows = study.sites.map((site, i) => [sites.indexOf(site.name), trial.plan[i]]).filter(([row, f]) => row >= 0 && f >= 0);
  Object.assign(figure.data[1], { x: rows.map(([, f]) => columns[f]), y: rows.map(([row]) => row) });
  element("map").style.height = plot.layout.height + "px";
  element("map").style.minWidth = 220 + 24 * plot.layout.xaxis.tickvals.length + "px";
  draw("map", figure);
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
        tickfont: { family: MONO, size: 12 } } },
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
    item.append(`${study.formats[f].brief} ${Math.round((100 * count) / total)}%`);
  });
}

function showPlan() {
  const trial = trials.get(selected);
  element("plan-title").textContent = nameOf(trial) + (selected === study.chosen ? " (chosen)" : "");
  for (const place of document.querySelectorAll(".plan-name")) place.textContent = nameOf(trial);
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
    add(row, "td", study.formats[trial.plan[i]].brief, { class: "format", title: study.formats[trial.plan[i]].name });
    add(row, "td", number(bitsAt(site, trial.plan[i])), { class: "number" });
  });
  element("plan-json").textContent = JSON.stringify(planOf(trial), null, 2);
  showShares(trial);
  showModel(trial);
  showLimits(trial);
  if (study.heat) drawHeat(trial);
  else drawMap(trial);
  drawCost(trial);
  drawPrediction();
  drawFront();
}

/** Make the drawing of the model, once: a row a block, its swatches in its head too. */
function makeModel() {
  element("model-section").hidden = study.model.length === 0;
  for (const row of study.model) {
    const block = add(element("model"), "details", "", row.open ? { open: "" } : {});
    const head = add(block, "summary", "");
    add(head, "span", row.title, { class: "title" });
    const strip = add(head, "span", "", { class: "strip", "aria-hidden": "true" });
    for (const site of row.sites) add(strip, "i", "", { "data-site": site });
    add(block, "div", "", { class: "scroll-x", tabindex: 0 }).innerHTML = row.svg;
  }
}

/** Give the swatches of the drawing the formats of a plan. */
function showModel(trial) {
  const index = new Map(study.sites.map((site, i) => [site.name, i]));
  for (const swatch of document.querySelectorAll("#model [data-site]")) {
    const name = swatch.dataset.site, site = study.sites[index.get(name)], f = site ? trial.plan[index.get(name)] : -1;
    const said = f < 0 ? `${name}: not rounded` : `${name}: ${study.formats[f].name}, ${number(bitsAt(site, f))} bits per value`;
    const colour = f < 0 ? "" : shade(f);
    if (swatch.localName === "i") {
      Object.assign(swatch.style, { background: colour });
      swatch.title = said;
      continue;
    }
    const [title, rect, text] = swatch.children;
    title.textContent = said;
    rect.style.fill = colour;
    text.style.fill = f < 0 ? "" : inkOn(colour);
    const words = f < 0 ? "fp32" : study.formats[f].brief;
    text.textContent = words.length > 17 ? words.slice(0, 16) + "…" : words;
  }
  element("model-key").replaceChildren();
  const used = study.formats.map((_, f) => f).filter((f) => trial.plan.includes(f));
  for (const f of used) {
    const item = add(element("model-key"), "li", "", { title: study.formats[f].name });
    add(item, "span", "").style.background = shade(f);
    item.append(`${study.formats[f].brief}: ${number(study.formats[f].bits)} bits`);
  }
}

/** A limit a row: the plan's value, the bound, what is left, and what a wider one would buy. */
function showLimits(trial) {
  element("limits-section").hidden = study.limit_rows.length === 0;
  element("limits").replaceChildren();
  for (const limit of study.limit_rows) {
    const value = trial.metrics[limit.metric], { bound, lower } = limit;
    const row = add(element("limits"), "li", "", { "data-limit": limit.metric });
    const head = add(row, "div", "", { class: "head" });
    add(head, "span", limit.metric.replaceAll("_", " "), { class: "metric" });
    add(head, "span", value === undefined ? "not measured" : `${number(value)} of ${lower ? "at least" : "at most"} ${number(bound)}`);
    if (value === undefined) continue;
    const slack = (lower ? value - bound : bound - value) / (Math.abs(bound) || 1);
    const state = slack < 0 ? "broken" : slack < 0.02 ? "binds" : "free";
    row.className = state;
    const meter = add(row, "div", "", { class: "meter", role: "img", "aria-label": `${Math.round(100 * (1 - slack))}% of the limit` });
    add(meter, "i", "").style.width = `${Math.max(0, Math.min(1, lower ? bound / value : value / bound)) * 100}%`;
    const words = { broken: "Broken", binds: "Binds", free: "Does not bind" }[state];
    add(row, "p", `${words}: ${slack < 0 ? "beyond by" : "slack"} ${number(Math.abs(value - bound))} (${Math.round(1000 * Math.abs(slack)) / 10}%).` + bought(limit));
  }
}

/** What the integer program says of a wider limit. */
function bought({ metric, wider, gain }) {
  if (wider === null) return "";
  const share = Math.round(1000 * gain) / 10;
  const words = share < 0.5 ? "no lower" : `${share}% lower`;
  return ` With ${metric.replaceAll("_", " ")} up to ${number(wider)}, the least predicted loss would be ${words}.`;
}

/** {layer: [weights, activations]} of a plan in bytes, or of blocks where there are more layers than
 * bars can be read. A tied tensor counts once, and what the plan does not name is fp32. */
function bytesByLayer(trial) {
  const layers = new Set(study.sites.map((site) => site.layer));
  const name = (site) => (layers.size > MOST_BARS ? site.block : site.layer);
  const bytes = new Map(study.sites.map((site) => [name(site), [0, 0]]));
  const names = new Set(study.sites.map((site) => site.name));
  study.sites.forEach((site, i) => {
    if (site.tie !== site.name && names.has(site.tie)) return;
    const kind = ["weight", "bias"].includes(site.role) ? 0 : 1;
    const bits = trial.plan[i] < 0 ? 32 : bitsAt(site, trial.plan[i]);
    bytes.get(name(site))[kind] += (site.elements * bits) / 8;
  });
  return bytes;
}

/** Bars of what each layer holds, or costs by the measure that is picked. */
function drawCost(trial) {
  const measure = element("cost").value;
  const own = measure === "stored";
  const rows = own ? [...bytesByLayer(trial)] : Object.entries(study.layers).map(([name, costs]) => [name, [costs[measure] ?? 0]]);
  const kinds = own ? [["weights", "@front"], ["activations", "@third"]] : [[measure, "@fourth"]];
  element("cost-note").textContent = own ? `What the layers of ${nameOf(trial)} hold, in bytes.` : "What the layers of the chosen plan take.";
  element("cost-key").replaceChildren();
  for (const [kind, colour] of kinds) {
    const item = add(element("cost-key"), "li", "");
    add(item, "span", "", { class: "dot" }).style.background = `var(--${colour.slice(1)})`;
    item.append(kind);
  }
  const base = view.plot.layout;
  const plain = { ...base, shapes: [], annotations: [], showlegend: false, barmode: "stack", bargap: 0.3 };
  element("layers").style.height = 62 + 21 * rows.length + "px";
  draw("layers", {
    data: kinds.map(([name, color], k) => ({ type: "bar", orientation: "h", name, y: rows.map(([layer]) => layer).reverse(),
      x: rows.map(([, values]) => values[k]).reverse(), marker: { color, line: { width: 0 } },
      hovertemplate: `<b>%{y}</b><br>${name} %{x:,.0f}${own ? " bytes" : ""}<extra></extra>` })),
    layout: { ...plain, margin: { l: 10, r: 16, t: 4, b: 34 },
      xaxis: { ...base.xaxis, type: "linear", tickvals: null, ticktext: null, title: { text: "" }, showgrid: true, fixedrange: true, rangemode: "tozero", nticks: 6 },
      yaxis: { ...base.yaxis, type: "category", title: { text: "" }, showgrid: false, tickvals: null, ticktext: null, tickmode: "linear", dtick: 1, ticks: "",
        fixedrange: true, tickfont: { family: MONO, size: 12 } } },
  });
}

function drawPrediction() {
  element("prediction-section").hidden = !study.prediction;
  if (!study.prediction) return;
  const figure = structuredClone(study.prediction.plot);
  const ring = figure.data[figure.data.length - 1];
  for (const trace of figure.data) {
    const at = trace.customdata?.indexOf(selected) ?? -1;
    if (at >= 0) Object.assign(ring, { x: [trace.x[at]], y: [trace.y[at]] });
  }
  element("prediction-note").textContent = study.prediction.note;
  draw("prediction", figure);
}

/** What the heading of the map says, with sensitivities and without. */
function fillMapWords() {
  const plan = '<span class="plan-name"></span>';
  element("map-head").textContent = study.heat ? "Sensitivities" : "Sites and formats";
  element("map-note").innerHTML = study.heat ?
    `What each format costs the outputs where it stands at one site alone (<span id="heat-unit"></span>; the scale is logarithmic). Blank: not measured, since another format is no larger and better there, or the site cannot take it. A ring marks what ${plan} takes.` :
    `The format of every site in ${plan}; a stronger colour means more bits per value.`;
  if (study.heat) element("heat-unit").textContent = study.heat.unit;
}

function fillCosts() {
  const measures = [...new Set(Object.values(study.layers).flatMap(Object.keys))];
  add(element("cost"), "option", "stored bytes", { value: "stored" });
  for (const measure of measures) add(element("cost"), "option", measure, { value: measure });
  element("cost-pick").hidden = measures.length === 0;
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

/** Let the columns be of a length: of large models the costs go to the side, of small ones what is
 * last there goes below the costs. */
function balance() {
  const [main, side] = [document.querySelector(".main"), document.querySelector(".side")];
  const cost = element("cost-section");
  if (main.offsetHeight - cost.offsetHeight > side.offsetHeight) element("limits-section").after(cost);
  for (const section of [...side.children].reverse().filter((child) => !child.hidden)) {
    if (main.offsetHeight + section.offsetHeight > side.offsetHeight) break;
    main.append(section);
  }
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
fillMapWords();
fillCosts();
makeModel();
element("tensor-section").hidden = study.tensors.length === 0;
study.tensors.forEach((tensor) => add(element("tensor"), "option", tensor.name));
drawAll();
balance();
drawAll();  // to the new widths
element("front").on("plotly_click", (event) => {
  const point = event.points.find((candidate) => candidate.customdata !== undefined);
  if (point) select(point.customdata);
});
if (study.prediction) {
  element("prediction").on("plotly_click", (event) => {
    const point = event.points.find((candidate) => candidate.customdata !== undefined);
    if (point) select(point.customdata);
  });
}
element("cost").addEventListener("change", () => drawCost(trials.get(selected)));
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
