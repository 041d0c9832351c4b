// Sortable tables, filterable examples, printing. Without scripts the page is still readable.
"use strict";

const numeric = text => {
  const match = text.replaceAll("−", "-").replaceAll(",", "").match(/^[+-]?\d+(\.\d+)?(e[+-]?\d+)?/);
  return match ? Number(match[0]) : null;
};

function compareCells(first, second) {
  const [a, b] = [numeric(first), numeric(second)];
  if (a !== null && b !== null) return a - b;
  if (a !== null || b !== null) return a !== null ? -1 : 1;  // numbers sort before texts
  return first.localeCompare(second);
}

function sortBy(table, column) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const text = row => row.cells[column].dataset.value ?? row.cells[column].innerText.trim();
  const rows = [...body.rows], numbers = rows.some(row => numeric(text(row)) !== null);
  const before = heads[column].getAttribute("aria-sort");
  const down = before ? before === "ascending" : numbers;  // numbers start in descending order
  const order = (a, b) => (down ? -1 : 1) * compareCells(text(a), text(b));
  heads.forEach(head => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...rows.sort(order));
}

document.querySelectorAll("table.sortable").forEach(table => {
  if (table.tBodies[0].rows.length < 2) return;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sortBy(table, column));
  });
});

document.querySelectorAll(".browser").forEach(part => {
  const form = part.querySelector("form"), rows = [...part.querySelectorAll(".examples > li")];
  const filter = () => {
    const filters = Object.fromEntries(new FormData(form));
    const words = (filters.text || "").toLowerCase();
    const matches = row =>
      (!words || row.textContent.toLowerCase().includes(words)) &&
      (!filters.kind || row.dataset.kind.split(" ").includes(filters.kind)) &&
      (!filters.target || row.dataset.target === filters.target) &&
      (!filters.answer || row.dataset.answer === filters.answer);
    rows.forEach(row => { row.hidden = !matches(row); });
    const shown = rows.filter(row => !row.hidden).length;
    form.querySelector("output").textContent = `${shown} shown`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", event => event.preventDefault());
  filter();
});

// For printing: use a fixed width and unfold everything but the long list of examples.
const plots = change => document.querySelectorAll(".js-plotly-plot").forEach(plot => Plotly.relayout(plot, change));
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open], .browser)")];
  closed.forEach(part => { part.open = true; });
  plots({autosize: false, width: 660});
});
addEventListener("afterprint", () => {
  closed.forEach(part => { part.open = false; });
  plots({autosize: true, width: null});
});
