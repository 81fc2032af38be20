// What the scripts of all pages share.
"use strict";
const element = (id) => document.getElementById(id);
/** What Python wrote into the page. */
const given = () => JSON.parse(element("results").textContent);
const options = { displayModeBar: false, responsive: true };

const token = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const number = (value) => value.toLocaleString("en", { maximumSignificantDigits: 4 });

/** A figure with its colour tokens ("@ink") resolved for the theme in use. */
function themed(part) {
  if (typeof part === "string") return part.startsWith("@") ? token(part.slice(1)) : part;
  if (Array.isArray(part)) return part.map(themed);
  if (part === null || typeof part !== "object") return part;
  return Object.fromEntries(Object.entries(part).map(([key, value]) => [key, themed(value)]));
}

function draw(id, figure) {
  const { data, layout } = themed(figure);
  return Plotly.react(id, data, layout, options);
}

function add(parent, tag, text, attributes = {}) {
  const child = document.createElement(tag);
  child.textContent = text;
  for (const [key, value] of Object.entries(attributes)) child.setAttribute(key, value);
  parent.append(child);
  return child;
}
