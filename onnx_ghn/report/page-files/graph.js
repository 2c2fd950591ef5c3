// The graph on a canvas: what is drawn, and where. Paths are made once, in the units of the layout.
const NODES = DATA.graph.nodes, LOOKS = DATA.graph.looks, COUNT = NODES.x.length;
const MIN_LABEL_SCALE = 0.95, NEAR = 1.1;

function swatch(look) {
  const kind = LOOKS[look];
  const corners = DATA.graph.outlines[kind.shape];
  const shape = corners ? svg("polygon", { points: corners.map((p) => p.join(",")).join(" ") }) : svg("circle", { r: 1 });
  const made = svg("svg", { viewBox: "-1.5 -1.5 3 3", class: "swatch", "aria-hidden": "true" }, shape);
  made.style.setProperty("--light", kind.light);
  made.style.setProperty("--dark", kind.dark);
  return made;
}

function outlineOf(path, node, grow = 1) {
  const x = NODES.x[node], y = NODES.y[node], r = NODES.r[node] * grow;
  const corners = DATA.graph.outlines[LOOKS[NODES.look[node]].shape];
  if (!corners) { path.moveTo(x + r, y); path.arc(x, y, r, 0, 2 * Math.PI); return; }
  corners.forEach(([a, b], i) => (i ? path.lineTo(x + a * r, y + b * r) : path.moveTo(x + a * r, y + b * r)));
  path.closePath();
}

/** The last point of a curve that is `distance` from its end. */
function nearEnd(c, distance) {
  let low = 0, high = 1, x = 0, y = 0;
  for (let i = 0; i < 14; i++) {
    const t = (low + high) / 2, u = 1 - t, w = [u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t];
    x = w[0] * c[3] + w[1] * c[5] + w[2] * c[7] + w[3] * c[9];
    y = w[0] * c[4] + w[1] * c[6] + w[2] * c[8] + w[3] * c[10];
    if (Math.hypot(x - c[9], y - c[10]) > distance) low = t;
    else high = t;
  }
  return [x, y];
}

function arrowHead(path, c) {
  const gap = NODES.r[c[1]] * 1.18 + 1.2; // the tip stops short of the node
  const [x, y] = nearEnd(c, gap), [bx, by] = nearEnd(c, gap + 5.5);
  const length = Math.hypot(x - bx, y - by) || 1, dx = 2.7 * (x - bx) / length, dy = 2.7 * (y - by) / length;
  path.moveTo(x, y);
  path.lineTo(bx - dy, by + dx);
  path.lineTo(bx + dy, by - dx);
  path.closePath();
}

