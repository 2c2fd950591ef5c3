// The sections below the graph.
const into = (id, ...children) => document.querySelector(`#${id} .body`).append(...children);
const nothing = (id, words, command) => into(id, element("p", { class: "empty" }, words, " ", element("code", {}, command)));

function showHead() {
  const { n_trainable, outcomes } = DATA.coverage;
  const predicted = outcomes.find((entry) => entry.outcome === "predicted").elements;
  byId("name").textContent = DATA.name;
  byId("lead").textContent = DATA.ghn
    ? `Every trainable tensor, as ${DATA.ghn} predicts it from the graph.`
    : "The graph, and what a GHN would predict of it.";
  tiles(byId("facts"), [
    ["nodes", whole(COUNT)],
    ["edges", whole(DATA.graph.n_edges)],
    ["trainable elements", short(n_trainable)],
    [DATA.ghn ? "predicted" : "predictable", n_trainable ? percent(predicted / n_trainable) : "–"],
    ["GHN", DATA.ghn || "none"],
  ]);
}

const WHY = {
  predicted: "decoded by the GHN",
  inherited: "a donor's weights",
  fallback: "the standard initialisation of its role",
  kept: "its own values",
  statistic: "running means and variances: calibrated by predict, not trained",
  frozen: "constants, and layers that the exported model does not train",
};
function showCoverage(visit) {
  const { n_trainable, outcomes, reasons, notes } = DATA.coverage;
  const trained = outcomes.filter(({ outcome, elements }) => ["predicted", "inherited", "fallback", "kept"].includes(outcome) && elements);
  const words = trained.map(({ outcome, elements }) => `${outcome} ${percent(elements / n_trainable)}`).join(", ");
  if (trained.length) into("coverage", element("div", { class: "share", role: "img", "aria-label": `Share of trainable elements: ${words}` },
    ...trained.map(({ outcome, elements }) => element("div", { class: `tone-${outcome}`, title: `${outcome}: ${percent(elements / n_trainable)}`, style: { "flex-grow": elements } }))));
  into("coverage", table([["outcome", ""], ["tensors", "num"], ["elements", "num"], ["share", "num"], ["what it gets", "wide extra"]],
    outcomes.filter(({ tensors }) => tensors).map(({ outcome, tensors, elements }) => [badge(outcome), whole(tensors), whole(elements),
      trained.some((entry) => entry.outcome === outcome) ? percent(elements / n_trainable) : "–", WHY[outcome]])));
  if (reasons.length) {
    const byName = new Map(TENSORS.name.map((name, i) => [STRINGS[name], i]));
    const example = (name) => {
      const node = TENSORS.node[byName.get(name)];
      return node >= 0 ? element("button", { type: "button", on: { click: () => visit(node) } }, name) : element("span", { class: "mono" }, name);
    };
    into("coverage", element("h3", {}, "Not predicted, and why"), table([["reason", "wide"], ["outcome", ""], ["tensors", "num"], ["elements", "num"], ["such as", "wide"]],
      reasons.map((entry) => [entry.reason, badge(entry.outcome), whole(entry.tensors), whole(entry.elements), example(entry.examples[0])])));
  }
  notes.forEach((note) => into("coverage", element("p", { class: "note" }, note)));
}

