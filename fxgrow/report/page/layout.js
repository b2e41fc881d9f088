"use strict";
// Where everything goes. Both graphs are laid out as one, so that what is paired has one place on both sides. Every
// module is laid out by itself, inside out, and is one box in the module around it: small graphs, whatever the whole.
// An edge that leaves a box passes its border at a port, so that it runs around what is inside.

const ROOT = "";
const PAD = 16, HEADER = 22, ROW = 40, PORT = 4;
const SLOW = 150; // more children than this, and dagre ranks them by the quick rule

const groupPath = (parts) => parts.join("\u0000");
const boxId = (path) => `g:${path}`;

/** All groups by path: their parent, label, vertices inside (at any depth) and depth. */
function groupsOf(data) {
  const groups = new Map();
  for (const vertex of data.vertices) {
    for (let end = 1; end <= vertex.group.length; end += 1) {
      const parts = vertex.group.slice(0, end);
      const path = groupPath(parts);
      if (!groups.has(path)) {
        const last = parts[end - 1];
        const name = last.includes(".") ? last : parts.join("."); // a grown layer has its whole name
        groups.set(path, {
          path, parent: groupPath(parts.slice(0, -1)), depth: end, after: name,
          before: data.old_groups[name] ?? name, inside: [],
        });
      }
      groups.get(path).inside.push(vertex);
    }
  }
  return groups;
}

/** Which groups to show as one box at first: the deepest ones, until what is left can be read. */
function firstCollapsed(data, groups, limit) {
  const collapsed = new Set();
  const deepest = Math.max(0, ...[...groups.values()].map((group) => group.depth));
  for (let depth = deepest; depth > 0 && visibleLeaves(data, collapsed).size > limit; depth -= 1) {
    for (const group of groups.values()) if (group.depth === depth && group.inside.length > 1) collapsed.add(group.path);
  }
  return collapsed;
}

/** The shown thing that stands for a vertex: its outermost collapsed group, or itself. */
function leafOf(vertex, collapsed) {
  for (let end = 1; end <= vertex.group.length; end += 1) {
    const path = groupPath(vertex.group.slice(0, end));
    if (collapsed.has(path)) return { id: boxId(path), path, parents: vertex.group.slice(0, end - 1) };
  }
  return { id: vertex.id, path: null, parents: vertex.group };
}

/** Shown things by id, with the vertices that each stands for. */
function visibleLeaves(data, collapsed) {
  const leaves = new Map();
  for (const vertex of data.vertices) {
    const leaf = leafOf(vertex, collapsed);
    if (!leaves.has(leaf.id)) leaves.set(leaf.id, { ...leaf, vertices: [] });
    leaves.get(leaf.id).vertices.push(vertex);
  }
  return leaves;
}

/** Edges between shown things; before and after: on which side. */
function visibleEdges(data, collapsed) {
  const byId = new Map(data.vertices.map((vertex) => [vertex.id, leafOf(vertex, collapsed).id]));
  const edges = new Map();
  for (const [from, to, before, after] of data.edges) {
    const source = byId.get(from), target = byId.get(to);
    if (source === target) continue;
    const id = JSON.stringify([source, target]);
    const known = edges.get(id) ?? { id: `e:${id}`, source, target, before: false, after: false };
    edges.set(id, { ...known, before: known.before || before, after: known.after || after });
  }
  return [...edges.values()];
}

/** Leaves and boxes with centre and size, and edges with the points that they pass. `width(leaf)` in pixels. */
function arrange(data, collapsed, width) {
  const leaves = visibleLeaves(data, collapsed);
  const edges = visibleEdges(data, collapsed);
  const boxes = new Map([[ROOT, newBox(ROOT)]]);
  for (const leaf of leaves.values()) placeInBoxes(leaf, boxes, width(leaf));
  for (const edge of edges) edge.hops = hopsOf(leaves.get(edge.source), leaves.get(edge.target), boxes);
  const inward = [...boxes.values()].sort((x, y) => y.depth - x.depth);
  for (const box of inward) layOut(box, boxes);
  for (const box of inward.reverse()) moveInside(box, boxes, leaves);
  for (const edge of edges) edge.points = edge.hops.flatMap((hop) => pointsOf(hop));
  boxes.delete(ROOT);
  return { leaves, boxes, edges };
}

const newBox = (path, depth = 0) => ({ path, depth, children: new Map(), links: new Map(), x: 0, y: 0 });

function placeInBoxes(leaf, boxes, width) {
  let box = boxes.get(ROOT);
  leaf.chain = [ROOT];
  leaf.parents.forEach((_, index) => {
    const path = groupPath(leaf.parents.slice(0, index + 1));
    if (!boxes.has(path)) boxes.set(path, newBox(path, index + 1));
    box.children.set(boxId(path), { box: path });
    box = boxes.get(path);
    leaf.chain.push(path);
  });
  leaf.width = width;
  leaf.height = ROW;
  box.children.set(leaf.id, { leaf: leaf.id, width, height: ROW });
}

