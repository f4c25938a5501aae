"use strict";
document.documentElement.classList.add("scripted");
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const make = (tag, attributes = {}, ...children) => {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  found.append(...children);
  return found;
};

// Tables: a click on a head sorts by it, a second one turns the order round.
const cellValue = (row, column) => {
  const cell = row.cells[column];
  if (cell.dataset.sort !== undefined) return Number(cell.dataset.sort);
  const text = cell.textContent.trim();
  return cell.classList.contains("n") ? Number(text) : text;
};
const compare = (a, b) =>
  typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
for (const table of all("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) =>
    head.querySelector("button").addEventListener("click", () => {
      const rows = [...table.tBodies[0].rows];
      const numeric = rows.length > 0 && typeof cellValue(rows[0], column) === "number";
      // Numbers begin with the largest, which is what one looks for; the first column counts up.
      const first = numeric && column > 0 ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const keyed = rows.map((row) => [cellValue(row, column), row]);
      keyed.sort((a, b) => sign * compare(a[0], b[0]));
      table.tBodies[0].append(...keyed.map((pair) => pair[1]));
    }),
  );
}

// Filters: every word has to occur, and every choice has to fit.
for (const tools of all(".tools")) {
  const table = document.getElementById(tools.dataset.for);
  const output = tools.querySelector("output");
  const texts = new Map();
  const textOf = (row) => {
    if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
    return texts.get(row);
  };
  const apply = () => {
    const words = tools.querySelector("input").value.toLowerCase().split(/\s+/).filter(Boolean);
    const choices = all("select", tools).filter((select) => select.value);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const fits =
        words.every((word) => textOf(row).includes(word)) &&
        choices.every((c) => c.value.split(" ").includes(row.dataset[c.dataset.key]));
      row.hidden = !fits;
      shown += fits;
    }
    output.textContent = `${shown} of ${table.tBodies[0].rows.length}`;
  };
  tools.addEventListener("input", apply);
  apply();
}

// One tooltip, which a screen reader hears as well.
const tip = make("div", { class: "tip", role: "status", hidden: "" });
document.body.append(tip);
const showTip = (text, x, top) => {
  tip.textContent = text;
  tip.hidden = false;
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${Math.max(8, Math.min(room, x - tip.offsetWidth / 2))}px`;
  tip.style.top = `${Math.max(0, scrollY + top - tip.offsetHeight - 6)}px`;
};
const hideTip = () => (tip.hidden = true);
addEventListener("keydown", (event) => event.key === "Escape" && hideTip());

// Whatever stands in a row: the pointer picks one, the arrow keys move along.
const walk = (element, count, { at, show, hide, choose }) => {
  let current = -1;
  const go = (index) => {
    current = Math.max(0, Math.min(count - 1, index));
    show(current);
  };
  const leave = () => {
    hideTip();
    hide();
  };
  element.addEventListener("pointermove", (event) => {
    const index = at(event);
    if (index >= 0 && index < count) go(index);
    else leave();
  });
  element.addEventListener("pointerleave", leave);
  element.addEventListener("blur", leave);
  element.addEventListener("click", () => choose && current >= 0 && choose(current));
  element.addEventListener("keydown", (event) => {
    const moves = { ArrowRight: current + 1, ArrowLeft: current - 1, Home: 0, End: count - 1 };
    if (event.key in moves) {
      event.preventDefault();
      go(moves[event.key]);
    } else if (event.key === "Enter" && choose && current >= 0) choose(current);
  });
};

// Charts that were drawn beforehand: a cursor, and what it stands at.
const SVG = "http://www.w3.org/2000/svg";
const draw = (parent, tag, attributes, text) => {
  const found = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  if (text !== undefined) found.textContent = text;
  parent.append(found);
  return found;
};
for (const plot of all(".plot")) {
  const tips = JSON.parse(plot.dataset.tips);
  const svg = plot.querySelector("svg");
  const cursor = draw(svg, "path", { class: "cursor", d: "" });
  walk(plot, tips.length, {
    at: (event) => {
      const box = svg.getBoundingClientRect();
      return Math.floor(((event.clientX - box.left) / box.width) * tips.length);
    },
    show: (index) => {
      const box = svg.getBoundingClientRect();
      const share = (index + 0.5) / tips.length;
      cursor.setAttribute("d", `M${share * 1000} 0V100`);
      showTip(tips[index], box.left + share * box.width, box.top);
    },
    hide: () => cursor.setAttribute("d", ""),
    choose: document.getElementById("panel") && ((index) => (location.hash = `#bn-${index}`)),
  });
}

