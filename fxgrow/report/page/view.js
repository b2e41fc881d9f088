// The two graphs. One place, one zoom, one selection for both.

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const FONT = "Helvetica Neue, Helvetica, Arial, sans-serif"; // cytoscape takes no quotes

function textWidth(text, font) {
  const pen = (textWidth.pen ??= document.createElement("canvas").getContext("2d"));
  pen.font = font;
  return pen.measureText(text).width;
}

/** The look, from the page's colours, so that it follows the light or dark scheme. */
function look(kinds) {
  const node = {
    shape: "round-rectangle", width: "data(width)", height: "data(height)", label: "data(label)",
    "corner-radius": 7, "font-family": FONT, "font-size": 11, "line-height": 1.25, color: css("--ink"),
    "text-wrap": "wrap", "text-valign": "center", "text-halign": "center", "text-max-width": 1000,
    "z-index-compare": "manual", "z-index": 2, "background-color": css("--node"), "border-width": 1, "border-color": css("--line-strong"),
  };
  const edge = {
    "z-index-compare": "manual", "z-index": 1, width: 1.4, "line-color": css("--edge"), "target-arrow-color": css("--edge"), "target-arrow-shape": "triangle",
    "arrow-scale": 0.75, "curve-style": "round-segments", "segment-radii": 9, "edge-distances": "node-position",
    "segment-weights": "data(along)", "segment-distances": "data(beside)",
  };
  return [
    { selector: "node", style: node },
    ...Object.keys(kinds).filter((kind) => kind !== "same").map((kind) => ({
      selector: `node.${kind}`,
      style: { "background-color": css(`--${kind}-soft`), "border-color": css(`--${kind}`), "border-width": 1.5 },
    })),
    { selector: "node.moved, node.renamed", style: { "border-style": "dashed" } },
    { selector: "node.group", style: { "border-style": "double", "border-width": 4 } },
    {
      selector: "node.box",
      style: {
        "background-color": css("--box"), "background-opacity": 0.6, "border-color": css("--line"), "border-width": 1,
        "text-valign": "top", "text-halign": "center", "text-margin-y": 18, color: css("--faint"), "font-size": 11,
        "font-weight": 600, "z-index-compare": "manual", "z-index": 0,
      },
    },
    {
      selector: "node.ghost",
      style: {
        "background-opacity": 0, "border-style": "dotted", "border-width": 1.2, "border-color": css("--line-strong"),
        label: "", opacity: 0.7, events: "no",
      },
    },
    { selector: "edge", style: edge },
    { selector: "edge[!along]", style: { "curve-style": "straight" } },
    { selector: "edge.new", style: { "line-color": css("--layer"), "target-arrow-color": css("--layer"), width: 2 } },
    { selector: "edge.old", style: { "line-color": css("--removed"), "target-arrow-color": css("--removed"), width: 2 } },
    { selector: ".dim", style: { opacity: 0.18 } },
    { selector: "node.hover", style: { "overlay-color": css("--accent"), "overlay-opacity": 0.12, "overlay-padding": 4 } },
    {
      selector: "node.chosen",
      style: { "outline-color": css("--accent"), "outline-width": 3, "outline-offset": 3, "outline-opacity": 0.9 },
    },
  ];
}

/** What to write on a leaf on one side: two lines, or the name of a collapsed module and what is in it. */
function labelOf(leaf, side, groups) {
  if (leaf.path === null) {
    const own = leaf.vertices[0][side];
    return own === null ? "" : own.size ? `${own.label}\n${own.size}` : own.label;
  }
  const inside = leaf.vertices.filter((vertex) => vertex[side] !== null);
  const differing = inside.filter((vertex) => vertex.kind !== "same").length;
  const count = `${inside.length} node${inside.length === 1 ? "" : "s"}`;
  return `${groups.get(leaf.path)[side]}\n${count}${differing ? ` · ${differing} differ` : ""}`;
}

function widthOf(leaf, groups) {
  const lines = ["before", "after"].flatMap((side) => labelOf(leaf, side, groups).split("\n"));
  return Math.max(56, Math.ceil(Math.max(...lines.map((line) => textWidth(line, `11px ${FONT}`)))) + 22);
}

/** The strongest kind of what a leaf stands for. */
function kindOf(leaf, kinds) {
  const found = new Set(leaf.vertices.map((vertex) => vertex.kind));
  return Object.keys(kinds).find((kind) => found.has(kind));
}

/** Cytoscape's elements for one side of an arrangement. */
function elementsOf(side, plan, groups, kinds) {
  const nodes = [...plan.boxes.values()].sort((x, y) => x.depth - y.depth).map((box) => ({
    group: "nodes", classes: "box", selectable: false, grabbable: false,
    data: { id: boxId(box.path), path: box.path, label: groups.get(box.path)[side], width: box.width, height: box.height },
    position: { x: box.x + box.width / 2, y: box.y + box.height / 2 },
  }));
  const here = new Set();
  for (const leaf of plan.leaves.values()) {
    const there = leaf.vertices.some((vertex) => vertex[side] !== null);
    if (there) here.add(leaf.id);
    const classes = [there ? kindOf(leaf, kinds) : "ghost", leaf.path === null ? "vertex" : "group"];
    nodes.push({
      group: "nodes", classes: classes.join(" "), grabbable: false,
      data: { id: leaf.id, path: leaf.path, label: labelOf(leaf, side, groups), width: leaf.width, height: leaf.height },
      position: { x: leaf.x, y: leaf.y },
    });
  }
  const other = side === "before" ? "after" : "before";
  const edges = plan.edges.filter((edge) => edge[side] && here.has(edge.source) && here.has(edge.target)).map((edge) => {
    const { along, beside } = segmentsOf(edge.points, plan.leaves.get(edge.source), plan.leaves.get(edge.target));
    return {
      group: "edges", classes: edge[other] ? "" : side === "after" ? "new" : "old",
      data: { id: edge.id, source: edge.source, target: edge.target, ...(along.length ? { along, beside } : {}) },
    };
  });
  return [...nodes, ...edges];
}

