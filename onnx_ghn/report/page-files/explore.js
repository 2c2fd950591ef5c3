// Pointer, keyboard, search, legend and the panel of the selected node.
const nodeName = (node) => STRINGS[NODES.name[node]];
const nodeWords = (node) => [LOOKS[NODES.look[node]].label, STRINGS[NODES.shape[node]]].filter(Boolean).join(", ");

function makeExplorer() {
  const canvas = byId("canvas"), graph = makeGraph(canvas), tip = byId("tip"), panel = byId("panel");
  const chosen = new Set();
  let matches = null;

  function select(node, { announce = true, reveal = true, closer = false } = {}) {
    graph.select(node);
    showPanel(node);
    if (node < 0) return;
    if (reveal) graph.reveal(node, closer);
    if (announce) byId("live").textContent = `${nodeName(node)}: ${nodeWords(node)}. Node ${node + 1} of ${COUNT}, reads ${graph.before[node].length}, read by ${graph.after[node].length}.`;
  }
  /** From elsewhere in the page: the graph comes into sight too. */
  function visit(node) {
    byId("graph").scrollIntoView({ block: "start" });
    select(node, { closer: true });
    canvas.focus({ preventScroll: true });
  }

  // -- panel --------------------------------------------------------------------------------------------
  function showPanel(node) {
    panel.replaceChildren();
    panel.scrollTop = 0;
    if (node < 0) {
      panel.append(element("p", { class: "empty" }, "Choose a node to see its parameters: click it, search for it, or press an arrow key in the graph."));
      const sizes = new Map([...PARAMETERS_OF].map(([other, own]) => [other, own.reduce((sum, i) => sum + TENSORS.size[i], 0)]));
      const largest = [...sizes].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, 8);
      if (largest.length) panel.append(element("h4", {}, "Most parameters"), element("div", { class: "links list" }, ...largest.map(([other, total]) =>
        element("button", { type: "button", on: { click: () => { select(other, { closer: true }); panel.focus({ preventScroll: true }); } } },
          swatch(NODES.look[other]), element("span", {}, nodeName(other)), element("span", { class: "n" }, short(total))))));
      return;
    }
    const kind = element("p", { class: "kind" }, swatch(NODES.look[node]), LOOKS[NODES.look[node]].label);
    panel.append(kind, element("h3", {}, nodeName(node)));
    const facts = element("dl", {});
    const fact = (name, value) => facts.append(element("dt", {}, name), element("dd", {}, value));
    fact("node", `${whole(node + 1)} of ${whole(COUNT)}`);
    if (STRINGS[NODES.shape[node]]) fact("shape", STRINGS[NODES.shape[node]]);
    panel.append(facts);
    const own = PARAMETERS_OF.get(node) || [];
    if (own.length) panel.append(element("h4", {}, own.length > 1 ? `${own.length} parameters` : "Parameter"));
    own.forEach((parameter) => panel.append(tensorCard(parameter)));
    for (const [title, nodes] of [["Reads", graph.before[node]], ["Read by", graph.after[node]]]) {
      if (!nodes.length) continue;
      const links = nodes.slice(0, 24).map((other) => element("button", { type: "button", on: { click: () => { select(other); panel.focus({ preventScroll: true }); } } },
        swatch(NODES.look[other]), nodeName(other)));
      panel.append(element("h4", {}, `${title} ${nodes.length}`), element("div", { class: "links" }, ...links, nodes.length > 24 ? `and ${nodes.length - 24} more` : ""));
    }
  }

  // -- pointer ------------------------------------------------------------------------------------------
  const pointers = new Map();
  let moved = 0, spread = 0;
  const place = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  const gap = () => { const [a, b] = [...pointers.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, place(event));
    if (pointers.size === 1) moved = 0;
    if (pointers.size === 2) spread = gap();
    tip.hidden = true;
  });
  canvas.addEventListener("pointermove", (event) => {
    const to = place(event), from = pointers.get(event.pointerId);
    if (!from) { hoverAt(event, to); return; }
    const share = 1 / pointers.size;
    pointers.set(event.pointerId, to);
    moved += Math.hypot(to[0] - from[0], to[1] - from[1]);
    if (moved < 4 && pointers.size === 1) return;
    canvas.classList.add("held");
    graph.move((to[0] - from[0]) * share, (to[1] - from[1]) * share);
    if (pointers.size === 2) {
      const now = gap(), [a, b] = [...pointers.values()];
      if (spread > 0 && now > 0) graph.zoom(now / spread, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
      spread = now;
    }
  });
  const release = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (pointers.size) { moved = 99; return; }
    canvas.classList.remove("held");
    if (event.type !== "pointerup" || moved >= 4) return;
    const found = graph.at(...place(event), event.pointerType === "mouse" ? 4 : 14);
    select(found, { reveal: false });
    if (found >= 0 && matchMedia("(max-width: 900px)").matches) panel.scrollIntoView({ block: "nearest" });
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; graph.hover(-1); });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return; // the page scrolls on
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 20 : 1;
    graph.zoom(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0016)), ...place(event));
  }, { passive: false });
  function hoverAt(event, [x, y]) {
    if (event.pointerType !== "mouse") return;
    const node = graph.at(x, y);
    graph.hover(node);
    canvas.classList.toggle("over", node >= 0);
    tip.hidden = node < 0;
    if (node < 0) return;
    tip.textContent = `${nodeName(node)}\n${nodeWords(node)}`;
    const right = x > graph.size.width / 2;
    tip.style.left = right ? "auto" : `${x + 14}px`;
    tip.style.right = right ? `${graph.size.width - x + 14}px` : "auto";
    tip.style.top = `${Math.min(y + 14, graph.size.height - 56)}px`;
  }

  // -- keyboard -----------------------------------------------------------------------------------------
  const nearest = (from, nodes) => nodes.reduce((best, node) => {
    const d = (n) => Math.hypot(NODES.x[n] - NODES.x[from], NODES.y[n] - NODES.y[from]);
    return best < 0 || d(node) < d(best) ? node : best;
  }, -1);
  function step(by) {
    const lit = graph.state.lit;
    for (let node = graph.state.selected + by; node >= 0 && node < COUNT; node += by) if (!lit || lit.has(node)) return node;
    return -1;
  }
  canvas.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey || event.ctrlKey) return;
    const now = graph.state.selected, arrows = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    let to = -1;
    if (event.key in arrows && event.shiftKey) graph.move(...arrows[event.key]);
    else if (event.key in arrows && now < 0) to = step(1);
    else if (event.key === "ArrowRight") to = nearest(now, graph.after[now]);
    else if (event.key === "ArrowLeft") to = nearest(now, graph.before[now]);
    else if (event.key === "ArrowDown") to = step(1);
    else if (event.key === "ArrowUp") to = step(-1);
    else if (event.key === "Home") to = 0;
    else if (event.key === "End") to = COUNT - 1;
    else if (event.key === "+" || event.key === "=") graph.zoom(1.3);
    else if (event.key === "-") graph.zoom(1 / 1.3);
    else if (event.key === "0") graph.fit();
    else if ((event.key === "Enter" || event.key === " ") && now >= 0) panel.focus();
    else if (event.key === "Escape" && now >= 0 && !byId("board").classList.contains("whole")) select(-1);
    else return;
    event.preventDefault();
    if (to >= 0) select(to);
  });
  panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.stopPropagation(); canvas.focus(); }
  });
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName || "");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) { event.preventDefault(); byId("query").focus(); }
    if (event.key === "Escape" && byId("board").classList.contains("whole")) expand(false);
  });
  byId("zoom-in").addEventListener("click", () => graph.zoom(1.4));
  byId("zoom-out").addEventListener("click", () => graph.zoom(1 / 1.4));
  byId("fit").addEventListener("click", () => graph.fit());
  function expand(on) {
    byId("board").classList.toggle("whole", on);
    document.body.style.overflow = on ? "hidden" : "";
    byId("expand").setAttribute("aria-pressed", on);
    byId("expand").textContent = on ? "Close" : "Expand";
  }
  byId("expand").addEventListener("click", () => expand(!byId("board").classList.contains("whole")));

  // -- search and legend --------------------------------------------------------------------------------
  function relight() {
    if (!chosen.size && !matches) { graph.light(null); return; }
    const lit = new Set();
    for (let i = 0; i < COUNT; i++) if ((!chosen.size || chosen.has(NODES.look[i])) && (!matches || matches.has(i))) lit.add(i);
    graph.light(lit);
  }
  setUpLegend(chosen, relight);
  setUpSearch((found) => { matches = found; relight(); }, (node) => { select(node, { closer: true }); canvas.focus({ preventScroll: true }); });
  canvas.setAttribute("aria-label", `Graph of ${whole(COUNT)} nodes and ${whole(DATA.graph.n_edges)} edges`);
  showPanel(-1);
  return { visit };
}