function showWeights(visit) {
  const weights = TENSORS.node.map((_, i) => i).filter((i) => STRINGS[TENSORS.role[i]] === "weight" && STRINGS[TENSORS.outcome[i]] === "predicted" && TENSORS.std[i] > 0);
  if (!DATA.ghn) { nothing("weights", "Nothing was predicted for this page. Leave out --no-predict:", "onnx-ghn report model.onnx -o report.html"); return; }
  if (!weights.length) { into("weights", element("p", { class: "empty" }, "The GHN predicts no weights of this model.")); return; }
  weights.sort((a, b) => TENSORS.node[a] - TENSORS.node[b]);
  const ratios = weights.map((i) => TENSORS.std[i] / TENSORS.reference_std[i]).sort((a, b) => a - b);
  const quantile = (q) => ratios[Math.round(q * (ratios.length - 1))];
  into("weights", tiles(element("dl", { class: "tiles" }), [
    ["predicted weights", whole(weights.length), "tensors"],
    ["predicted / Kaiming, median", `${significant(quantile(0.5))}`, "×"],
    ["of nine in ten", `${significant(quantile(0.05))} – ${significant(quantile(0.95))}`, "×"],
    ["narrower than Kaiming", percent(ratios.filter((r) => r < 1).length / ratios.length), "of tensors"],
  ]));
  const plot = deviationPlot(weights, visit);
  into("weights", element("h3", { class: "between" }, "Standard deviation, layer by layer"),
    element("p", { class: "keyline" }, element("span", {}, "predicted"), element("span", { class: "ref" }, "Kaiming normal, √(2 / fan-in)")), plot.box);
  plot.show();
  const SHOWN = 400;
  const rows = weights.slice(0, SHOWN).map((i) => [element("button", { type: "button", on: { click: () => visit(TENSORS.node[i]) } }, tensorName(i)), STRINGS[TENSORS.shape[i]],
    significant(TENSORS.mean[i]), significant(TENSORS.std[i]), significant(TENSORS.reference_std[i]), significant(TENSORS.std[i] / TENSORS.reference_std[i])]);
  const details = element("details", {}, element("summary", {}, "The same as a table"));
  // Made when it is opened: thousands of cells cost more than all the rest of the page.
  details.addEventListener("toggle", () => {
    if (details.children.length > 1) return;
    details.append(table([["weight", "wide"], ["shape", ""], ["mean", "num"], ["deviation", "num"], ["Kaiming", "num"], ["ratio", "num"]], rows,
      weights.length > SHOWN ? `The first ${SHOWN} of ${whole(weights.length)}` : ""));
  });
  into("weights", details);
  const largest = [...weights].sort((a, b) => TENSORS.size[b] - TENSORS.size[a]).slice(0, 12).sort((a, b) => TENSORS.node[a] - TENSORS.node[b]);
  into("weights", element("h3", {}, largest.length < weights.length ? `The ${largest.length} largest` : "Distributions"),
    element("p", { class: "keyline" }, element("span", {}, "predicted"), element("span", { class: "ref" }, "Kaiming normal")),
    element("div", { class: "grid" }, ...largest.map((i) => element("button", { type: "button", class: "small", on: { click: () => visit(TENSORS.node[i]) } },
      element("h4", {}, tensorName(i)), element("p", {}, `${STRINGS[TENSORS.shape[i]]} · deviation ${significant(TENSORS.std[i])}, Kaiming ${significant(TENSORS.reference_std[i])}`), tensorHistogram(i)))));
}

