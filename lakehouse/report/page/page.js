"use strict";
// Draws the report from the data that the page carries. Nothing is fetched.
document.addEventListener("DOMContentLoaded", () => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const data = read("data");
  const figures = read("figure-data");
  const $ = (id) => document.getElementById(id);
  const state = { metric: data.mains[0] || Object.keys(data.metrics)[0], series: 0, hidden: new Set(), task: null };

  const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  const text = (value) => String(value ?? "").replace(/[&<>"']/g, (sign) => escapes[sign]);
  const count = (n) => (n == null ? "–" : n.toLocaleString("en-GB"));
  const fixed = (value) => (value == null ? "–" : Math.abs(value) >= 100 ? value.toFixed(1) : value.toFixed(3).replace("-", "−"));
  const percent = (share) => (share == null ? "–" : `${Math.floor(share * 1000 + 1e-9) / 10}%`);
  const plural = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
  const mainOf = (task) => (task.kind === "regression" ? "r2" : "roc_auc");
  const titleOf = (family) => data.families[family] || family;
  // Rows drawn before a reader asks for more; a longer table would make typing lag.
  const LIMIT = 100;
  const kinds = { binary: "binary", multiclass: "many classes", multilabel: "many labels", regression: "number" };
  const tone = (modality) => data.colours[modality] || "#8A8F98";

  const value = (metric, name, at) => {
    const cell = data.scores[state.series]?.[metric]?.[name]?.[at];
    return cell == null ? null : cell / data.metrics[metric].scale;
  };
  const at = (t, e) => t * data.encoders.length + e;
  const folds = (metric, place) => (data.scores[state.series]?.[metric]?.folds?.[place] || []).map((one) => one / data.metrics[metric].scale);
  const better = (metric) => (data.metrics[metric]?.is_greater_better === false ? (a, b) => a < b : (a, b) => a > b);

  const who = (encoder) =>
    `<span class="who"><span class="dot ${encoder.is_control ? "control" : ""}" style="background:${tone(encoder.modality)}" aria-hidden="true"></span>` +
    `<span>${text(encoder.title)}${encoder.is_control ? '<span class="tag">control</span>' : ""}</span></span>`;

  // A table whose columns sort. A column is {title, sort(row), cell(row), name?, first?}.
  function grid(table, columns, start) {
    const view = { columns, order: start, rows: [], isWhole: false };
    const head = table.tHead;
    const body = table.tBodies[0];
    function draw() {
      head.innerHTML = `<tr>${view.columns.map((column, n) => {
        const sorted = view.order.column === n ? (view.order.down ? "descending" : "ascending") : "none";
        return `<th scope="col" class="${column.name ? "name" : ""}" aria-sort="${sorted}"><button type="button" data-column="${n}">${text(column.title)}</button>${column.note ? `<small class="head-note">${text(column.note)}</small>` : ""}</th>`;
      }).join("")}</tr>`;
      const { column, down } = view.order;
      const keyed = view.rows.map((row) => [view.columns[column].sort(row), row]);
      keyed.sort(([a], [b]) => {
        if (a == null || b == null) return (a == null) - (b == null);
        const way = typeof a === "string" ? a.localeCompare(b) : a - b;
        return down ? -way : way;
      });
      const shown = view.isWhole ? keyed : keyed.slice(0, LIMIT);
      const rest = keyed.length - shown.length;
      const more = rest ? `<tr><td class="name" colspan="${view.columns.length}"><button type="button" class="link" data-more>Show ${plural(rest, "more row")}</button></td></tr>` : "";
      body.innerHTML = shown.map(([, row]) => `<tr class="${row.is_control ? "is-control" : ""}">${view.columns.map((one, n) =>
        n === 0 ? `<th scope="row">${one.cell(row)}</th>` : one.cell(row).startsWith("<td") ? one.cell(row) : `<td class="${one.name ? "name" : ""}">${one.cell(row)}</td>`).join("")}</tr>`).join("") + more;
    }
    body.addEventListener("click", (event) => {
      if (!event.target.closest("[data-more]")) return;
      view.isWhole = true;
      draw();
      body.rows[LIMIT].querySelector("a, button")?.focus();
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

  function options(select, entries, chosen) {
    select.innerHTML = entries.map(([key, title]) => `<option value="${text(key)}"${String(key) === String(chosen) ? " selected" : ""}>${text(title)}</option>`).join("");
  }

  // Charts
  const isDark = () => getComputedStyle(document.documentElement).colorScheme.includes("dark");
  function look() {
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
  const drawn = new Map();
  function chart(element, spec, name) {
    drawn.set(element, [spec, name]);
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
      renderer: "svg", config: look(), downloadFileName: name.toLowerCase().replace(/[^a-z0-9]+/g, "_"),
      actions: { export: true, source: false, compiled: false, editor: false },
    }).then(() => {
      // The drawing is described by the words and tables beside it.
      const svg = element.querySelector("svg.marks");
      if (svg) { svg.setAttribute("role", "img"); svg.setAttribute("aria-label", name); svg.querySelectorAll("[aria-roledescription],[role],[aria-label]").forEach((part) => { part.removeAttribute("aria-roledescription"); part.removeAttribute("role"); part.removeAttribute("aria-label"); }); }
      element.querySelector("summary")?.setAttribute("aria-label", `Save ${name}`);
      element.setAttribute("aria-busy", "false");
    });
  }
  function redraw() {
    for (const [element, [spec, name]] of drawn) {
      if (element.isConnected) chart(element, spec, name);
      else drawn.delete(element);
    }
  }
  const withRows = (template, rows, height) => ({ ...structuredClone(data.templates[template]), datasets: { rows }, ...(height ? { height } : {}) });

  // Head
  function hero() {
    const one = data.release;
    const protocols = [...new Set(data.series.map((series) => series.protocol))].join(", ");
    $("eyebrow").textContent = `Release ${one.id} · profile ${one.profile || "–"} · probe ${data.series[state.series]?.probe || "–"} · protocol ${protocols} · ${one.made_at}`;
    const board = boardOf("overall", state.metric);
    const rivals = encoderRows.map((encoder, e) => ({ encoder, mean: board?.mean[e], low: board?.low[e], high: board?.high[e] })).filter((row) => !row.encoder.is_control && row.mean != null);
    const best = rivals.sort((a, b) => (better(state.metric)(a.mean, b.mean) ? -1 : 1))[0];
    const controls = data.encoders.map((encoder, e) => ({ encoder, mean: board?.mean[e] })).filter((row) => row.encoder.is_control && row.mean != null);
    const bounds = controls.map((row) => `${text(row.encoder.title)} ${fixed(row.mean)}`).join(", ");
    $("lead").innerHTML = best
      ? `A simple probe on each model's vectors predicts what is known of the genes. Best overall is <strong>${text(best.encoder.title)}</strong> with a mean ${text(data.metrics[state.metric].title)} of <strong>${fixed(best.mean)}</strong>${evidence.range(best.low, best.high)}.${evidence.alike(best.encoder)}` +
        (bounds ? ` The controls, whose result is known beforehand: ${bounds}.` : "")
      : "A simple probe on each model's vectors predicts what is known of the genes.";
    const facts = [["tasks", count(one.n_tasks)], ["single-label tasks", count(one.n_subtasks)], ["encoders", count(one.n_encoders)], ["controls", count(one.n_controls)], ["evaluations", count(one.n_evaluations)],
      ...Object.entries(one.universe).map(([type, n]) => [`${type}s compared on`, count(n)])];
    $("facts").innerHTML = facts.map(([name, n]) => `<div><dt>${text(name)}</dt><dd>${n}</dd></div>`).join("");
    $("foot").textContent = `genebench ${one.code}. Made ${one.made_at} from the tables of the lake; this file needs no server and no network.`;
  }

  const encoderRows = data.encoders.map((encoder, e) => ({ ...encoder, e }));
  const evidence = makeEvidence({ data, state, $, text, fixed, count, plural, value, at, who, mainOf, grid, options, encoderRows, better });

  // The leaderboard
  const boardOf = (scope, metric) => data.board.find((one) => one.series === state.series && one.metric === metric && one.scope === scope);
  const board = grid($("board"), [], { column: 2, down: true });
  // Other numbers may have other columns and another direction: best first overall, once more.
  function rank() {
    board.order(2, better(state.metric)(1, 0));
    leaderboard();
  }
  function leaderboard() {
    const metric = data.metrics[state.metric];
    if (!metric) { $("board-count").textContent = "No score yet."; return; }
    const scopes = ["overall", ...Object.keys(data.families)].filter((scope) => boardOf(scope, state.metric));
    const tables = Object.fromEntries(scopes.map((scope) => [scope, boardOf(scope, state.metric)]));
    const best = Object.fromEntries(scopes.map((scope) => [scope, tables[scope].mean.reduce((found, mean, e) =>
      mean != null && !data.encoders[e].is_control && (found == null || better(state.metric)(mean, found)) ? mean : found, null)]));
    const bounded = metric.scale > 1;
    const columns = [
      { title: "Encoder", name: true, sort: (row) => row.title, cell: who },
      { title: "Made from", name: true, sort: (row) => row.modality, cell: (row) => text(row.modality) },
      ...scopes.map((scope) => ({
        title: scope === "overall" ? "Overall" : titleOf(scope), note: evidence.solvedIn(scope), down: metric.is_greater_better,
        sort: (row) => tables[scope].mean[row.e],
        cell: (row) => {
          const mean = tables[scope].mean[row.e];
          if (mean == null) return "–";
          const missing = tables[scope].n_missing[row.e];
          const words = `<span>${fixed(mean)}${tables[scope].n_tasks > 1 ? `<small>±${fixed(tables[scope].sd[row.e])}</small>` : ""}${missing ? `<small title="${plural(missing, "task")} without a score">−${missing}</small>` : ""}${evidence.range(tables[scope].low[row.e], tables[scope].high[row.e])}</span>`;
          const isBest = mean === best[scope] && !row.is_control;
          const width = bounded ? Math.max(0, Math.min(1, mean)) : 0;
          return scope === "overall" ? `<td class="meter${isBest ? " best" : ""}" style="--w:${width}">${words}</td>` : `<td class="${isBest ? "best" : ""}">${words}</td>`;
        },
      })),
      { title: "Coverage", down: true, sort: (row) => coverageOf(row), cell: (row) => percent(coverageOf(row)) },
      { title: "Width", down: true, sort: (row) => row.dimension, cell: (row) => count(row.dimension) },
    ];
    const wanted = $("encoder-search").value.trim().toLowerCase();
    const rows = encoderRows.filter((row) => !state.hidden.has(row.modality) && (row.title + " " + row.id).toLowerCase().includes(wanted) && (!tables.overall || tables.overall.mean[row.e] != null));
    board.show(rows, columns);
    const hasRanges = scopes.some((scope) => tables[scope].low.some((low) => low != null));
    $("board-count").textContent = `${plural(rows.length, "encoder")} of ${encoderRows.length}. Means over tasks ± population deviation; bold is the best that is no control.${hasRanges ? " Below, in brackets, the mean's interval, as wide as if all tasks erred together." : ""}`;
    const chance = metric.chance == null ? "" : ` Chance is ${metric.chance}.`;
    $("metric-note").textContent = `${metric.title}: ${metric.is_greater_better ? "higher" : "lower"} is better.${chance}${metric.note ? ` For ${metric.note.startsWith("one") ? "several classes: " : ""}${metric.note}.` : ""}`;
  }
  const coverageOf = (row) => (row.coverage.length ? Math.min(...row.coverage.map((one) => one.share)) : null);

  function settings() {
    options($("metric"), Object.entries(data.metrics).filter(([name]) => data.board.some((one) => one.metric === name)).map(([name, one]) => [name, one.title]), state.metric);
    options($("series"), data.series.map((one, n) => [n, new Set(data.series.map((s) => s.protocol)).size > 1 ? `${one.probe}, ${one.protocol}` : one.probe]), 0);
    $("series-label").hidden = data.series.length < 2;
    const present = Object.keys(data.colours).filter((modality) => data.encoders.some((encoder) => encoder.modality === modality));
    $("modalities").insertAdjacentHTML("beforeend", present.map((modality) => `<label><input type="checkbox" checked value="${text(modality)}"><span class="dot ${modality === "control" ? "control" : ""}" style="background:${tone(modality)}" aria-hidden="true"></span>${text(modality)}</label>`).join(""));
    $("metric").addEventListener("change", (event) => { state.metric = event.target.value; rank(); });
    $("series").addEventListener("change", (event) => { state.series = Number(event.target.value); everything(); });
    $("encoder-search").addEventListener("input", leaderboard);
    $("modalities").addEventListener("change", (event) => { state.hidden[event.target.checked ? "delete" : "add"](event.target.value); leaderboard(); });
    $("theme").addEventListener("click", () => { document.documentElement.dataset.theme = isDark() ? "light" : "dark"; redraw(); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  }

  // Figures
  function drawFigure(id) {
    const figure = figures.find((one) => one.id === id) || figures[0];
    if (!figure) { $("figures").hidden = true; return; }
    $("figure-title").textContent = figure.title;
    $("figure-caption").textContent = figure.caption;
    $("figure-plot").dataset.figure = figure.id;
    chart($("figure-plot"), figure.spec, figure.title);
  }

  // Tasks
  const taskRows = data.tasks.map((task, t) => ({ ...task, t, words: `${task.title} ${task.id} ${(task.balance?.labels || []).join(" ")}`.toLowerCase() }));
  const controls = data.encoders.map((encoder, e) => ({ ...encoder, e })).filter((encoder) => encoder.is_control);
  const table = grid($("task-table"), [], { column: 0, down: false });
  function measure() {
    for (const row of taskRows) {
      const metric = mainOf(row);
      row.best = null;
      data.encoders.forEach((encoder, e) => {
        const mean = value(metric, "mean", at(row.t, e));
        if (mean != null && !encoder.is_control && (row.best == null || better(metric)(mean, row.best.mean))) row.best = { mean, sd: value(metric, "sd", at(row.t, e)), place: at(row.t, e), encoder };
      });
    }
  }
  function tasks() {
    const columns = [
      { title: "Task", name: true, sort: (row) => row.title, cell: (row) => `<a class="link" href="#task=${encodeURIComponent(row.id)}">${text(row.title)}</a>` },
      { title: "Family", name: true, sort: (row) => titleOf(row.family), cell: (row) => text(titleOf(row.family)) },
      { title: "Kind", name: true, sort: (row) => row.kind, cell: (row) => text(kinds[row.kind]) },
      { title: "Samples", down: true, sort: (row) => row.n_evaluated ?? row.n_samples, cell: (row) => count(row.n_evaluated ?? row.n_samples) },
      { title: "Best encoder", name: true, sort: (row) => row.best?.encoder.title, cell: (row) => (row.best ? text(row.best.encoder.title) : "–") },
      { title: "Best score", down: true, sort: (row) => row.best?.mean, cell: (row) => (row.best ? `<td class="best">${fixed(row.best.mean)}<small>±${fixed(row.best.sd)}</small>${evidence.interval(mainOf(row), row.best.place)}</td>` : "–") },
      { title: "Verdict", name: true, sort: (row) => evidence.words(row.t), cell: (row) => evidence.mark(row.t) },
      ...controls.map((control) => ({ title: `${control.title} (control)`, down: true, sort: (row) => value(mainOf(row), "mean", at(row.t, control.e)), cell: (row) => fixed(value(mainOf(row), "mean", at(row.t, control.e))) })),
    ];
    const wanted = $("task-search").value.trim().toLowerCase();
    const rows = taskRows.filter((row) => ($("subtasks").checked || row.parent == null) && (!$("family").value || row.family === $("family").value) && (!$("kind").value || row.kind === $("kind").value) && `${row.words} ${evidence.words(row.t).toLowerCase()}`.includes(wanted));
    table.show(rows, columns);
    const all = $("subtasks").checked ? taskRows.length : taskRows.filter((row) => row.parent == null).length;
    $("task-count").textContent = `${plural(rows.length, "task")} of ${count(all)}.`;
  }
  function taskSettings() {
    options($("family"), [["", "all"], ...Object.entries(data.families)], "");
    options($("kind"), [["", "all"], ...Object.entries(kinds).filter(([kind]) => data.tasks.some((task) => task.kind === kind))], "");
    $("task-note").textContent = "ROC AUC for classes and labels, R² for numbers; mean over folds ± population deviation, with the interval of the score in brackets where there is one. Open a task for its folds, labels and coverage.";
    for (const id of ["family", "kind", "subtasks"]) $(id).addEventListener("change", tasks);
    $("task-search").addEventListener("input", tasks);
    window.addEventListener("hashchange", route);
  }
  function route() {
    const found = /^#task=(.+)$/.exec(location.hash);
    if (!found) return;
    const row = taskRows.find((one) => one.id === decodeURIComponent(found[1]));
    if (row) openTask(row, true);
  }

  const pairs = (entries) => `<dl class="pairs">${entries.filter(([, words]) => words != null && words !== "").map(([name, words]) => `<dt>${text(name)}</dt><dd>${words}</dd>`).join("")}</dl>`;
  function openTask(row, isAsked) {
    state.task = row;
    const whole = row.parent == null ? row : { ...data.tasks[row.parent], t: row.parent };
    const metric = mainOf(row);
    const article = $("task");
    const undone = data.undone.filter((one) => one.task_id === row.id && one.probe_id === data.series[state.series].probe);
    article.hidden = false;
    article.innerHTML = `<header><div><p class="eyebrow">${text(titleOf(row.family))} · ${text(kinds[row.kind])}</p><h3 id="task-title" tabindex="-1">${text(row.title)}</h3></div><button type="button" id="task-close">Close</button></header>
      <p>${text(whole.description)}</p>
      ${evidence.taskVerdict(row.t)}
      <div class="columns"><div>
        <h4>${text(data.metrics[metric]?.title || metric)} of every fold</h4>
        <p class="hint">A point is a held-out fold, a tick the mean, the dashed line chance. Grey diamonds are controls.</p>
        <div class="plot" id="task-folds"></div></div>
      <div>
        ${pairs([["id", `<code>${text(row.id)}</code>`], ["samples", `${count(row.n_samples)}${row.n_evaluated != null ? `, ${count(row.n_evaluated)} evaluated` : ""}`], ["entities", count(row.n_entities)], ["labels", count(row.n_labels)], ["positive", row.positive ? text(row.positive) : null], ["share of labels", row.kind === "regression" ? null : percent(row.density)], ["source", text(whole.source)], ["snapshot", whole.snapshot_id ? `<code>${text(whole.snapshot_id)}</code>` : null], ["single label of", row.parent == null ? null : `<a href="#task=${encodeURIComponent(whole.id)}">${text(whole.title)}</a>`], ["superseded by", whole.superseded_by ? text(whole.superseded_by) : null]])}
        <h4>${row.kind === "regression" ? "Values" : "Label balance"}</h4><div class="plot" id="task-balance"></div><p class="hint" id="balance-note"></p>
      </div></div>
      ${undone.length ? `<p class="note">Without a score: ${undone.map((one) => `${one.encoder_id.map(text).join(", ")} (${text(one.status)}: ${text(one.reason)})`).join("; ")}.</p>` : ""}
      <details open><summary>All metrics</summary><div class="scroll" role="region" aria-label="All metrics of ${text(row.title)}" tabindex="0">${metricTable(row, whole)}</div></details>
      ${evidence.taskPairs(row.t)}
      ${labelTable(row)}
      <details><summary>What became of the source's rows</summary>${pairs(Object.entries(whole.counts || {}).map(([name, n]) => [name, count(n)]))}</details>`;
    $("task-close").addEventListener("click", () => { article.hidden = true; state.task = null; history.replaceState(null, "", "#tasks"); $("task-search").focus(); });
    drawFolds(row, metric);
    drawBalance(row, whole);
    if (isAsked) { article.scrollIntoView(); $("task-title").focus({ preventScroll: true }); }
  }
  function drawFolds(row, metric) {
    const ranked = encoderRows.map((encoder) => ({ encoder, place: at(row.t, encoder.e), mean: value(metric, "mean", at(row.t, encoder.e)) })).filter((one) => one.mean != null);
    ranked.sort((a, b) => (better(metric)(a.mean, b.mean) ? -1 : 1));
    const rows = ranked.flatMap((one, order) => folds(metric, one.place).map((score, fold) => ({
      encoder: one.encoder.title + (one.encoder.is_control ? " (control)" : ""), modality: one.encoder.modality, fold, value: score, mean: one.mean, sd: value(metric, "sd", one.place), order, chance: data.metrics[metric]?.chance ?? null })));
    if (rows.length) chart($("task-folds"), withRows("folds", rows, ranked.length * 19), `Folds of ${row.title} by encoder`);
    else $("task-folds").textContent = "No score yet.";
  }
  function drawBalance(row, whole) {
    const balance = row.parent == null ? row.balance : null;
    if (row.parent != null) { $("task-balance").hidden = true; $("balance-note").textContent = `${percent(row.density)} of the samples have the label.`; return; }
    if (!balance) { $("task-balance").textContent = "No labels in the lake."; return; }
    if (balance.edges) chart($("task-balance"), withRows("histogram", balance.n.map((n, k) => ({ n, low: balance.edges[k], high: balance.edges[k + 1] }))), `Values of ${whole.title}`);
    else {
      chart($("task-balance"), withRows("balance", balance.labels.map((label, order) => ({ label, n: balance.n[order], order })), balance.labels.length * 17), `Samples with each label of ${whole.title}`);
      $("balance-note").textContent = balance.n_more ? `${plural(balance.n_more, "rarer label")} not drawn.` : "";
    }
  }
  function metricTable(row, whole) {
    const used = Object.keys(data.metrics).filter((metric) => encoderRows.some((encoder) => value(metric, "mean", at(row.t, encoder.e)) != null));
    const ranked = encoderRows.filter((encoder) => used.some((metric) => value(metric, "mean", at(row.t, encoder.e)) != null));
    return `<table class="grid"><caption class="hidden">Every metric by encoder</caption><thead><tr>${["Encoder", "Coverage", ...used.map((metric) => data.metrics[metric].title)].map((title, n) => `<th scope="col" class="${n ? "" : "name"}" style="padding:10px 12px">${text(title)}</th>`).join("")}</tr></thead><tbody>${ranked.map((encoder) => `<tr class="${encoder.is_control ? "is-control" : ""}"><th scope="row">${who(encoder)}</th><td>${percent(whole.coverage?.[encoder.e])}</td>${used.map((metric) => `<td>${fixed(value(metric, "mean", at(row.t, encoder.e)))}<small>±${fixed(value(metric, "sd", at(row.t, encoder.e)))}</small>${evidence.interval(metric, at(row.t, encoder.e))}</td>`).join("")}</tr>`).join("")}</tbody></table>`;
  }
  function labelTable(row) {
    const children = taskRows.filter((one) => one.parent === row.t && encoderRows.some((encoder) => value("roc_auc", "mean", at(one.t, encoder.e)) != null));
    const own = data.labels[row.t]?.[state.series];
    const lines = children.length
      ? children.map((one) => [`<a class="link" href="#task=${encodeURIComponent(one.id)}">${text(one.title.replace(`${row.title}: `, ""))}</a>`, encoderRows.map((encoder) => value("roc_auc", "mean", at(one.t, encoder.e)))])
      : own ? own.labels.map((label, n) => [text(label), own.mean[n].map((mean) => (mean == null ? null : mean / 10000))]) : [];
    if (!lines.length) return "";
    return `<details><summary>${plural(lines.length, "label")}, ROC AUC of each</summary><div class="scroll tall" role="region" aria-label="Labels of ${text(row.title)}" tabindex="0"><table class="grid"><caption class="hidden">ROC AUC of each label by encoder</caption><thead><tr>${["Label", ...encoderRows.map((encoder) => encoder.title + (encoder.is_control ? " (control)" : ""))].map((title, n) => `<th scope="col" class="${n ? "" : "name"}" style="padding:10px 12px">${text(title)}</th>`).join("")}</tr></thead><tbody>${lines.map(([name, means]) => `<tr><th scope="row">${name}</th>${means.map((mean) => `<td>${fixed(mean)}</td>`).join("")}</tr>`).join("")}</tbody></table></div></details>`;
  }

  // Encoders
  function cards() {
    $("cards").innerHTML = encoderRows.map((one) => `<article class="card" style="--tone:${tone(one.modality)}"><h3>${text(one.title)}${one.is_control ? '<span class="tag">control</span>' : ""}</h3>${one.description ? `<p>${text(one.description)}</p>` : ""}${pairs([
      ["id", `<code>${text(one.id)}</code>`], ["made from", text(one.modality)], ["model", one.model ? `<code>${text(one.model)}</code>` : null], ["revision", one.revision ? `<code>${text(one.revision)}</code>` : null], ["loader", one.loader ? text(one.loader) : null],
      ["made of", one.base ? text(typeof one.base === "string" ? one.base : Object.values(one.base).join(", ")) : null],
      ["width", count(one.dimension)], ["parameters", one.parameters ? count(one.parameters) : null], ["covers", one.coverage.map((c) => `${percent(c.share)} of ${count(c.n_needed)} ${text(c.entity_type)}s`).join("<br>")],
      ["reads", typeof one.template === "string" ? text(one.template) : null], ["licence", one.license ? text(one.license) : null], ["cite", one.cite ? `<code>${text(one.cite)}</code>` : null], ["embedded", one.embedded_at ? text(one.embedded_at) : null], ["digest", one.digest ? `<code>${text(one.digest.slice(0, 12))}…</code>` : null]])}</article>`).join("");
  }

  // Published numbers
  const beside = grid($("published-table"), [
    { title: "Task", name: true, sort: (row) => row.task_name, cell: (row) => (row.task_id == null ? text(row.task_name) : `<a class="link" href="#task=${encodeURIComponent(data.tasks[row.task_id].id)}">${text(row.task_name)}</a>`) },
    { title: "Model", name: true, sort: (row) => row.encoder_name, cell: (row) => text(row.encoder_name) },
    { title: "Release", name: true, sort: (row) => row.release_id, cell: (row) => text(row.release_id) },
    { title: "Metric", name: true, sort: (row) => row.metric, cell: (row) => text(data.metrics[row.metric]?.title || row.metric) },
    { title: "Ours", down: true, sort: (row) => row.ours, cell: (row) => fixed(row.ours) },
    { title: "Published", down: true, sort: (row) => row.mean, cell: (row) => `${fixed(row.mean)}<small>±${fixed(row.sd)}</small>` },
    { title: "Difference in SD", down: true, sort: (row) => row.inSds, cell: (row) => (row.inSds == null ? "–" : `<span class="${Math.abs(row.inSds) <= 2 ? "verdict-in" : "verdict-out"}">${fixed(row.inSds)} ${Math.abs(row.inSds) <= 2 ? "within 2" : "outside 2"}</span>`) },
    { title: "Samples", down: true, sort: (row) => row.n_samples, cell: (row) => count(row.n_samples) },
  ], { column: 0, down: false });
  function published() {
    if (!data.published.length) return;
    $("published").hidden = $("nav-published").hidden = false;
    const probe = data.series[state.series]?.probe;
    const rows = data.published.filter((one) => one.probe === probe).map((one) => {
      const ours = one.task_id != null && one.encoder_id != null ? value(one.metric, "mean", at(one.task_id, one.encoder_id)) : null;
      const inSds = ours != null && one.sd ? (ours - one.mean) / one.sd : null;
      return { ...one, ours, inSds };
    });
    const others = [...new Set(data.published.map((one) => one.probe))].sort().join(", ");
    $("published-count").textContent = rows.length ? `${plural(rows.length, "published number")} of the probe ${probe}.` : `No published number is of the probe ${probe}; there are some of: ${others}.`;
    beside.show(rows);
  }

  // Provenance
  function provenance() {
    const plain = (head, rows) => `<div class="scroll" role="region" aria-label="${text(head[0])}s" tabindex="0"><table class="grid"><thead><tr>${head.map((title) => `<th scope="col" class="name" style="padding:10px 12px">${text(title)}</th>`).join("")}</tr></thead><tbody>${rows.map((row) => `<tr>${row.map((cell) => `<td class="name">${cell}</td>`).join("")}</tr>`).join("")}</tbody></table></div>`;
    const parts = [`<h3>Probes and protocols</h3>${plain(["Rule", "Name", "Title", "What it is"], data.rules.map((one) => [text(one.noun), `<code>${text(one.id)}</code>`, text(one.title), text(one.description)])).replace('class="scroll"', 'class="scroll prose"')}`,
      `<h3>Sources</h3><p class="hint">As the lake has them when this page is made; a frozen release may have been scored on earlier ones.</p>${plain(["Source file", "Version", "Retrieved", "SHA-256", "Size", "Licence"], data.sources.map((one) => [`${text(one.source)}.${text(one.file)}`, text(one.version), text(one.retrieved_at), `<code>${text(one.sha256)}</code>`, `${count(one.size_bytes)} bytes`, text(one.license)]))}`,
      `<h3>Code and packages</h3>${plain(["Packages", "Revision", "Solver", "Evaluations", "Seconds"], data.packages.map((one) => [text(one.packages), count(one.revision), text(one.solver), count(one.n_evaluations), count(one.seconds)]))}`,
      `<details><summary>Versions of the tables</summary>${plain(["Table", "Version", "Committed", "Code", "Made from"], data.tables.map((one) => [`<code>${text(one.table)}</code>`, count(one.version), text(one.committed_at), text(one.code), `<code>${text(one.inputs)}</code>`]))}</details>`];
    if (data.undone.length) parts.push(`<details><summary>${plural(data.undone.length, "reason")} for evaluations without a score</summary>${plain(["Task", "Probe", "State", "Reason", "Encoders"], data.undone.map((one) => [`<code>${text(one.task_id)}</code>`, text(one.probe_id), text(one.status), text(one.reason), text(one.encoder_id.join(", "))]))}</details>`);
    $("provenance-body").innerHTML = parts.join("");
  }

  function everything() {
    measure(); hero(); rank(); tasks(); evidence.all(); published();
    if (state.task) openTask(state.task, false);
  }
  settings(); taskSettings(); cards(); provenance(); everything();
  options($("figure"), figures.map((one) => [one.id, one.title]), figures[0]?.id);
  $("figure").addEventListener("change", (event) => drawFigure(event.target.value));
  drawFigure(figures[0]?.id);
  route();
  document.documentElement.dataset.ready = "yes";
});