function setUpLegend(chosen, changed) {
  const legend = byId("legend"), counts = LOOKS.map(() => 0);
  NODES.look.forEach((look) => counts[look]++);
  const clear = element("button", { type: "button", class: "clear", hidden: true }, "Show all");
  const order = LOOKS.map((_, i) => i).sort((a, b) => LOOKS[a].order - LOOKS[b].order || LOOKS[a].label.localeCompare(LOOKS[b].label));
  const buttons = order.map((look) => {
    const button = element("button", { type: "button", "aria-pressed": "false" }, swatch(look), LOOKS[look].label, element("span", { class: "n" }, whole(counts[look])));
    button.addEventListener("click", () => {
      if (!chosen.delete(look)) chosen.add(look);
      button.setAttribute("aria-pressed", chosen.has(look));
      clear.hidden = !chosen.size;
      changed();
    });
    return button;
  });
  clear.addEventListener("click", () => {
    chosen.clear();
    buttons.forEach((button) => button.setAttribute("aria-pressed", "false"));
    buttons[0].focus();
    clear.hidden = true;
    changed();
  });
  legend.append(...buttons, clear);
}

function setUpSearch(changed, choose) {
  const LISTED = 40;
  const query = byId("query"), results = byId("results");
  const haystack = NODES.name.map((name, i) => `${STRINGS[name]}\n${LOOKS[NODES.look[i]].label}\n${LOOKS[NODES.look[i]].primitive}`.toLowerCase());
  let found = [], active = -1;
  function close() {
    results.hidden = true;
    query.setAttribute("aria-expanded", "false");
    query.removeAttribute("aria-activedescendant");
    active = -1;
  }
  function mark(to) {
    active = to;
    [...results.children].forEach((item, i) => item.role === "option" && item.setAttribute("aria-selected", i === to));
    if (to >= 0) { query.setAttribute("aria-activedescendant", results.children[to].id); results.children[to].scrollIntoView({ block: "nearest" }); }
  }
  function search() {
    const words = query.value.trim().toLowerCase();
    if (!words) { found = []; close(); changed(null); return; }
    found = [];
    haystack.forEach((text, i) => { if (text.includes(words)) found.push(i); });
    changed(new Set(found));
    results.replaceChildren(...found.slice(0, LISTED).map((node, i) =>
      element("li", { id: `result-${i}`, role: "option", "aria-selected": "false", on: { pointerdown: (event) => { event.preventDefault(); pick(i); } } },
        swatch(NODES.look[node]), element("span", { class: "mono" }, nodeName(node)), element("span", { class: "what" }, STRINGS[NODES.shape[node]]))));
    if (found.length !== Math.min(found.length, LISTED) || !found.length)
      results.append(element("li", { class: "more" }, found.length ? `and ${whole(found.length - LISTED)} more` : "No node has this in its name"));
    results.hidden = false;
    query.setAttribute("aria-expanded", "true");
    active = -1;
    byId("live").textContent = found.length === 1 ? "1 node found" : `${whole(found.length)} nodes found`;
  }
  function pick(i) { const node = found[i]; close(); choose(node); }
  query.addEventListener("input", search);
  query.addEventListener("focus", () => { if (query.value) search(); });
  query.addEventListener("blur", close);
  query.addEventListener("keydown", (event) => {
    const last = Math.min(found.length, LISTED) - 1;
    if (event.key === "ArrowDown") mark(Math.min(last, active + 1));
    else if (event.key === "ArrowUp") mark(Math.max(0, active - 1));
    else if (event.key === "Enter" && found.length) pick(Math.max(0, active));
    else if (event.key === "Escape" && query.value) { query.value = ""; search(); }
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}