function showProfile() {
  const profile = DATA.profile;
  if (!profile) { nothing("profile", "Not measured. To run the model through onnxruntime and show its latency and operators here:", "onnx-ghn report model.onnx -o report.html --profile"); return; }
  profile.points.forEach((point, place) => {
    const title = element("h3", {}, point.label);
    if (place) title.className = "between";
    into("profile", title);
    if (point.error) { into("profile", element("p", { class: "error" }, point.error)); return; }
    const latency = point.latency;
    if (latency) {
      into("profile", tiles(element("dl", { class: "tiles" }), [
        ["p50", milliseconds(latency.p50_ms)], ["p90", milliseconds(latency.p90_ms)], ["p99", milliseconds(latency.p99_ms)],
        ["throughput", significant(latency.items_per_s), "items / s"],
        ...(point.peak_bytes ? [["peak memory", bytes(point.peak_bytes)]] : []),
        ["session", milliseconds(point.session_creation_ms)],
      ]), element("p", { class: "note" }, `${whole(latency.n_runs)} runs, mean ${milliseconds(latency.mean_ms)}, deviation ${milliseconds(latency.std_ms)}, the first ${milliseconds(latency.first_run_ms)}. ${point.inputs.join("; ")}`));
      if (latency.n_runs >= 20) into("profile", latencyChart(latency));
    }
    if (point.operators && point.operators.kinds.length) showOperators(point.operators);
    point.notes.forEach((note) => into("profile", element("p", { class: "note" }, note)));
  });
  const { processor, cores, onnxruntime } = profile.system;
  into("profile", element("p", { class: "note" }, [processor, cores && `${cores} cores`, onnxruntime && `onnxruntime ${onnxruntime}`, `${bytes(profile.size_bytes)} on disk`].filter(Boolean).join(" · ")));
}
function latencyChart({ samples_ms: samples, p50_ms, p99_ms }) {
  const sorted = [...samples].sort((a, b) => a - b), n = 40;
  const low = sorted[0], high = Math.max(sorted[Math.floor(0.99 * (sorted.length - 1))], low * 1.02 + 1e-9), counts = Array(n).fill(0);
  sorted.forEach((value) => counts[Math.min(n - 1, Math.floor((value - low) / (high - low) * n))]++);
  const most = Math.max(...counts);
  const drawn = histogram(counts.map((count) => LEVELS[Math.ceil(63 * count / most)]).join(""), most / sorted.length, low, high, null, `Latencies: half below ${milliseconds(p50_ms)}, 99 in 100 below ${milliseconds(p99_ms)}`);
  return element("div", { class: "between" }, drawn, element("div", { class: "ends" }, element("span", {}, milliseconds(low)), element("span", {}, `${milliseconds(high)} and more`)));
}
function showOperators({ kinds, slowest, operators_ms: all }) {
  const most = kinds[0].mean_ms, row = ({ kind, count, mean_ms }) => element("div", { class: "row" },
    element("span", {}, kind, " ", element("span", { class: "faint" }, `× ${whole(count)}`)),
    element("div", { class: "track" }, element("div", { class: "fill", style: { width: `${100 * mean_ms / most}%` } })),
    element("span", { class: "num" }, milliseconds(mean_ms)), element("span", { class: "num faint" }, all ? `${(100 * mean_ms / all).toFixed(1)}%` : ""));
  into("profile", element("h3", {}, "Time by operator"), element("div", { class: "bars" }, ...kinds.slice(0, 12).map(row)),
    element("h3", {}, "The slowest"),
    table([["operator", "wide"], ["kind", ""], ["output", ""], ["mean", "num"], ["deviation", "num"], ["MACs", "num"]],
      slowest.map((entry) => [element("span", { class: "mono" }, entry.name), entry.kind, entry.shape, milliseconds(entry.mean_ms), milliseconds(entry.std_ms), entry.macs == null ? "–" : short(entry.macs)])));
}

function showProperties() {
  const properties = DATA.properties;
  if (!properties) {
    into("properties", element("p", { class: "empty" }, DATA.ghn ? "No property predictor is bundled with this version." : "Nothing was predicted for this page."));
    return;
  }
  if (properties.rows.length) into("properties", table([["property", ""], ["predicted", "num"], ["nine in ten lie within", "num"], ["what it is", "wide extra"]],
    properties.rows.map(({ name, value, unit, low, high, meaning }) => [name, `${significant(value)} ${unit}`, `${significant(low)} – ${significant(high)} ${unit}`, meaning])));
  properties.notes.forEach((note) => into("properties", element("p", { class: "note" }, note)));
}

function showTools() {
  const found = DATA.tools;
  if (!found) { nothing("tools", "This page says nothing of other tools:", "onnx-ghn inspect model.onnx --for all"); return; }
  if (!found.length) { into("tools", element("p", { class: "empty" }, "Nothing is known that speaks against any tool, which is no proof that they run the model.")); return; }
  into("tools", element("p", {}, "What tools are known to refuse in this model or to compute otherwise than onnxruntime, in the versions in which it was seen."),
    table([["tool", ""], ["version", ""], ["effect", ""], ["what happens", "wide"], ["nodes", "num"], ["first", "wide"]],
      found.map((entry) => [entry.tool, entry.version, entry.effect, entry.what, whole(entry.nodes), entry.first])));
}
