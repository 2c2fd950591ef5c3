// Small helpers. Names come from foreign files: they become text nodes, never markup.
const DATA = JSON.parse(document.getElementById("data").textContent);
const STRINGS = DATA.strings;
const SVG_SPACE = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

function element(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(options)) {
    if (key === "class") made.className = value;
    else if (key === "on") for (const [event, handler] of Object.entries(value)) made.addEventListener(event, handler);
    else if (key === "style") for (const [name, setting] of Object.entries(value)) made.style.setProperty(name, setting);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child != null && child !== ""));
  return made;
}

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG_SPACE, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const whole = (number) => number.toLocaleString("en-US");
const percent = (share) => {
  if (share === 1 || share === 0) return `${100 * share}%`;
  // Neither all nor nothing is said of what is nearly that.
  const shown = (100 * share).toFixed(2);
  return shown === "100.00" ? ">99.99%" : shown === "0.00" ? "<0.01%" : `${shown}%`;
};
function short(number) {
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]])
    if (number >= size) return `${significant(number / size)} ${unit}`;
  return String(number);
}
function significant(number, digits = 3) {
  if (number == null) return "–";
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size < 1e-4 || size >= 1e6) return number.toExponential(digits - 1).replace("-", "−").replace("e+", "e").replace("e-", "e−");
  return number.toPrecision(digits).replace(/^-/, "−");
}
function milliseconds(number) {
  if (number == null) return "–";
  return `${number >= 100 ? number.toFixed(0) : number >= 10 ? number.toFixed(1) : number >= 1 ? number.toFixed(2) : number.toFixed(3)} ms`;
}
function bytes(number) {
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]])
    if (number >= size) return `${significant(number / size)} ${unit}`;
  return `${number} B`;
}
function tiles(list, entries) {
  for (const [name, value, extra] of entries)
    list.append(element("div", {}, element("dt", {}, name),
      element("dd", { class: /^[\d>–]/.test(value) ? "" : "word" }, value, extra ? element("small", {}, ` ${extra}`) : "")));
  return list;
}
function table(headers, rows, caption) {
  const cell = (tag, content, kind) => element(tag, { class: kind, scope: tag === "th" ? "col" : null }, content);
  const head = element("tr", {}, ...headers.map(([name, kind]) => cell("th", name, kind)));
  const lines = rows.map((row) => element("tr", {}, ...row.map((content, i) => cell("td", content, headers[i][1]))));
  const made = element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines));
  if (caption) made.prepend(element("caption", {}, caption));
  // What may be wider than the window scrolls by keyboard, too.
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption || headers[0][0] || "Table" }, made);
}
const badge = (outcome) => element("span", { class: `badge tone-${outcome}` }, outcome);

// Colours that a canvas needs, in the theme that shows.
function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
function themeColours() {
  const probe = element("span", { hidden: true });
  document.body.append(probe);
  const found = {};
  for (const name of ["ink", "muted", "line", "wire", "accent", "sunk", "surface", "predicted", "reference"]) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}
const themeListeners = [];
function onTheme(listener) { themeListeners.push(listener); }
function setUpTheme() {
  const button = byId("theme");
  const modes = ["system", "light", "dark"];
  let mode = 0;
  const tell = () => themeListeners.forEach((listener) => listener());
  button.addEventListener("click", () => {
    mode = (mode + 1) % modes.length;
    if (mode === 0) delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = modes[mode];
    button.textContent = `Theme: ${modes[mode]}`;
    tell();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);
}

// A canvas in CSS pixels, sharp on every screen; `paint` is called once a frame at most.
function sharpCanvas(canvas, paint) {
  let waiting = false;
  const size = { width: 0, height: 0 };
  const redraw = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; paint(); });
  };
  const measure = () => {
    const box = canvas.getBoundingClientRect(), ratio = devicePixelRatio || 1;
    size.width = box.width; size.height = box.height; size.ratio = ratio;
    canvas.width = Math.max(1, Math.round(box.width * ratio));
    canvas.height = Math.max(1, Math.round(box.height * ratio));
  };
  measure();
  new ResizeObserver(() => { measure(); canvas.dispatchEvent(new Event("resized")); paint(); }).observe(canvas);
  onTheme(redraw);
  return { size, redraw };
}
