// The page comes alive.

const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);

function costs() {
  const { cost_before: before, cost_after: after } = data.diff;
  const rows = [["parameters", before.parameters, after.parameters], ["multiply-adds", before.multiply_adds, after.multiply_adds]];
  at("costs").replaceChildren(...rows.map(([name, old, now]) => make(
    "div", { class: "cost" }, make("small", {}, name),
    make("span", {}, count(old), make("em", {}, " → "), count(now), make("b", {}, old ? ` ×${(now / old).toFixed(2)}` : "")),
  )));
}

function legend(view) {
  const counts = {};
  for (const vertex of data.vertices) counts[vertex.kind] = (counts[vertex.kind] ?? 0) + 1;
  const chips = Object.keys(data.kinds).filter((kind) => counts[kind]).map((kind) => {
    const chip = make(
      "button", { class: "chip", type: "button", "aria-pressed": "false", title: "show these alone" },
      make("i", { class: `dot ${kind}` }), data.kinds[kind], make("span", { class: "count" }, String(counts[kind])),
    );
    chip.addEventListener("click", () => {
      const on = view.marked !== kind;
      chips.forEach((each) => each.setAttribute("aria-pressed", String(on && each === chip)));
      view.mark(on ? kind : null);
    });
    return chip;
  });
  at("legend").replaceChildren(...chips);
}

function start() {
  at("name-before").textContent = data.names.before;
  at("name-after").textContent = data.names.after;
  costs();
  const panel = new Panel(data, at("panel"));
  const view = new View(data, { before: at("before"), after: at("after") }, (id) => panel.choose(id));
  panel.onFocus = (ids) => view.focus(ids);
  panel.list();
  legend(view);
  new Search(data, at("search"), at("found"), (item) => (item.what === "width" ? panel.width(item.value) : panel.choose(item.value)));
  at("expand").addEventListener("click", () => view.setAll(false));
  at("collapse").addEventListener("click", () => view.setAll(true));
  at("fit").addEventListener("click", () => view.whole());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && document.activeElement !== at("search")) panel.choose(null);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view.restyle());
  return { data, view, panel };
}

window.fxgrow = start();
