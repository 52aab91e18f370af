"use strict";
// Formatting, sortable tables and charts for the report page. Nothing here knows the page's data.

// Text
const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escapeHtml = (value) => String(value ?? "").replace(/[&<>"']/g, (sign) => escapes[sign]);
const formatCount = (n) => (n == null ? "–" : n.toLocaleString("en-GB"));
const formatValue = (value) => (value == null ? "–" : Math.abs(value) >= 100 ? value.toFixed(1) : value.toFixed(3).replace("-", "−"));
const formatShare = (share) => (share == null ? "–" : `${Math.floor(share * 1000 + 1e-9) / 10}%`);
const plural = (n, noun) => `${formatCount(n)} ${noun}${n === 1 ? "" : "s"}`;

// Sortable tables
// Number of rows drawn before "Show more": longer tables would slow down typing in the search field.
const ROW_LIMIT = 100;

// Makes a table sortable by its columns. A column is {title, sort(row), cell(row), name?, down?, note?}:
// `name` aligns text left, `down` sorts descending first, `note` is small text below the title.
function sortableTable(table, columns, start) {
  const view = { columns, order: start, rows: [], isWhole: false };
  const head = table.tHead;
  const body = table.tBodies[0];
  function draw() {
    head.innerHTML = `<tr>${view.columns.map((column, n) => {
      const sorted = view.order.column === n ? (view.order.down ? "descending" : "ascending") : "none";
      return `<th scope="col" class="${column.name ? "name" : ""}" aria-sort="${sorted}"><button type="button" data-column="${n}">${escapeHtml(column.title)}</button>${column.note ? `<small class="head-note">${escapeHtml(column.note)}</small>` : ""}</th>`;
    }).join("")}</tr>`;
    const { column, down } = view.order;
    const keyed = view.rows.map((row) => [view.columns[column].sort(row), row]);
    keyed.sort(([a], [b]) => {
      if (a == null || b == null) return (a == null) - (b == null);
      const order = typeof a === "string" ? a.localeCompare(b) : a - b;
      return down ? -order : order;
    });
    const shown = view.isWhole ? keyed : keyed.slice(0, ROW_LIMIT);
    const rest = keyed.length - shown.length;
    const more = rest ? `<tr><td class="name" colspan="${view.columns.length}"><button type="button" class="link" data-more>Show ${plural(rest, "more row")}</button></td></tr>` : "";
    body.innerHTML = shown.map(([, row]) => `<tr class="${row.is_control ? "is-control" : ""}">${view.columns.map((one, n) =>
      n === 0 ? `<th scope="row">${one.cell(row)}</th>` : one.cell(row).startsWith("<td") ? one.cell(row) : `<td class="${one.name ? "name" : ""}">${one.cell(row)}</td>`).join("")}</tr>`).join("") + more;
  }
  body.addEventListener("click", (event) => {
    if (!event.target.closest("[data-more]")) return;
    view.isWhole = true;
    draw();
    body.rows[ROW_LIMIT].querySelector("a, button")?.focus();
  });
  head.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const column = Number(button.dataset.column);
    const isSame = view.order.column === column;
    view.order = { column, down: isSame ? !view.order.down : Boolean(view.columns[column].down) };
    draw();
    head.querySelectorAll("button")[column].focus();
  });
  return {
    order(column, down) { view.order = { column, down }; },
    show(rows, columnsNow) {
      if (columnsNow) view.columns = columnsNow;
      if (view.order.column >= view.columns.length) view.order = start;
      view.rows = rows;
      view.isWhole = false;
      draw();
    },
  };
}

// Select elements
function setOptions(select, entries, chosen) {
  select.innerHTML = entries.map(([key, title]) => `<option value="${escapeHtml(key)}"${String(key) === String(chosen) ? " selected" : ""}>${escapeHtml(title)}</option>`).join("");
}

// Charts
const isDark = () => getComputedStyle(document.documentElement).colorScheme.includes("dark");
function chartTheme() {
  const ink = isDark() ? "#e8eef3" : "#14202b";
  const soft = isDark() ? "#a3b1bd" : "#51606d";
  const line = isDark() ? "#2b3742" : "#dbe2e8";
  return {
    background: "transparent", font: "system-ui, sans-serif",
    view: { stroke: line }, title: { color: ink },
    axis: { labelColor: ink, titleColor: soft, gridColor: line, domainColor: soft, tickColor: soft, labelFontSize: 11 },
    legend: { labelColor: ink, titleColor: soft, symbolOpacity: 1 },
    header: { labelColor: ink, titleColor: soft, labelFontSize: 12 },
  };
}
const drawnCharts = new Map();
function drawChart(element, spec, name) {
  drawnCharts.set(element, [spec, name]);
  element.setAttribute("aria-busy", "true");
  const plain = structuredClone(spec);
  plain.description = name;
  if (plain.width === "container") {
    plain.width = Math.max(240, element.clientWidth - 30);
    plain.autosize = { type: "fit-x", contains: "padding" };
  }
  const place = document.createElement("div");
  element.replaceChildren(place);
  return window.vegaEmbed(place, plain, {
    // An interpreter of expressions in place of generated code, which the security policy forbids.
    ast: true, renderer: "svg", config: chartTheme(), downloadFileName: name.toLowerCase().replace(/[^a-z0-9]+/g, "_"),
    actions: { export: true, source: false, compiled: false, editor: false },
  }).then(() => {
    // Screen readers get one label per chart; the tables on the page hold its values.
    const svg = element.querySelector("svg.marks");
    if (svg) { svg.setAttribute("role", "img"); svg.setAttribute("aria-label", name); svg.querySelectorAll("[aria-roledescription],[role],[aria-label]").forEach((part) => { part.removeAttribute("aria-roledescription"); part.removeAttribute("role"); part.removeAttribute("aria-label"); }); }
    element.querySelector("summary")?.setAttribute("aria-label", `Save ${name}`);
    element.setAttribute("aria-busy", "false");
  });
}
function redrawCharts() {
  for (const [element, [spec, name]] of drawnCharts) {
    if (element.isConnected) drawChart(element, spec, name);
    else drawnCharts.delete(element);
  }
}