// The network before and after: what is pointed at, and where it went.
for (const network of all(".network")) {
  const cells = all("i", network);
  const clear = () => cells.forEach((cell) => cell.classList.remove("on", "to"));
  walk(network, cells.length, {
    at: (event) => cells.indexOf(event.target),
    show: (index) => {
      clear();
      const cell = cells[index];
      cell.classList.add("on");
      for (const target of (cell.dataset.into ?? "").split(" ").filter(Boolean)) cells[target]?.classList.add("to");
      const box = cell.getBoundingClientRect();
      showTip(cell.dataset.tip, box.left + box.width / 2, box.top);
    },
    hide: clear,
  });
}

// The strip: one stop for the tab key, arrows inside; the chosen layer opens below.
const bars = all(".strip a");
const focusBar = (index) => {
  const bar = bars[Math.max(0, Math.min(bars.length - 1, index))];
  bars.forEach((each) => (each.tabIndex = each === bar ? 0 : -1));
  bar.focus({ preventScroll: true });
  return bar;
};
const tipOf = (bar) => {
  const box = bar.getBoundingClientRect();
  showTip(bar.getAttribute("aria-label"), box.left + box.width / 2, box.top);
};
const strip = document.querySelector(".strip nav");
strip?.addEventListener("keydown", (event) => {
  const at = bars.indexOf(document.activeElement);
  const moves = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: bars.length - 1 };
  if (at >= 0 && event.key in moves) {
    event.preventDefault();
    const bar = focusBar(moves[event.key]);
    history.replaceState(null, "", bar.hash);
    openChosen(false);
    tipOf(bar);
  }
});
strip?.addEventListener("pointermove", (event) => {
  const bar = event.target.closest("a");
  if (bar) tipOf(bar);
});
strip?.addEventListener("pointerleave", hideTip);
strip?.addEventListener("focusout", hideTip);

