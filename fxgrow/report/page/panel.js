// The panel beside the graphs: the list of changes, the details of one of them, the search. Names come from files that
// anyone may have written, so they only ever become text, never markup.

/** An element: `make("p", { class: "x" }, "text", other)`. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const UNITS = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
function count(value) {
  const [size, unit] = UNITS.find(([size]) => Math.abs(value) >= size) ?? [1, ""];
  return unit ? `${Number((value / size).toPrecision(3))} ${unit}` : String(value);
}
const number = (value) => (value === null ? "–" : String(Number(value.toPrecision(3))));
const signed = (value) => (value > 0 ? `+${count(value)}` : value < 0 ? `−${count(-value)}` : "0");
const size = (value) => (value === null ? "–" : String(value));
const shape = (value) => (value === null ? "–" : value.join("×"));

class Panel {
  constructor(data, element) {
    this.data = data;
    this.diff = data.diff;
    this.element = element;
    this.changed = new Map(this.diff.widths.map((width) => [width.name, width]));
    this.parts = new Map();
    for (const vertex of data.vertices) {
      for (const side of ["before", "after"]) if (vertex[side]) this.parts.set(`${side}:${vertex[side].target}`, vertex.id);
    }
    this.byName = new Map(data.vertices.flatMap((v) => ["before", "after"].filter((s) => v[s]).map((s) => [`${s}:${v[s].name}`, v])));
  }

  show(...children) {
    this.element.replaceChildren(...children.filter((child) => child !== null));
    this.element.scrollTop = 0;
  }

  section(title, rows, note = null) {
    if (!rows.length) return null;
    const heading = make("h3", {}, title, make("span", { class: "count" }, String(rows.length)));
    return make("section", {}, heading, note && make("p", { class: "note" }, note), ...rows);
  }

  /** A row that opens something. */
  row(kind, title, detail, open, more = "") {
    return make(
      "button", { class: "row", type: "button", onclick: open },
      make("i", { class: `dot ${kind}` }), make("span", { class: "title" }, title), make("span", { class: "more" }, more),
      detail ? make("span", { class: "detail" }, detail) : null,
    );
  }

  list() {
    const { diff } = this;
    const node = (side, kind) => (name) => this.row(kind, name, "", () => this.choose(this.byName.get(`${side}:${name}`).id));
    const standing = (items) => items.filter((item) => !item.caused_by.length);
    const because = [diff.changed, diff.modules, diff.tensors].flat().filter((item) => item.caused_by.length).length;
    const still = Object.keys(this.data.widths).filter((name) => !this.changed.has(name));
    this.show(
      this.section("Growth steps", diff.steps.map((step, index) => this.step(step, index))),
      this.section("Widths", diff.widths.map((width) => this.row(
        "grown", width.name, this.origin(width), () => this.width(width.name), `${size(width.before)} → ${size(width.after)}`,
      ))),
      this.section("Layers", diff.layers.map((layer) => this.row(
        "layer", layer.name, `after ${layer.after}`, () => this.layer(layer), `${layer.neurons} neurons`,
      ))),
      this.section("Inserted nodes", diff.inserted.map(node("after", "inserted"))),
      this.section("Removed nodes", diff.removed.map(node("before", "removed"))),
      this.section("Changed nodes", standing(diff.changed).map((item) => this.row(
        "changed", item.name, `${item.before}  →  ${item.after}`, () => this.choose(this.byName.get(`after:${item.name}`).id), item.kind,
      ))),
      this.section("Modules", standing(diff.modules).map((item) => this.row(
        "changed", item.name, `${item.attribute}: ${size(item.before)} → ${size(item.after)}`, () => this.module(item.name),
      ))),
      this.section("Tensors", standing(diff.tensors).map((item) => this.row(
        "changed", item.name, `${shape(item.before)} → ${shape(item.after)} ${item.properties.join(", ")}`, () => this.tensor(item.name),
      ))),
      this.section("Inputs", diff.inputs.map((item) => this.row("changed", item.name, `${size(item.before)} → ${size(item.after)}`, () => {}))),
      this.section("Moved nodes", diff.moved.map(node("after", "moved"))),
      this.section("Renamed", diff.renamed.map((item) => this.row(
        "renamed", `${item.before} → ${item.after}`, "", () => this.renamed(item), item.what,
      ))),
      because ? make("p", { class: "note" }, `${because} more changes follow from these; they stand with what they follow from.`) : null,
      this.section("Other widths", still.map((name) => {
        const width = this.data.widths[name];
        return this.row("same", name, width.refusal ? width.refusal.code : "", () => this.width(name), String(width.size));
      })),
    );
  }

  step(step, index) {
    const losses = step.loss_before === null ? "" : `loss ${number(step.loss_before)} → ${number(step.loss_after)}`;
    return make(
      "div", { class: "row still" }, make("i", { class: "dot layer" }), make("span", { class: "title" }, `${index + 1}. ${step.method.name}`),
      make("span", { class: "more" }, losses),
      make("span", { class: "detail" }, `${signed(step.cost_after.parameters - step.cost_before.parameters)} parameters`),
    );
  }

  origin(width) {
    if (width.origin === "unknown") return "";
    return [width.split ? `${width.split} split` : "", width.new ? `${width.new} new` : ""].filter(Boolean).join(", ");
  }

  head(kind, what, title) {
    return make(
      "header", { class: "head" },
      make("button", { class: "back", type: "button", onclick: () => this.choose(null) }, "← all changes"),
      make("p", { class: "what" }, make("i", { class: `dot ${kind}` }), what),
      make("h2", {}, title),
    );
  }

  facts(pairs) {
    const shown = pairs.filter(([, value]) => value !== null && value !== "");
    return make("dl", {}, ...shown.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  }

  /** A width: its sizes, its neurons, scores, sites, and why it cannot grow. */
  width(name) {
    const change = this.changed.get(name), width = this.data.widths[name];
    const sites = width ? width.sites : [];
    this.onFocus(this.verticesOf(sites));
    const rows = sites.map((site) => this.site(site));
    this.show(
      this.head(change ? "grown" : "same", "width", name),
      change ? make("p", { class: "big" }, `${size(change.before)} → ${size(change.after)}`, make("small", {}, " neurons")) : null,
      this.facts([
        ["was called", change?.was ?? null],
        ["size", change ? null : String(width.size)],
        ["origin", change ? (change.origin === "history" ? this.origin(change) : "unknown") : null],
        ["parameters", change && change.parameters ? `${signed(change.parameters)} by itself` : null],
        ["rows per neuron", width && width.granule > 1 ? String(width.granule) : null],
        ["refused", width?.refusal ? `${width.refusal.code}: ${width.refusal.reason}` : null],
        ["because of", width?.refusal?.nodes.join(", ") ?? null],
      ]),
      change ? this.neurons(change) : null,
      change && change.scores.length ? this.scores(change.scores) : null,
      rows.length ? make("section", {}, make("h3", {}, "Sites", make("span", { class: "count" }, String(rows.length))), this.table(["role", "parameter", "axis", "size"], rows)) : null,
    );
  }

  /** One square per neuron: those from before, those that were split, the new ones. */
  neurons(change) {
    if (change.origin !== "history" || change.before === null || change.after > 1024) return null;
    const times = new Map();
    for (const neuron of change.neurons) times.set(neuron, (times.get(neuron) ?? 0) + 1);
    const squares = Array.from({ length: change.before }, (_, index) => make("i", {
      class: times.has(index) ? "split" : "", title: times.has(index) ? `neuron ${index}, split` : `neuron ${index}`,
    }));
    for (let copy = 0; copy < change.split; copy += 1) squares.push(make("i", { class: "copy", title: "copy of a split neuron" }));
    for (let fresh = 0; fresh < change.new; fresh += 1) squares.push(make("i", { class: "new", title: "new neuron" }));
    const key = [["", "before"], ["split", "split"], ["copy", "its copy"], ["new", "new"]].map(([kind, word]) =>
      make("span", {}, make("i", { class: kind }), word));
    const names = [...times.keys()].sort((x, y) => x - y).join(", ");
    return make(
      "section", {}, make("h3", {}, "Neurons"), make("div", { class: "neurons" }, ...squares),
      make("p", { class: "key neurons" }, ...key), names ? make("p", { class: "note" }, `split: ${names}`) : null,
    );
  }

  scores(scores) {
    const most = Math.max(...scores.map(Math.abs)) || 1;
    const sorted = [...scores].sort((x, y) => y - x);
    const bars = sorted.map((score) => {
      const bar = make("i", { class: "bar" });
      bar.style.width = `${Math.max(1, (100 * Math.abs(score)) / most)}%`;
      return make("div", { class: "score" }, make("span", {}, bar), make("b", {}, score.toExponential(2)));
    });
    return make("section", {}, make("h3", {}, "Scores of the chosen", make("span", { class: "count" }, String(scores.length))), make("div", { class: "scores" }, ...bars));
  }

  site(site) {
    const tensor = this.diff.tensors.find((each) => each.name === site.parameter);
    const sizes = tensor && tensor.before && tensor.after ? `${tensor.before[site.axis]} → ${tensor.after[site.axis]}` : "";
    const go = () => this.onFocus(this.verticesOf([site]));
    return [site.role, make("button", { class: "link", type: "button", onclick: go }, site.parameter), String(site.axis), sizes];
  }

  table(names, rows) {
    return make(
      "table", { class: names[0] }, make("thead", {}, make("tr", {}, ...names.map((name) => make("th", {}, name)))),
      make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, cell))))),
    );
  }

  layer(layer) {
    const side = layer.change === "inserted" ? "after" : "before";
    this.onFocus(layer.nodes.map((name) => this.byName.get(`${side}:${name}`).id));
    this.show(
      this.head("layer", `layer ${layer.change}`, layer.name),
      this.facts([
        ["after", layer.after], ["hidden neurons", String(layer.neurons)], ["form", layer.form],
        ["batch norm", layer.norm === null ? null : layer.norm ? "yes" : "no"],
        ["score", layer.score === null ? null : number(layer.score)], ["parameters", count(layer.parameters)],
      ]),
      this.section("Nodes", layer.nodes.map((name) => this.row("layer", name, "", () => this.choose(this.byName.get(`${side}:${name}`).id)))),
    );
  }

  node(vertex) {
    const { before, after } = vertex;
    const own = after ?? before;
    const modules = new Set([before?.target, after?.target].filter(Boolean));
    const inside = (name) => [...modules].some((module) => name === module || name.startsWith(`${module}.`));
    const attributes = this.diff.modules.filter((item) => modules.has(item.name));
    const tensors = this.diff.tensors.filter((item) => inside(item.name));
    const wired = this.diff.changed.filter((item) => after && item.name === after.name);
    const widths = Object.entries(this.data.widths).filter(([, width]) => width.sites.some((site) => inside(site.parameter)));
    const reason = (item) => item.caused_by.join(", ");
    this.onFocus([vertex.id]);
    this.show(
      this.head(vertex.kind, this.data.kinds[vertex.kind], own.name),
      this.facts([["before", before?.text ?? null], ["after", after && after.text !== before?.text ? after.text : null]]),
      ...wired.map((item) => make("p", { class: "note" }, item.caused_by.length ? `${item.kind}, because of ${reason(item)}` : item.kind)),
      attributes.length ? make("section", {}, make("h3", {}, "Attributes"), this.table(
        ["attribute", "before", "after", "because of"],
        attributes.map((item) => [item.attribute, size(item.before), size(item.after), reason(item)]),
      )) : null,
      tensors.length ? make("section", {}, make("h3", {}, "Tensors"), this.table(
        ["tensor", "before", "after", "because of"],
        tensors.map((item) => [item.name.split(".").pop(), shape(item.before), shape(item.after), reason(item)]),
      )) : null,
      this.section("Widths here", widths.map(([name, width]) => this.row(
        this.changed.has(name) ? "grown" : "same", name, "", () => this.width(name), String(width.size),
      ))),
    );
  }

  verticesOf(sites) {
    const owners = sites.map((site) => site.parameter.split("."));
    const names = owners.flatMap((parts) => [parts.join("."), parts.slice(0, -1).join(".")]);
    return [...new Set(names.map((name) => this.parts.get(`after:${name}`) ?? this.parts.get(`before:${name}`)).filter(Boolean))];
  }

  module(name) {
    const id = this.parts.get(`after:${name}`) ?? this.parts.get(`before:${name}`);
    if (id) this.choose(id);
  }

  tensor(name) {
    const [id] = this.verticesOf([{ parameter: name }]);
    if (id) this.choose(id);
  }

  renamed(item) {
    if (item.what === "module") this.module(item.after);
    else this.choose(this.byName.get(`after:${item.after}`).id);
  }

  /** Opens a vertex by id; null: the list. */
  choose(id) {
    if (id === null) {
      this.onFocus([]);
      this.list();
    } else this.node(this.data.vertices.find((vertex) => vertex.id === id));
  }
}

