// The page of a comparison of ways to compile: one plot under another.
"use strict";
const found = given();
add(element("summary"), "li", found.summary);
found.pictures.forEach(({ title, note }, index) => {
  const section = add(element("pictures"), "section", "", { class: "full" });
  add(section, "h2", title);
  add(section, "p", note, { class: "note" });
  add(section, "div", "", { id: "plot" + index, class: "plot", role: "img", "aria-label": title });
});
const redraw = () => found.pictures.forEach(({ plot }, index) => draw("plot" + index, plot));
redraw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