// The channels of one layer, from numbers of three bytes each.
const panel = document.getElementById("panel");
const data = document.getElementById("channels");
const layers = data ? JSON.parse(data.textContent) : [];
// Without a script the links lead to the rows of the table; with one, to the charts.
all("tr[id]").forEach((row) => (row.id = row.id.replace("bn-", "row-")));
const unpack = (layer) => {
  const bytes = atob(layer.a);
  const view = new DataView(new ArrayBuffer(4));
  const numbers = [];
  for (let i = 0; i < bytes.length; i += 3) {
    for (let k = 0; k < 3; k += 1) view.setUint8(k, bytes.charCodeAt(i + k));
    numbers.push(view.getFloat32(0));
  }
  const width = numbers.length / (layer.s + layer.o);
  const rows = [];
  for (let i = 0; i < numbers.length; i += width) rows.push(numbers.slice(i, i + width));
  return { stored: rows.slice(0, layer.s), seen: rows.slice(layer.s) };
};
const short = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(4))) : Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "−∞");
const finite = (rows) => rows.flat().filter(Number.isFinite);
const scaleOf = (rows, isVariance, height) => {
  let values = finite(rows);
  const positive = values.filter((value) => value > 0);
  const most = Math.max(...positive);
  const log = isVariance && positive.length > 0 && most >= 10 * Math.min(...positive);
  // Of a denormal variance it is enough to see that it lies on the floor.
  const floor = most * 1e-9;
  const of = (value) => (log ? Math.log10(Math.max(value, floor)) : value);
  values = (log ? positive : values).map(of);
  let low = values.length ? Math.min(...values) : 0;
  let high = values.length ? Math.max(...values) : 1;
  if (high === low) [low, high] = [low - (Math.abs(low) / 2 || 1), high + (Math.abs(high) / 2 || 1)];
  const y = (value) => height - 8 - ((Math.max(low, Math.min(high, of(value))) - low) / (high - low)) * (height - 16);
  const ticks = [];
  const span = high - low;
  const power = 10 ** Math.floor(Math.log10(span));
  const step = log ? Math.max(1, Math.ceil(span / 3)) : [0.5, 1, 2, 5].map((k) => k * power).find((s) => span / s <= 4);
  for (let k = Math.ceil(low / step); k * step <= high + 1e-9 * span; k += 1) {
    const value = Number((k * step).toPrecision(12));
    ticks.push(log ? [10 ** value, `1e${value}`] : [value, short(value)]);
  }
  return { y, ticks, log };
};
const LEFT = 46;
const charts = [];
const chartOf = ({ title, keys, lines, bands, isVariance, wide, channels, words }) => {
  const figure = make("figure", wide ? { class: "wide" } : {}, make("figcaption", {}, title, ...keys));
  const svg = draw(figure, "svg", { class: "chart", tabindex: "0", role: "img" });
  const height = 130;
  const width = () => Math.max(120, svg.clientWidth || 300);
  const order = channels.map((_, i) => i);
  const sorted = lines[0].values;
  order.sort((a, b) => (Number.isFinite(sorted[a]) ? sorted[a] : -Infinity) - (Number.isFinite(sorted[b]) ? sorted[b] : -Infinity) || a - b);
  const x = (place) => (order.length === 1 ? (LEFT + width()) / 2 : LEFT + 4 + (place / (order.length - 1)) * (width() - LEFT - 8));
  const scale = scaleOf([...lines.map((line) => line.values), ...bands.flatMap((band) => [band.low, band.high])], isVariance, height);
  let cursor;
  const paint = () => {
    svg.replaceChildren();
    for (const [value, text] of scale.ticks) {
      const y = scale.y(value);
      draw(svg, "path", { class: value === 0 ? "grid still" : "grid", d: `M${LEFT} ${y}H${width()}` });
      draw(svg, "text", { x: LEFT - 5, y: y + 3.5 }, text);
    }
    const points = (values, keep) => keep.map((i) => `${x(order.indexOf(i)).toFixed(1)} ${scale.y(values[i]).toFixed(1)}`);
    for (const band of bands) {
      const keep = order.filter((i) => Number.isFinite(band.low[i]) && Number.isFinite(band.high[i]));
      const path = [...points(band.high, keep), ...points(band.low, keep).reverse()];
      if (path.length) draw(svg, "path", { class: `band ${band.style}`, d: `M${path.join("L")}Z` });
    }
    for (const line of lines) {
      const keep = order.filter((i) => Number.isFinite(line.values[i]));
      const path = points(line.values, keep);
      if (!path.length) continue;
      const asDots = line.dots || path.length === 1;
      draw(svg, "path", { class: `${line.style}${asDots ? " dots" : ""}`, d: asDots ? path.map((p) => `M${p}h0`).join("") : `M${path.join("L")}` });
    }
    cursor = draw(svg, "path", { class: "cursor", d: "" });
  };
  const mark = (channel) => {
    const place = order.indexOf(channel);
    cursor.setAttribute("d", place < 0 ? "" : `M${x(place)} 0V${height}`);
  };
  svg.setAttribute("aria-label", `${title}: ${channels.length} channels, ${words}${scale.log ? ", logarithmic" : ""}`);
  walk(svg, order.length, {
    at: (event) => {
      const share = (event.clientX - svg.getBoundingClientRect().left - LEFT - 4) / (width() - LEFT - 8);
      return Math.max(0, Math.min(order.length - 1, Math.round(share * (order.length - 1)) || 0));
    },
    show: (place) => {
      const i = order[place];
      charts.forEach((chart) => chart.mark(i));
      const box = svg.getBoundingClientRect();
      const said = lines.map((line) => `${line.label} ${short(line.values[i])}`);
      const more = bands.filter((band) => band.label).map((band) => `${band.label} ${short(band.low[i])} … ${short(band.high[i])}`);
      showTip(`channel ${channels[i]}: ${[...said, ...more].join(", ")}`, box.left + x(place), box.top);
    },
    hide: () => charts.forEach((chart) => chart.mark(-1)),
  });
  return { figure, paint, mark };
};
const key = (style, text) => make("span", { class: `key ${style}` }, text);
const inWords = (label, values) => {
  const known = values.filter(Number.isFinite);
  const lost = values.length - known.length;
  return (known.length ? `${label} ${short(Math.min(...known))} to ${short(Math.max(...known))}` : `${label} not finite`) + (lost && known.length ? ` (${lost} not finite)` : "");
};
const chartsOf = (layer) => {
  const { stored, seen } = unpack(layer);
  const channels = layer.c ?? stored[0].map((_, i) => i);
  const seenWord = data.dataset.seen;
  const titles = ["Running mean", "Running variance", "Scale γ", "Shift β"];
  const found = stored.map((values, i) => {
    const lines = [{ values, label: "stored", style: "stored" }];
    const two = i < 2 && seen.length > 0;
    if (two) lines.push({ values: seen[i], label: seenWord, style: "observed", dots: true });
    const words = lines.map((line) => inWords(line.label, line.values)).join(", ");
    return chartOf({ title: titles[i], keys: two ? [key("line", "stored"), key("dot", seenWord)] : [], lines, bands: [], isVariance: i === 1, channels, words });
  });
  if (seen.length === 5) {
    // A Gaussian holds 70 % of its values within so many deviations.
    const deviations = stored[1].map((v) => 1.036 * Math.sqrt(v + (layer.e ?? 0)));
    const expected = { low: stored[0].map((m, i) => m - deviations[i]), high: stored[0].map((m, i) => m + deviations[i]), style: "expected", label: "as stored" };
    const [low, middle, high] = seen.slice(2);
    const lines = [
      { values: stored[0], label: "stored mean", style: "stored" },
      { values: middle, label: "observed median", style: "observed" },
    ];
    const words = "15th, 50th and 85th percentile of each channel, over the stored mean and deviation";
    found.push(chartOf({ title: "What reaches it: 15th to 85th percentile", keys: [key("seen", "observed"), key("expected", "as stored")], lines, bands: [expected, { low, high, style: "seen", label: "observed" }], wide: true, channels, words }));
  }
  return found;
};
const open = (index, scroll) => {
  const row = document.getElementById(`row-${index}`);
  const layer = layers[index];
  const name = row.querySelector("th a").cloneNode(true).childNodes;
  const head = make("div", { class: "head" }, make("h3", {}, `${index + 1} of ${layers.length}: `, make("span", { class: "name" }, ...name)));
  const button = (text, label, to) => {
    const found = make("button", { type: "button", "aria-label": label }, text);
    found.addEventListener("click", to);
    head.append(found);
  };
  const turn = (step) => () => (location.hash = `#bn-${Math.max(0, Math.min(layers.length - 1, index + step))}`);
  button("←", "The layer before", turn(-1));
  button("→", "The layer behind", turn(1));
  button("close", "Close", () => {
    history.replaceState(null, "", location.pathname + location.search);
    panel.hidden = true;
    bars.forEach((bar) => bar.removeAttribute("aria-current"));
  });
  const parts = [head];
  const fate = row.querySelector(".fate:has(+ .detail)");
  const becomes = fate ? `${fate.textContent === "stays" ? "Stays:" : fate.textContent.replace(/^./, (c) => c.toUpperCase())}${fate.nextElementSibling.textContent}. ` : "";
  const drift = bars[index]?.getAttribute("aria-label").match(/mean off by .*$/)?.[0];
  const counted = layer.c ? `${layer.n} channels, of which ${layer.c.length} are drawn: the farthest off, and some of all sizes` : `${layer.n} channels`;
  parts.push(make("p", {}, `${counted}. ${becomes}${drift ? `On the data: ${drift}.` : ""}`));
  for (const item of all(`li[data-layer="${index}"]`)) {
    parts.push(make("p", {}, make("span", { class: `badge ${item.dataset.severity}` }, item.dataset.code), ` ${item.lastElementChild.textContent}`));
  }
  charts.splice(0, charts.length, ...(layer.n ? chartsOf(layer) : []));
  parts.push(make("div", { class: "charts" }, ...charts.map((chart) => chart.figure)));
  panel.replaceChildren(...parts);
  panel.hidden = false;
  charts.forEach((chart) => chart.paint());
  bars.forEach((bar, i) => (i === index ? bar.setAttribute("aria-current", "true") : bar.removeAttribute("aria-current")));
  if (scroll) panel.scrollIntoView({ block: "nearest" });
};
const openChosen = (scroll = true) => {
  const chosen = /^#bn-(\d+)$/.exec(location.hash);
  if (panel && chosen && layers[chosen[1]]) open(Number(chosen[1]), scroll);
};
addEventListener("hashchange", () => openChosen());
addEventListener("click", (event) => {
  // The link of the layer that is open already.
  const link = event.target.closest?.('a[href^="#bn-"]');
  if (link && link.hash === location.hash) openChosen();
});
addEventListener("resize", () => charts.forEach((chart) => chart.paint()));
openChosen();

// On paper nothing can be unfolded: the plan and the lists of findings are, for as long as it takes.
addEventListener("beforeprint", () =>
  all("details.print:not([open])").forEach((each) => {
    each.open = true;
    addEventListener("afterprint", () => (each.open = false), { once: true });
  }),
);
