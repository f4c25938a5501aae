"use strict";
document.documentElement.classList.add("scripted");

// Tables: a click on a head sorts by it, a second one turns the order round.
const cellValue = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.sort === undefined ? cell.textContent.trim() : Number(cell.dataset.sort);
};
const compare = (a, b) =>
  typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) =>
    head.querySelector("button").addEventListener("click", () => {
      const numeric = table.tBodies[0].rows[0]?.cells[column].dataset.sort !== undefined;
      // Numbers begin with the largest, which is what one looks for; the first column counts up.
      const first = numeric && column > 0 ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => sign * compare(cellValue(a, column), cellValue(b, column)));
      table.tBodies[0].append(...rows);
    }),
  );
}

// Filters: every word has to occur, and every choice has to fit.
for (const tools of document.querySelectorAll(".tools")) {
  const table = document.getElementById(tools.dataset.for);
  const output = tools.querySelector("output");
  const apply = () => {
    const words = tools.querySelector("input").value.toLowerCase().split(/\s+/).filter(Boolean);
    const choices = [...tools.querySelectorAll("select")].filter((select) => select.value);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      const fits =
        words.every((word) => text.includes(word)) &&
        choices.every((c) => c.value.split(" ").includes(row.dataset[c.dataset.key]));
      row.hidden = !fits;
      shown += fits;
    }
    output.textContent = `${shown} of ${table.tBodies[0].rows.length}`;
  };
  tools.addEventListener("input", apply);
  apply();
}

// The strip: one stop for the tab key, arrows inside, and the chosen layer opens below.
const bars = [...document.querySelectorAll(".strip a")];
const focusBar = (index) => {
  const bar = bars[Math.max(0, Math.min(bars.length - 1, index))];
  bars.forEach((each) => (each.tabIndex = each === bar ? 0 : -1));
  bar.focus();
};
document.querySelector(".strip")?.addEventListener("keydown", (event) => {
  const at = bars.indexOf(document.activeElement);
  const moves = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: bars.length - 1 };
  if (at >= 0 && event.key in moves) {
    event.preventDefault();
    focusBar(moves[event.key]);
  }
});
const openChosen = () => {
  const layer = /^#bn-\d+$/.test(location.hash) && document.querySelector(location.hash);
  if (!layer) return;
  layer.open = true;
  layer.scrollIntoView();
  layer.querySelector("summary").focus({ preventScroll: true });
  bars.forEach((bar) =>
    bar.hash === location.hash ? bar.setAttribute("aria-current", "true") : bar.removeAttribute("aria-current"),
  );
};
addEventListener("hashchange", openChosen);
openChosen();

// On paper nothing can be unfolded: the plan and the lists of findings are, for as long as it takes.
addEventListener("beforeprint", () =>
  document.querySelectorAll("details.print:not([open])").forEach((each) => {
    each.open = true;
    addEventListener("afterprint", () => (each.open = false), { once: true });
  }),
);
