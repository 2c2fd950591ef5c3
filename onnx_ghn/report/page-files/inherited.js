// Both models block by block, a line between two that stand for each other, and where each tensor comes from.
const PAIR_ROW = 30; // pixels of a block, as the style has it

function showInherited(visit) {
  const found = DATA.inherited;
  if (!found) { nothing("inherited", "No weights are inherited. To take those of a trained file of any architecture:", "onnx-ghn report model.onnx --from trained.onnx -o report.html"); return; }
  const { donor, model_blocks: mine, donor_blocks: theirs, links, tensors, n_missing, notes } = found;
  const exact = tensors.filter(({ doubt }) => !doubt).length;
  into("inherited", tiles(element("dl", { class: "tiles" }), [
    ["inherited", whole(tensors.length), "tensors"],
    ["blocks with a counterpart", `${mine.filter(({ kind }) => kind === "paired").length} of ${mine.length}`],
    ["that keep the donor's outputs", percent(tensors.length ? exact / tensors.length : 0), "of tensors"],
    ["without a counterpart", whole(n_missing), "tensors"],
  ]));
  const height = PAIR_ROW * Math.max(mine.length, theirs.length), middle = (number) => PAIR_ROW * (number + 0.5);
  const paths = links.map(([a, b]) => svg("path", { d: `M0 ${middle(a)}C50 ${middle(a)} 50 ${middle(b)} 100 ${middle(b)}` }));
  const wires = svg("svg", { viewBox: `0 0 100 ${height}`, preserveAspectRatio: "none", height, "aria-hidden": "true" }, ...paths);
  const column = (blocks, side, words) => {
    const buttons = blocks.map(({ name, kind }, number) => element("button", {
      type: "button", class: `pair ${kind}`, title: name, "aria-pressed": "false",
      on: { click: () => choose(side, number), mouseenter: () => mark(side, number), mouseleave: () => mark(...chosen) },
    }, name));
    return [element("ol", { class: "pairs", "aria-label": words }, ...buttons.map((button) => element("li", {}, button))), buttons];
  };
  const [left, leftButtons] = column(mine, 0, "Blocks of the model");
  const [right, rightButtons] = column(theirs, 1, `Blocks of ${donor}`);
  const detail = element("div", { class: "detail", "aria-live": "polite" });
  let chosen = [-1, -1];

  /** The lines of one block, and what is at their other ends. */
  function mark(side, number) {
    const near = new Set(), far = new Set();
    links.forEach((link, i) => {
      const on = side >= 0 && link[side] === number;
      paths[i].classList.toggle("on", on);
      if (on) { near.add(link[0]); far.add(link[1]); }
    });
    leftButtons.forEach((button, i) => button.classList.toggle("on", (side === 0 && i === number) || near.has(i)));
    rightButtons.forEach((button, i) => button.classList.toggle("on", (side === 1 && i === number) || far.has(i)));
  }

  function choose(side, number) {
    chosen = [side, number];
    leftButtons.forEach((button, i) => button.setAttribute("aria-pressed", String(side === 0 && i === number)));
    rightButtons.forEach((button, i) => button.setAttribute("aria-pressed", String(side === 1 && i === number)));
    mark(side, number);
    const block = (side === 0 ? mine : theirs)[number];
    const rows = tensors.filter((row) => (side === 0 ? row.block : row.donor_block) === number);
    const others = block.tensors.filter((name) => !rows.some((row) => (side === 0 ? row.name : row.source) === name));
    detail.replaceChildren(element("h3", { class: "between" }, block.name));
    if (rows.length) detail.append(table([["tensor", "wide"], ["from", "wide"], ["rule", "wide"], ["keeps outputs", "wide"]], rows.map(originRow)));
    if (others.length) detail.append(element("p", { class: "note" }, `${side === 0 ? "Not inherited" : "Not taken"}: ${others.join(", ")}`));
  }

  const byName = new Map(TENSORS.name.map((name, i) => [STRINGS[name], TENSORS.node[i]]));
  function originRow({ name, source, donor: from, rule, doubt }) {
    const node = byName.get(name);
    const shown = node >= 0 ? element("button", { type: "button", on: { click: () => visit(node) } }, name) : element("span", { class: "mono" }, name);
    return [shown, element("span", { class: "mono" }, source ? (from === donor ? source : `${source} of ${from}`) : "–"), rule, doubt || "yes"];
  }

  into("inherited", element("h3", { class: "between" }, "Block by block"),
    element("p", { class: "note" }, `The model on the left, ${donor} on the right. Choose a block to see where its tensors come from.`),
    element("p", { class: "kinds" }, ...[["paired", "has a counterpart"], ["new", "begins as the identity"], ["alone", "has none"]].map(([kind, words]) => element("span", { class: kind }, words))),
    element("div", { class: "both", tabindex: "0", role: "region", "aria-label": "Both models" }, left, wires, right), detail);
  notes.forEach((note) => into("inherited", element("p", { class: "note" }, note)));
  const first = mine.findIndex(({ kind }) => kind === "paired");
  if (first >= 0) choose(0, first);
}