/** Both graphs in their elements; `onChoose(id or null)` when the reader clicks. */
class View {
  constructor(data, panes, onChoose) {
    this.data = data;
    this.groups = groupsOf(data);
    this.collapsed = firstCollapsed(data, this.groups, 140);
    this.marked = null;
    this.sides = Object.fromEntries(Object.entries(panes).map(([side, container]) => [side, this.open(container, onChoose)]));
    const { before, after } = this.sides;
    before.on("viewport", () => this.follow(before, after));
    after.on("viewport", () => this.follow(after, before));
    this.draw();
    this.overview();
  }

  open(container, onChoose) {
    const cy = cytoscape({
      container, style: look(this.data.kinds), layout: { name: "preset" }, minZoom: 0.03, maxZoom: 3,
      boxSelectionEnabled: false, autounselectify: true, pixelRatio: "auto",
    });
    cy.on("tap", (event) => {
      const target = event.target;
      if (target === cy) return onChoose(null);
      if (target.isEdge()) return undefined;
      return target.hasClass("vertex") ? onChoose(target.id()) : this.toggle(target.data("path"));
    });
    cy.on("mouseover mouseout", "node.vertex, node.group", (event) => {
      for (const each of this.both(event.target.id())) each.toggleClass("hover", event.type === "mouseover");
    });
    return cy;
  }

  both(id) {
    return Object.values(this.sides).map((cy) => cy.getElementById(id));
  }

  follow(from, to) {
    const { x, y } = from.pan();
    if (to.zoom() !== from.zoom() || to.pan().x !== x || to.pan().y !== y) to.viewport({ zoom: from.zoom(), pan: { x, y } });
  }

  draw() {
    this.plan = arrange(this.data, this.collapsed, (leaf) => widthOf(leaf, this.groups));
    for (const [side, cy] of Object.entries(this.sides)) {
      cy.batch(() => {
        cy.elements().remove();
        cy.add(elementsOf(side, this.plan, this.groups, this.data.kinds));
      });
    }
    this.mark(this.marked);
  }

  restyle() {
    for (const cy of Object.values(this.sides)) cy.style(look(this.data.kinds));
  }

  /** Opens or closes a module; what was under the pointer stays there. */
  toggle(path) {
    const anchor = () => this.sides.after.getElementById(boxId(path)).renderedPosition();
    const height = () => this.sides.after.getElementById(boxId(path)).renderedHeight();
    const was = anchor(), tall = height();
    if (!this.collapsed.delete(path)) this.collapsed.add(path);
    this.draw();
    const is = anchor();
    this.sides.after.panBy({ x: was.x - is.x, y: was.y - tall / 2 - (is.y - height() / 2) });
  }

  setAll(collapsed) {
    this.collapsed = collapsed ? new Set([...this.groups.values()].filter((g) => g.inside.length > 1).map((g) => g.path)) : new Set();
    this.draw();
    this.overview();
  }

  /** The whole if it can be read; else the top, as wide as the pane. */
  overview() {
    const cy = this.sides.after;
    cy.fit(undefined, 24);
    if (cy.zoom() > 1.15) cy.zoom({ level: 1.15, renderedPosition: { x: cy.width() / 2, y: cy.height() / 2 } });
    if (cy.zoom() < 0.5) {
      const box = cy.elements().boundingBox();
      const leaves = [...this.plan.leaves.values()];
      const middle = leaves.reduce((sum, leaf) => sum + leaf.x, 0) / leaves.length;
      const zoom = Math.min(0.9, Math.max(0.5, (cy.width() - 48) / box.w));
      cy.viewport({ zoom, pan: { x: cy.width() / 2 - zoom * middle, y: 44 - zoom * box.y1 } });
    }
  }

  whole() {
    this.sides.after.fit(undefined, 24);
  }

  /** Opens what hides a vertex. */
  reveal(id) {
    const vertex = this.data.vertices.find((each) => each.id === id);
    const hiding = vertex.group.map((_, index) => groupPath(vertex.group.slice(0, index + 1))).filter((path) => this.collapsed.has(path));
    hiding.forEach((path) => this.collapsed.delete(path));
    if (hiding.length) this.draw();
  }

  /** Brings vertices into the middle and outlines them on both sides; the first is what counts. */
  focus(ids) {
    ids.slice(0, 1).forEach((id) => this.reveal(id));
    for (const cy of Object.values(this.sides)) {
      cy.elements().removeClass("chosen");
      ids.forEach((id) => cy.getElementById(id).addClass("chosen"));
    }
    if (!ids.length) return;
    const cy = this.sides.after;
    if (cy.zoom() < 0.6) cy.zoom(0.9);
    cy.center(cy.getElementById(ids[0]));
  }

  /** Dims everything but one kind; null: nothing. */
  mark(kind) {
    this.marked = kind;
    for (const cy of Object.values(this.sides)) {
      cy.elements().removeClass("dim");
      if (kind !== null) cy.nodes(".vertex, .group").not(`.${kind}`).add(cy.edges()).addClass("dim");
    }
  }
}