/** An edge as links within one box each: out of the source's boxes, across, into the target's. */
function hopsOf(source, target, boxes) {
  let shared = 0;
  while (shared < Math.min(source.chain.length, target.chain.length) && source.chain[shared] === target.chain[shared]) {
    shared += 1;
  }
  const child = (leaf, level) => (level + 1 < leaf.chain.length ? boxId(leaf.chain[level + 1]) : leaf.id);
  const hops = [];
  const hop = (path, from, to) => {
    const box = boxes.get(path), key = JSON.stringify([from, to]);
    if (!box.links.has(key)) box.links.set(key, { from, to });
    hops.push({ box, link: box.links.get(key) });
  };
  for (let level = source.chain.length - 1; level >= shared; level -= 1) {
    hop(source.chain[level], child(source, level), `out:${source.id}`);
  }
  hop(source.chain[shared - 1], child(source, shared - 1), child(target, shared - 1));
  for (let level = shared; level < target.chain.length; level += 1) {
    hop(target.chain[level], `in:${source.id}`, child(target, level));
  }
  return hops;
}

/** The size of a box, the places of its children in it and the points of its links. */
function layOut(box, boxes) {
  const graph = new dagre.graphlib.Graph();
  const ranker = box.children.size > SLOW ? "longest-path" : "network-simplex";
  graph.setGraph({ rankdir: "TB", nodesep: 26, edgesep: 14, ranksep: 26, ranker });
  for (const [id, child] of box.children) {
    const size = child.leaf ? child : boxes.get(child.box);
    graph.setNode(id, { width: size.width, height: size.height });
  }
  for (const { from, to } of box.links.values()) {
    for (const port of [from, to]) if (!box.children.has(port)) graph.setNode(port, { width: PORT, height: PORT });
    graph.setEdge(from, to, { weight: 2 });
  }
  pullToBorders(box, graph);
  dagre.layout(graph);
  const size = graph.graph();
  const inner = box.path !== ROOT;
  // Ports have done their work once everything has a place: the border is drawn close around the children.
  const rows = [...box.children.keys()].map((id) => graph.node(id));
  const top = inner ? Math.min(...rows.map((row) => row.y - row.height / 2)) - HEADER - 6 : 0;
  const bottom = inner ? Math.max(...rows.map((row) => row.y + row.height / 2)) + PAD : size.height;
  const left = inner ? -PAD : 0;
  box.width = Math.max(size.width, 60) - 2 * left;
  box.height = bottom - top;
  const moved = ({ x, y }) => ({ x: x - left, y: Math.min(Math.max(y - top, 0), box.height) });
  for (const [id, child] of box.children) child.at = moved(graph.node(id));
  for (const link of box.links.values()) link.points = graph.edge(link.from, link.to).points.map(moved);
}

/** Ports of incoming edges lie above, those of outgoing ones below everything else in the box. */
function pullToBorders(box, graph) {
  const ports = graph.nodes().filter((id) => !box.children.has(id));
  if (!ports.length) return;
  const free = [...box.children.keys()];
  const ends = { in: free.filter((id) => !graph.inEdges(id).length), out: free.filter((id) => !graph.outEdges(id).length) };
  for (const [way, end] of [["in", "top"], ["out", "bottom"]]) {
    const own = ports.filter((id) => id.startsWith(`${way}:`));
    if (!own.length) continue;
    graph.setNode(end, { width: 1, height: 1 });
    const join = (id, weight) => (way === "in" ? graph.setEdge(end, id, { weight }) : graph.setEdge(id, end, { weight }));
    own.forEach((id) => join(id, 50));
    ends[way].forEach((id) => join(id, 0));
  }
}

/** From places within a box to places on the page, once the box itself has its own. */
function moveInside(box, boxes, leaves) {
  for (const child of box.children.values()) {
    const own = child.leaf ? leaves.get(child.leaf) : boxes.get(child.box);
    const x = box.x + child.at.x, y = box.y + child.at.y;
    Object.assign(own, child.leaf ? { x, y } : { x: x - own.width / 2, y: y - own.height / 2 });
  }
}

const pointsOf = ({ box, link }) => link.points.map(({ x, y }) => ({ x: x + box.x, y: y + box.y }));

/** Points as cytoscape wants them: how far along the line between the ends, and how far beside it. */
function segmentsOf(points, source, target) {
  const dx = target.x - source.x, dy = target.y - source.y;
  const length = Math.hypot(dx, dy) || 1;
  const inner = points.slice(1, -1);
  const along = inner.map((point) => ((point.x - source.x) * dx + (point.y - source.y) * dy) / length ** 2);
  const beside = inner.map((point) => ((point.y - source.y) * dx - (point.x - source.x) * dy) / length);
  return { along, beside };
}