function makeGraph(canvas) {
  const view = { x: 0, y: 0, k: 1 };
  const state = { selected: -1, hovered: -1, lit: null, touched: false };
  const before = Array.from({ length: COUNT }, () => []), after = Array.from({ length: COUNT }, () => []);
  const wires = new Map(), heads = new Path2D(), curvesAt = Array.from({ length: COUNT }, () => []);
  DATA.graph.curves.forEach((c) => {
    const [a, b, look, xa, ya, xb, yb, xc, yc, xd, yd] = c;
    after[a].push(b); before[b].push(a); curvesAt[a].push(c); curvesAt[b].push(c);
    if (!wires.has(look)) wires.set(look, new Path2D());
    const path = wires.get(look);
    path.moveTo(xa, ya); path.bezierCurveTo(xb, yb, xc, yc, xd, yd);
    if (look < 0) arrowHead(heads, c);
  });
  let marks = null; // [lit?, look, Path2D]
  function makeMarks() {
    const groups = new Map();
    for (let i = 0; i < COUNT; i++) {
      const lit = !state.lit || state.lit.has(i), key = NODES.look[i] * 2 + (lit ? 1 : 0);
      if (!groups.has(key)) groups.set(key, [lit, NODES.look[i], new Path2D()]);
      outlineOf(groups.get(key)[2], i);
    }
    marks = [...groups.values()].sort((a, b) => a[0] - b[0]);
  }
  makeMarks();
  let colours = themeColours();
  onTheme(() => { colours = themeColours(); });
  const context = canvas.getContext("2d");
  const { size, redraw } = sharpCanvas(canvas, paint);

  function paint() {
    const { width, height, ratio } = size, dark = isDark(), k = view.k;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.setTransform(ratio * k, 0, 0, ratio * k, ratio * view.x, ratio * view.y);
    const filtered = state.lit !== null;
    for (const [look, path] of wires) {
      context.globalAlpha = (look < 0 ? 1 : DATA.graph.faint) * (filtered ? 0.25 : 1);
      context.strokeStyle = look < 0 ? colours.wire : dark ? LOOKS[look].dark : LOOKS[look].light;
      context.lineWidth = Math.max(look < 0 ? 1.3 : 0.9, 0.55 / k);
      context.stroke(path);
    }
    if (k > 0.3) {
      context.globalAlpha = filtered ? 0.25 : 1;
      context.fillStyle = colours.wire;
      context.fill(heads);
    }
    for (const [lit, look, path] of marks) {
      context.globalAlpha = lit ? 1 : 0.13;
      context.fillStyle = dark ? LOOKS[look].dark : LOOKS[look].light;
      context.fill(path);
      if (k > 0.3) {
        context.strokeStyle = dark ? "rgba(255,255,255,.28)" : "rgba(0,0,0,.2)";
        context.lineWidth = 0.7;
        context.stroke(path);
      }
    }
    context.globalAlpha = 1;
    if (k >= MIN_LABEL_SCALE) paintLabels(width, height, k);
    if (state.selected >= 0) paintSelection(k);
    if (state.hovered >= 0 && state.hovered !== state.selected) ring(state.hovered, 1.6, 1.5 / Math.max(k, 0.5));
  }

  function paintLabels(width, height, k) {
    context.fillStyle = colours.muted;
    context.textAlign = "center";
    context.font = `7px ${getComputedStyle(document.body).fontFamily}`;
    for (let i = 0; i < COUNT; i++) {
      const x = NODES.x[i] * k + view.x, y = NODES.y[i] * k + view.y;
      if (x < -40 || y < -40 || x > width + 40 || y > height + 40 || (state.lit && !state.lit.has(i))) continue;
      context.fillText(STRINGS[NODES.label[i]], NODES.x[i], NODES.y[i] + NODES.r[i] + 10);
    }
  }
  function ring(node, grow, line) {
    const path = new Path2D();
    outlineOf(path, node, grow);
    context.strokeStyle = colours.accent;
    context.lineWidth = line;
    context.lineJoin = "round";
    context.stroke(path);
  }
  function paintSelection(k) {
    const path = new Path2D(), tips = new Path2D();
    for (const c of curvesAt[state.selected]) {
      path.moveTo(c[3], c[4]); path.bezierCurveTo(...c.slice(5));
      arrowHead(tips, c);
    }
    context.strokeStyle = context.fillStyle = colours.accent;
    context.lineWidth = Math.max(2, 1.5 / k);
    context.stroke(path);
    context.fill(tips);
    const mark = new Path2D();
    outlineOf(mark, state.selected, Math.max(1, 3 / (NODES.r[state.selected] * k)));
    const look = LOOKS[NODES.look[state.selected]];
    context.fillStyle = isDark() ? look.dark : look.light;
    context.fill(mark);
    ring(state.selected, Math.max(1.45, 7 / (NODES.r[state.selected] * k)), Math.max(2, 2.2 / k));
    for (const node of [...before[state.selected], ...after[state.selected]]) ring(node, 1.3, Math.max(1, 1 / k));
  }

  // -- where to look ------------------------------------------------------------------------------------
  const limits = () => [Math.min(fitScale(), 1) * 0.5, 8];
  function fitScale() {
    return Math.min(size.width / DATA.graph.width, size.height / DATA.graph.height, 2);
  }
  function fit() {
    view.k = fitScale() || 1;
    view.x = (size.width - DATA.graph.width * view.k) / 2;
    view.y = (size.height - DATA.graph.height * view.k) / 2;
    state.touched = false;
    redraw();
  }
  function zoom(factor, x = size.width / 2, y = size.height / 2) {
    const [low, high] = limits(), k = Math.min(high, Math.max(low, view.k * factor)), real = k / view.k;
    view.x = x - (x - view.x) * real; view.y = y - (y - view.y) * real; view.k = k;
    move(0, 0);
  }
  function move(dx, dy) {
    state.touched = true;
    // Some of the graph always stays in sight.
    const keep = 60, w = DATA.graph.width * view.k, h = DATA.graph.height * view.k;
    view.x = Math.min(size.width - keep, Math.max(keep - w, view.x + dx));
    view.y = Math.min(size.height - keep, Math.max(keep - h, view.y + dy));
    redraw();
  }
  function reveal(node, closer = false) {
    const scale = closer ? Math.max(view.k, NEAR) : view.k, edge = 50;
    const x = NODES.x[node] * view.k + view.x, y = NODES.y[node] * view.k + view.y;
    const inside = x > edge && y > edge && x < size.width - edge && y < size.height - edge;
    if (inside && scale === view.k) return;
    view.k = scale;
    view.x = size.width / 2 - NODES.x[node] * scale; view.y = size.height / 2 - NODES.y[node] * scale;
    move(0, 0);
  }
  function at(px, py, reach = 4) {
    const x = (px - view.x) / view.k, y = (py - view.y) / view.k;
    let found = -1, nearest = Infinity;
    for (let i = 0; i < COUNT; i++) {
      const d = Math.hypot(NODES.x[i] - x, NODES.y[i] - y) - NODES.r[i] * 1.2;
      if (d < nearest) { nearest = d; found = i; }
    }
    return nearest * view.k <= reach ? found : -1;
  }
  canvas.addEventListener("resized", () => { if (!state.touched) fit(); });
  fit();
  paint();
  return {
    before, after, view, state, size, fit, zoom, move, reveal, at,
    select(node) { state.selected = node; redraw(); },
    hover(node) { if (state.hovered !== node) { state.hovered = node; redraw(); } },
    light(nodes) { state.lit = nodes; makeMarks(); redraw(); },
  };
}