/** What a search finds: nodes, then modules, then widths, those that start with the words first. */
function searchIn(data, words, limit) {
  const wanted = words.trim().toLowerCase();
  if (!wanted) return [];
  const found = new Map();
  const add = (what, name, value) => {
    const at = name.toLowerCase().indexOf(wanted);
    if (at >= 0 && !found.has(`${what}:${name}`)) found.set(`${what}:${name}`, { what, name, value, at });
  };
  for (const name of Object.keys(data.widths)) add("width", name, name);
  for (const vertex of data.vertices) {
    for (const side of [vertex.after, vertex.before]) {
      if (!side) continue;
      add("node", side.name, vertex.id);
      if (side.target.includes(".")) add("module", side.target, vertex.id);
    }
  }
  return [...found.values()].sort((x, y) => x.at - y.at || x.name.length - y.name.length).slice(0, limit);
}

class Search {
  constructor(data, input, list, open) {
    Object.assign(this, { data, input, list, open, found: [], at: 0 });
    input.addEventListener("input", () => this.update());
    input.addEventListener("keydown", (event) => this.key(event));
    input.addEventListener("blur", () => setTimeout(() => this.close(), 150));
    document.addEventListener("keydown", (event) => {
      if (event.key === "/" && document.activeElement !== input) {
        event.preventDefault();
        input.select();
        input.focus();
      }
    });
  }

  update() {
    this.found = searchIn(this.data, this.input.value, 12);
    this.at = 0;
    this.draw();
  }

  draw() {
    this.list.replaceChildren(...this.found.map((item, index) => make(
      "li", {
        role: "option", id: `found-${index}`, "aria-selected": String(index === this.at),
        onmousedown: (event) => { event.preventDefault(); this.take(index); },
      },
      make("span", {}, item.name), make("small", {}, item.what),
    )));
    this.list.hidden = !this.found.length;
    this.input.setAttribute("aria-expanded", String(!this.list.hidden));
    if (this.found.length) this.input.setAttribute("aria-activedescendant", `found-${this.at}`);
    else this.input.removeAttribute("aria-activedescendant");
  }

  key(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1 };
    if (event.key in steps && this.found.length) {
      this.at = (this.at + steps[event.key] + this.found.length) % this.found.length;
      this.draw();
      event.preventDefault();
    } else if (event.key === "Enter" && this.found.length) this.take(this.at);
    else if (event.key === "Escape") this.close();
  }

  take(index) {
    const item = this.found[index];
    this.close();
    this.open(item);
  }

  close() {
    this.found = [];
    this.draw();
  }
}
