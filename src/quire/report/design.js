const design = given();

/** A table's rows; numbers at the right, nothing for what was not measured. */
function fill(id, rows) {
  const body = element(id).tBodies[0];
  for (const values of rows) {
    const row = add(body, "tr", "");
    values.forEach((value, i) => {
      const text = value === null ? "–" : typeof value === "number" ? value.toLocaleString("en") : value;
      add(row, "td", text, { class: i === 0 ? "name" : typeof value === "string" ? "" : "number" });
    });
  }
}

function drawAll() {
  element("timeline").style.height = 130 + (design.is_measured ? 44 : 30) * design.streams.length + "px";
  draw("timeline", design.timeline);
  element("resources").style.height = 120 + 34 * new Set(design.resources.data.flatMap((bars) => bars.y)).size + "px";
  draw("resources", design.resources);
}

design.summary.forEach((words) => add(element("summary"), "li", words));
const missing = [!design.is_measured && "quire simulate", design.target === null && "quire synth"].filter(Boolean);
element("compared-note").textContent = missing.length
  ? `Not measured yet: run ${missing.join(" and ")}, then quire report.`
  : `Cycles from a simulation, whose sample 0 runs alone; resources from Yosys for ${design.target}.`;
element("timeline-note").textContent =
  (design.is_measured
    ? "When the beats of each stream moved in the simulation; under it, fainter, when they should for samples that come at the interval. "
    : "Predicted: when the beats of each stream move, for samples that come at the interval. ") +
  "Sample 0 runs alone; the next ones fill the pipeline, which is then steady. Drag to zoom, double-click to see all.";
element("streams-note").textContent = design.is_measured
  ? "Stalled: cycles of the simulation with valid but not ready. Starved: ready but not valid."
  : "Stalled and starved cycles come from a simulation.";
fill("compared", design.compared);
fill("streams", design.streams);
drawAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
document.documentElement.dataset.ready = "true";
