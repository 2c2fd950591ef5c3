// Distributions of parameters: columns of DATA.parameters, histograms, the deviation of every layer.
const TENSORS = DATA.parameters;
const PARAMETERS_OF = new Map();
TENSORS.node.forEach((node, i) => {
  if (node < 0) return;
  if (!PARAMETERS_OF.has(node)) PARAMETERS_OF.set(node, []);
  PARAMETERS_OF.get(node).push(i);
});
const LEVELS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
const tensorName = (i) => STRINGS[TENSORS.name[i]];
const referenceWords = (i) => ({ Kaiming: "Kaiming normal", normal: "normal, 0.02", ones: "ones", zeros: "zeros" })[STRINGS[TENSORS.reference[i]]] || "";

/** Bars of the predicted values, and the normal curve of the standard initialisation in the same units. */
function histogram(levels, peak, low, high, curve, words) {
  const n = levels.length, width = 100, height = 32, bin = (high - low) / n;
  const density = (x) => curve && curve.std > 0 ? Math.exp(-0.5 * ((x - curve.mean) / curve.std) ** 2) / (curve.std * Math.sqrt(2 * Math.PI)) * bin : 0;
  const top = Math.max(peak, density(curve ? curve.mean : 0));
  const y = (share) => height - (height - 1) * share / top;
  let bars = "";
  [...levels].forEach((level, i) => {
    const share = peak * LEVELS.indexOf(level) / 63;
    if (share > 0) bars += `M${(i / n * width + .25).toFixed(2)} ${height}V${y(share).toFixed(2)}h${(width / n - .5).toFixed(2)}V${height}z`;
  });
  const made = svg("svg", { class: "hist", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": words }, svg("path", { class: "bars", d: bars }));
  if (top > 0 && curve && curve.std > 0) {
    let line = "";
    for (let i = 0; i <= 64; i++) line += `${i ? "L" : "M"}${(i / 64 * width).toFixed(2)} ${y(density(low + i / 64 * (high - low))).toFixed(2)}`;
    made.append(svg("path", { class: "curve", d: line }));
  }
  made.append(svg("path", { class: "base", d: `M0 ${height}H${width}` }));
  return made;
}

function tensorHistogram(i) {
  if (!TENSORS.levels[i]) return null;
  const curve = TENSORS.reference_std[i] > 0 ? { mean: TENSORS.reference_mean[i], std: TENSORS.reference_std[i] } : null;
  const words = `Histogram of ${tensorName(i)}: mean ${significant(TENSORS.mean[i])}, deviation ${significant(TENSORS.std[i])}`;
  return element("div", {}, histogram(TENSORS.levels[i], TENSORS.peak[i], TENSORS.low[i], TENSORS.high[i], curve, words),
    element("div", { class: "ends" }, element("span", {}, significant(TENSORS.low[i], 2)), element("span", {}, significant(TENSORS.high[i], 2))));
}

function tensorCard(i) {
  const facts = element("dl", {}), fact = (name, ...value) => facts.append(element("dt", {}, name), element("dd", {}, ...value));
  const outcome = STRINGS[TENSORS.outcome[i]], reason = STRINGS[TENSORS.reason[i]];
  fact("role", STRINGS[TENSORS.role[i]].replace("_", " "));
  fact("shape", STRINGS[TENSORS.shape[i]] || "scalar");
  fact("elements", whole(TENSORS.size[i]));
  fact("type", STRINGS[TENSORS.dtype[i]]);
  fact("outcome", badge(outcome));
  if (reason) fact("why", reason);
  if (TENSORS.mean[i] != null) {
    fact("mean", significant(TENSORS.mean[i]));
    fact("deviation", significant(TENSORS.std[i]));
    fact("range", `${significant(TENSORS.minimum[i])} to ${significant(TENSORS.maximum[i])}`);
  }
  if (TENSORS.reference_mean[i] != null)
    fact("standard", TENSORS.reference_std[i] ? `${referenceWords(i).split(",")[0]}, deviation ${significant(TENSORS.reference_std[i])}` : referenceWords(i));
  if (TENSORS.n_odd[i]) fact("not finite", whole(TENSORS.n_odd[i]));
  const card = element("div", { class: "tensor" }, element("header", {}, tensorName(i)), facts);
  const drawn = tensorHistogram(i);
  if (drawn) card.append(drawn);
  return card;
}

/** Deviation of each predicted weight by its place in the graph, on a logarithmic axis, with the standard's. */
function deviationPlot(weights, visit) {
  const box = element("div", { class: "plot" }), canvas = element("canvas", { "aria-hidden": "true" }), tip = element("div", { class: "tip", hidden: true });
  box.append(canvas, tip);
  const values = weights.flatMap((i) => [TENSORS.std[i], TENSORS.reference_std[i]]).filter((v) => v > 0);
  const low = Math.log10(Math.min(...bounds(values))) - 0.08, high = Math.log10(Math.max(...bounds(values))) + 0.08;
  let hovered = -1, sharp = null;
  const left = 52, right = 8, top = 8, bottom = 24;
  const x = (place) => left + (sharp.size.width - left - right) * (weights.length > 1 ? place / (weights.length - 1) : 0.5);
  const y = (value) => top + (sharp.size.height - top - bottom) * (high - Math.log10(value)) / (high - low);
  function paint() {
    const context = canvas.getContext("2d"), { width, height, ratio } = sharp.size, colours = themeColours();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    context.textBaseline = "middle";
    context.lineWidth = 1;
    for (const tick of ticks(low, high)) {
      context.strokeStyle = colours.line;
      context.beginPath(); context.moveTo(left, y(tick)); context.lineTo(width - right, y(tick)); context.stroke();
      context.fillStyle = colours.muted;
      context.textAlign = "right";
      context.fillText(String(Number(tick.toPrecision(2))), left - 9, y(tick));
    }
    context.textAlign = "left"; context.fillText("first layer", left, height - 8);
    context.textAlign = "right"; context.fillText("last layer", width - right, height - 8);
    context.strokeStyle = colours.reference;
    context.lineWidth = 1.6;
    const half = weights.length > 1 ? Math.max(1.5, (x(1) - x(0)) / 2 - (weights.length > 200 ? 0 : 0.5)) : 8;
    context.beginPath();
    weights.forEach((i, place) => { const at = y(TENSORS.reference_std[i]); context.moveTo(x(place) - half, at); context.lineTo(x(place) + half, at); });
    context.stroke();
    context.fillStyle = colours.predicted;
    const r = weights.length > 600 ? 1.6 : weights.length > 150 ? 2.4 : 3.6;
    weights.forEach((i, place) => { if (TENSORS.std[i] > 0) { context.beginPath(); context.arc(x(place), y(TENSORS.std[i]), place === hovered ? r + 2.5 : r, 0, 7); context.fill(); } });
  }
  const placeAt = (event) => {
    const at = (event.clientX - canvas.getBoundingClientRect().left - x(0)) / Math.max(1, x(weights.length - 1) - x(0)) * (weights.length - 1);
    return Math.min(weights.length - 1, Math.max(0, Math.round(at || 0)));
  };
  canvas.addEventListener("pointermove", (event) => {
    hovered = placeAt(event);
    const i = weights[hovered];
    tip.textContent = `${tensorName(i)}\npredicted ${significant(TENSORS.std[i])}, standard ${significant(TENSORS.reference_std[i])}`;
    tip.hidden = false;
    const far = x(hovered) > sharp.size.width / 2;
    tip.style.left = far ? "auto" : `${x(hovered) + 12}px`;
    tip.style.right = far ? `${sharp.size.width - x(hovered) + 12}px` : "auto";
    tip.style.top = "10px";
    sharp.redraw();
  });
  canvas.addEventListener("pointerleave", () => { hovered = -1; tip.hidden = true; sharp.redraw(); });
  canvas.addEventListener("click", (event) => visit(TENSORS.node[weights[placeAt(event)]]));
  return { box, show() { sharp = sharpCanvas(canvas, paint); paint(); } };
}
function bounds(values) {
  // Not Math.min(...values): an argument list has an end.
  return [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
}
function ticks(low, high) {
  const found = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power++)
    for (const factor of high - low > 2.2 ? [1] : [1, 2, 5]) {
      const tick = factor * 10 ** power;
      if (Math.log10(tick) >= low && Math.log10(tick) <= high) found.push(tick);
    }
  return found;
}
