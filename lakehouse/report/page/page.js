"use strict";
// Draws the report page from the JSON data inside it. The page makes no network requests.
document.addEventListener("DOMContentLoaded", () => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const data = read("data");
  const figures = read("figure-data");
  const $ = (id) => document.getElementById(id);
  const state = { metric: data.mains[0] || Object.keys(data.metrics)[0], series: 0, hidden: new Set(), task: null };

  const mainMetric = (task) => (task.kind === "regression" ? "r2" : "roc_auc");
  const familyTitle = (family) => data.families[family] || family;
  const kinds = { binary: "binary", multiclass: "many classes", multilabel: "many labels", regression: "number" };
  const modalityColour = (modality) => data.colours[modality] || "#8A8F98";

  const scoreOf = (metric, name, at) => {
    const cell = data.scores[state.series]?.[metric]?.[name]?.[at];
    return cell == null ? null : cell / data.metrics[metric].scale;
  };
  const cellIndex = (t, e) => t * data.encoders.length + e;
  const foldScores = (metric, place) => (data.scores[state.series]?.[metric]?.folds?.[place] || []).map((one) => one / data.metrics[metric].scale);
  const betterThan = (metric) => (data.metrics[metric]?.is_greater_better === false ? (a, b) => a < b : (a, b) => a > b);

  const encoderLabel = (encoder) =>
    `<span class="who"><span class="dot ${encoder.is_control ? "control" : ""}" style="background:${modalityColour(encoder.modality)}" aria-hidden="true"></span>` +
    `<span>${escapeHtml(encoder.title)}${encoder.is_control ? '<span class="tag">control</span>' : ""}</span></span>`;

  // Scores of temporal tasks carry the mark of an encoder that may have known the later labels.
  const markHtml = (encoder, family) => (family === "temporal" && encoder.mark ? `<sup title="${escapeHtml(data.mark_note)}">${escapeHtml(encoder.mark)}</sup>` : "");

  const fillTemplate = (template, rows, height) => ({ ...structuredClone(data.templates[template]), datasets: { rows }, ...(height ? { height } : {}) });

  // Header
  function drawHeader() {
    const one = data.release;
    const protocols = [...new Set(data.series.map((series) => series.protocol))].join(", ");
    $("eyebrow").textContent = `Release ${one.id} · profile ${one.profile || "–"} · probe ${data.series[state.series]?.probe || "–"} · protocol ${protocols} · ${one.made_at}`;
    const board = leaderboardEntry("overall", state.metric);
    const candidates = encoderRows.map((encoder, e) => ({ encoder, mean: board?.mean[e], low: board?.low[e], high: board?.high[e] })).filter((row) => !row.encoder.is_control && row.mean != null);
    const best = candidates.sort((a, b) => (betterThan(state.metric)(a.mean, b.mean) ? -1 : 1))[0];
    const controls = data.encoders.map((encoder, e) => ({ encoder, mean: board?.mean[e] })).filter((row) => row.encoder.is_control && row.mean != null);
    const controlScores = controls.map((row) => `${escapeHtml(row.encoder.title)} ${formatValue(row.mean)}`).join(", ");
    $("lead").innerHTML = best
      ? `A simple probe predicts known properties of genes from the vectors of each encoder. The best encoder overall is <strong>${escapeHtml(best.encoder.title)}</strong> with a mean ${escapeHtml(data.metrics[state.metric].title)} of <strong>${formatValue(best.mean)}</strong>${significance.formatInterval(best.low, best.high)}.${significance.rankNote(best.encoder)}` +
        (controlScores ? ` Controls, whose result is known in advance: ${controlScores}.` : "")
      : "A simple probe predicts known properties of genes from the vectors of each encoder.";
    const facts = [["tasks", formatCount(one.n_tasks)], ["single-label tasks", formatCount(one.n_subtasks)], ["encoders", formatCount(one.n_encoders)], ["controls", formatCount(one.n_controls)], ["evaluations", formatCount(one.n_evaluations)],
      ...Object.entries(one.universe).map(([type, n]) => [`${type}s in common`, formatCount(n)])];
    $("facts").innerHTML = facts.map(([name, n]) => `<div><dt>${escapeHtml(name)}</dt><dd>${n}</dd></div>`).join("");
    $("foot").textContent = `genebench ${one.code}. Generated ${one.made_at} from the tables of the lake. This file needs no server and no network.`;
  }

  const encoderRows = data.encoders.map((encoder, e) => ({ ...encoder, e }));
  const significance = makeSignificance({ data, state, $, scoreOf, cellIndex, encoderLabel, mainMetric, encoderRows, betterThan });

  const relatives = makeRelatives({ data, state, $, encoderLabel, encoderRows, familyTitle });

  // The leaderboard
  const leaderboardEntry = (scope, metric) => data.board.find((one) => one.series === state.series && one.metric === metric && one.scope === scope);
  const board = sortableTable($("board"), [], { column: 2, down: true });
  // Another metric or probe may change columns and sort direction, so sort by the overall mean again.
  function resetLeaderboard() {
    board.order(2, betterThan(state.metric)(1, 0));
    drawLeaderboard();
    relatives.draw();
  }
  function drawLeaderboard() {
    const metric = data.metrics[state.metric];
    if (!metric) { $("board-count").textContent = "No score yet."; return; }
    const scopes = ["overall", ...Object.keys(data.families)].filter((scope) => leaderboardEntry(scope, state.metric));
    const tables = Object.fromEntries(scopes.map((scope) => [scope, leaderboardEntry(scope, state.metric)]));
    const best = Object.fromEntries(scopes.map((scope) => [scope, tables[scope].mean.reduce((found, mean, e) =>
      mean != null && !data.encoders[e].is_control && (found == null || betterThan(state.metric)(mean, found)) ? mean : found, null)]));
    const bounded = metric.scale > 1;
    const columns = [
      { title: "Encoder", name: true, sort: (row) => row.title, cell: encoderLabel },
      { title: "Modality", name: true, sort: (row) => row.modality, cell: (row) => escapeHtml(row.modality) },
      ...scopes.map((scope) => ({
        title: scope === "overall" ? "Overall" : familyTitle(scope).split(" ")[0], note: significance.countSolved(scope), down: metric.is_greater_better,
        sort: (row) => tables[scope].mean[row.e],
        cell: (row) => {
          const mean = tables[scope].mean[row.e];
          if (mean == null) return "–";
          const missing = tables[scope].n_missing[row.e];
          const cellHtml = `<span>${formatValue(mean)}${markHtml(row, scope)}${tables[scope].n_tasks > 1 ? `<small>±${formatValue(tables[scope].sd[row.e])}</small>` : ""}${missing ? `<small title="${plural(missing, "task")} without a score">−${missing}</small>` : ""}${significance.formatInterval(tables[scope].low[row.e], tables[scope].high[row.e])}</span>`;
          const isBest = mean === best[scope] && !row.is_control;
          const width = bounded ? Math.max(0, Math.min(1, mean)) : 0;
          return scope === "overall" ? `<td class="meter${isBest ? " best" : ""}" style="--w:${width}">${cellHtml}</td>` : `<td class="${isBest ? "best" : ""}">${cellHtml}</td>`;
        },
      })),
      { title: "Coverage", down: true, sort: (row) => coverageOf(row), cell: (row) => formatShare(coverageOf(row)) },
      { title: "Dimension", down: true, sort: (row) => row.dimension, cell: (row) => formatCount(row.dimension) },
    ];
    const wanted = $("encoder-search").value.trim().toLowerCase();
    const rows = encoderRows.filter((row) => !state.hidden.has(row.modality) && (row.title + " " + row.id).toLowerCase().includes(wanted) && scopes.some((scope) => tables[scope].mean[row.e] != null));
    board.show(rows, columns);
    const hasRanges = scopes.some((scope) => tables[scope].low.some((low) => low != null));
    $("board-count").textContent = `${plural(rows.length, "encoder")} of ${encoderRows.length}. Means over tasks ± population deviation; bold is the best encoder, controls excluded.${data.families.temporal ? " Temporal tasks are in no mean over families." : ""}${hasRanges ? " Brackets give the interval of the mean, computed as if the errors of all tasks were fully correlated." : ""}`;
    const chance = metric.chance == null ? "" : ` Chance is ${metric.chance}.`;
    $("metric-note").textContent = `${metric.title}: ${metric.is_greater_better ? "higher" : "lower"} is better.${chance}${metric.note ? ` For ${metric.note.startsWith("one") ? "several classes: " : ""}${metric.note}.` : ""}`;
  }
  const coverageOf = (row) => (row.coverage.length ? Math.min(...row.coverage.map((one) => one.share)) : null);

  function setUpLeaderboard() {
    setOptions($("metric"), Object.entries(data.metrics).filter(([name]) => data.board.some((one) => one.metric === name)).map(([name, one]) => [name, one.title]), state.metric);
    setOptions($("series"), data.series.map((one, n) => [n, new Set(data.series.map((s) => s.protocol)).size > 1 ? `${one.probe}, ${one.protocol}` : one.probe]), 0);
    $("series-label").hidden = data.series.length < 2;
    const present = Object.keys(data.colours).filter((modality) => data.encoders.some((encoder) => encoder.modality === modality));
    $("modalities").insertAdjacentHTML("beforeend", present.map((modality) => `<label><input type="checkbox" checked value="${escapeHtml(modality)}"><span class="dot ${modality === "control" ? "control" : ""}" style="background:${modalityColour(modality)}" aria-hidden="true"></span>${escapeHtml(modality)}</label>`).join(""));
    $("metric").addEventListener("change", (event) => { state.metric = event.target.value; resetLeaderboard(); });
    $("series").addEventListener("change", (event) => { state.series = Number(event.target.value); drawAll(); });
    $("encoder-search").addEventListener("input", drawLeaderboard);
    $("modalities").addEventListener("change", (event) => { state.hidden[event.target.checked ? "delete" : "add"](event.target.value); drawLeaderboard(); });
    $("theme").addEventListener("click", () => { document.documentElement.dataset.theme = isDark() ? "light" : "dark"; redrawCharts(); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawCharts);
  }

  // Figures
  function drawFigure(id) {
    const figure = figures.find((one) => one.id === id) || figures[0];
    if (!figure) { $("figures").hidden = true; return; }
    $("figure-title").textContent = figure.title;
    $("figure-caption").textContent = figure.caption;
    $("figure-plot").dataset.figure = figure.id;
    drawChart($("figure-plot"), figure.spec, figure.title);
  }

  // Tasks
  const taskRows = data.tasks.map((task, t) => ({ ...task, t, searchText: `${task.title} ${task.id} ${(task.balance?.labels || []).join(" ")}`.toLowerCase() }));
  const controls = data.encoders.map((encoder, e) => ({ ...encoder, e })).filter((encoder) => encoder.is_control);
  const taskTable = sortableTable($("task-table"), [], { column: 0, down: false });
  function findBestEncoders() {
    for (const row of taskRows) {
      const metric = mainMetric(row);
      row.best = null;
      data.encoders.forEach((encoder, e) => {
        const mean = scoreOf(metric, "mean", cellIndex(row.t, e));
        if (mean != null && !encoder.is_control && (row.best == null || betterThan(metric)(mean, row.best.mean))) row.best = { mean, sd: scoreOf(metric, "sd", cellIndex(row.t, e)), place: cellIndex(row.t, e), encoder };
      });
    }
  }
  function drawTaskTable() {
    const columns = [
      { title: "Task", name: true, sort: (row) => row.title, cell: (row) => `<a class="link" href="#task=${encodeURIComponent(row.id)}">${escapeHtml(row.title)}</a>` },
      { title: "Family", name: true, sort: (row) => familyTitle(row.family), cell: (row) => escapeHtml(familyTitle(row.family)) },
      { title: "Kind", name: true, sort: (row) => row.kind, cell: (row) => escapeHtml(kinds[row.kind]) },
      { title: "Samples", down: true, sort: (row) => row.n_evaluated ?? row.n_samples, cell: (row) => formatCount(row.n_evaluated ?? row.n_samples) },
      { title: "Best encoder", name: true, sort: (row) => row.best?.encoder.title, cell: (row) => (row.best ? escapeHtml(row.best.encoder.title) : "–") },
      { title: "Best score", down: true, sort: (row) => row.best?.mean, cell: (row) => (row.best ? `<td class="best">${formatValue(row.best.mean)}${markHtml(row.best.encoder, row.family)}<small>±${formatValue(row.best.sd)}</small>${significance.scoreInterval(mainMetric(row), row.best.place)}</td>` : "–") },
      { title: "Verdict", name: true, sort: (row) => significance.verdictText(row.t), cell: (row) => significance.verdictBadge(row.t) },
      ...controls.map((control) => ({ title: `${control.title} (control)`, down: true, sort: (row) => scoreOf(mainMetric(row), "mean", cellIndex(row.t, control.e)), cell: (row) => { const mean = scoreOf(mainMetric(row), "mean", cellIndex(row.t, control.e)); return formatValue(mean) + (mean == null ? "" : markHtml(control, row.family)); } })),
    ];
    const wanted = $("task-search").value.trim().toLowerCase();
    const rows = taskRows.filter((row) => ($("subtasks").checked || row.parent == null) && (!$("family").value || row.family === $("family").value) && (!$("kind").value || row.kind === $("kind").value) && `${row.searchText} ${significance.verdictText(row.t).toLowerCase()}`.includes(wanted));
    taskTable.show(rows, columns);
    const all = $("subtasks").checked ? taskRows.length : taskRows.filter((row) => row.parent == null).length;
    $("task-count").textContent = `${plural(rows.length, "task")} of ${formatCount(all)}.`;
  }
  function setUpTasks() {
    setOptions($("family"), [["", "all"], ...Object.entries(data.families)], "");
    setOptions($("kind"), [["", "all"], ...Object.entries(kinds).filter(([kind]) => data.tasks.some((task) => task.kind === kind))], "");
    $("task-note").textContent = "ROC AUC for classes and labels, R² for numbers: mean over folds ± population deviation. Brackets give the interval of a score. Open a task to see its folds, labels and coverage.";
    for (const id of ["family", "kind", "subtasks"]) $(id).addEventListener("change", drawTaskTable);
    $("task-search").addEventListener("input", drawTaskTable);
    window.addEventListener("hashchange", openLinkedTask);
  }
  function openLinkedTask() {
    const found = /^#task=(.+)$/.exec(location.hash);
    if (!found) return;
    const row = taskRows.find((one) => one.id === decodeURIComponent(found[1]));
    if (row) openTask(row, true);
  }

  const definitionList = (entries) => `<dl class="pairs">${entries.filter(([, value]) => value != null && value !== "").map(([name, value]) => `<dt>${escapeHtml(name)}</dt><dd>${value}</dd>`).join("")}</dl>`;
  function openTask(row, scrollsIntoView) {
    state.task = row;
    const whole = row.parent == null ? row : { ...data.tasks[row.parent], t: row.parent };
    const metric = mainMetric(row);
    const article = $("task");
    const unscored = data.unscored.filter((one) => one.task_id === row.id && one.probe_id === data.series[state.series].probe);
    article.hidden = false;
    article.innerHTML = `<header><div><p class="eyebrow">${escapeHtml(familyTitle(row.family))} · ${escapeHtml(kinds[row.kind])}</p><h3 id="task-title" tabindex="-1">${escapeHtml(row.title)}</h3></div><button type="button" id="task-close">Close</button></header>
      <p>${escapeHtml(whole.description)}</p>
      ${row.family === "temporal" && data.mark_note ? `<p class="hint" id="mark-note">${escapeHtml(data.mark_note)}</p>` : ""}
      ${significance.verdictSummary(row.t)}
      <div class="columns"><div>
        <h4>${escapeHtml(data.metrics[metric]?.title || metric)} of every fold</h4>
        <p class="hint">Points are held-out folds, ticks are means, the dashed line is chance. Grey diamonds are controls.</p>
        <div class="plot" id="task-folds"></div></div>
      <div>
        ${definitionList([["id", `<code>${escapeHtml(row.id)}</code>`], ["samples", `${formatCount(row.n_samples)}${row.n_evaluated != null ? `, ${formatCount(row.n_evaluated)} evaluated` : ""}`], ["entities", formatCount(row.n_entities)], ["labels", formatCount(row.n_labels)], ["positive", row.positive ? escapeHtml(row.positive) : null], ["share of labels", row.kind === "regression" ? null : formatShare(row.density)], ["source", escapeHtml(whole.source)], ["snapshot", whole.snapshot_id ? `<code>${escapeHtml(whole.snapshot_id)}</code>` : null], ["single label of", row.parent == null ? null : `<a href="#task=${encodeURIComponent(whole.id)}">${escapeHtml(whole.title)}</a>`], ["superseded by", whole.superseded_by ? escapeHtml(whole.superseded_by) : null]])}
        <h4>${row.kind === "regression" ? "Values" : "Label balance"}</h4><div class="plot" id="task-balance"></div><p class="hint" id="balance-note"></p>
      </div></div>
      ${unscored.length ? `<p class="note">Without a score: ${unscored.map((one) => `${one.encoder_id.map(escapeHtml).join(", ")} (${escapeHtml(one.status)}: ${escapeHtml(one.reason)})`).join("; ")}.</p>` : ""}
      <details open><summary>All metrics</summary><div class="scroll" role="region" aria-label="All metrics of ${escapeHtml(row.title)}" tabindex="0">${metricTable(row, whole)}</div></details>
      ${significance.pairTable(row.t)}
      ${labelTable(row)}
      <details><summary>Lineage: from the score back to the bytes</summary>${lineageTables(row, whole)}</details>
      <details><summary>Source rows by what was done with them</summary>${definitionList(Object.entries(whole.counts || {}).map(([name, n]) => [name, formatCount(n)]))}</details>`;
    $("task-close").addEventListener("click", () => { article.hidden = true; state.task = null; history.replaceState(null, "", "#tasks"); $("task-search").focus(); });
    drawFolds(row, metric);
    drawBalance(row, whole);
    if (scrollsIntoView) { article.scrollIntoView(); $("task-title").focus({ preventScroll: true }); }
  }
  function drawFolds(row, metric) {
    const ranked = encoderRows.map((encoder) => ({ encoder, place: cellIndex(row.t, encoder.e), mean: scoreOf(metric, "mean", cellIndex(row.t, encoder.e)) })).filter((one) => one.mean != null);
    ranked.sort((a, b) => (betterThan(metric)(a.mean, b.mean) ? -1 : 1));
    const rows = ranked.flatMap((one, order) => foldScores(metric, one.place).map((score, fold) => ({
      encoder: one.encoder.title + (one.encoder.is_control ? " (control)" : ""), modality: one.encoder.modality, fold, value: score, mean: one.mean, sd: scoreOf(metric, "sd", one.place), order, chance: data.metrics[metric]?.chance ?? null })));
    if (rows.length) drawChart($("task-folds"), fillTemplate("folds", rows, ranked.length * 19), `Folds of ${row.title} by encoder`);
    else $("task-folds").textContent = "No score yet.";
  }
  function drawBalance(row, whole) {
    const balance = row.parent == null ? row.balance : null;
    if (row.parent != null) { $("task-balance").hidden = true; $("balance-note").textContent = `${formatShare(row.density)} of the samples have the label.`; return; }
    if (!balance) { $("task-balance").textContent = "No labels in the lake."; return; }
    if (balance.edges) drawChart($("task-balance"), fillTemplate("histogram", balance.n.map((n, k) => ({ n, low: balance.edges[k], high: balance.edges[k + 1] }))), `Values of ${whole.title}`);
    else {
      drawChart($("task-balance"), fillTemplate("balance", balance.labels.map((label, order) => ({ label, n: balance.n[order], order })), balance.labels.length * 17), `Samples with each label of ${whole.title}`);
      $("balance-note").textContent = balance.n_more ? `${plural(balance.n_more, "rarer label")} not drawn.` : "";
    }
  }
  function metricTable(row, whole) {
    const used = Object.keys(data.metrics).filter((metric) => encoderRows.some((encoder) => scoreOf(metric, "mean", cellIndex(row.t, encoder.e)) != null));
    const ranked = encoderRows.filter((encoder) => used.some((metric) => scoreOf(metric, "mean", cellIndex(row.t, encoder.e)) != null));
    return `<table class="grid"><caption class="hidden">Every metric by encoder</caption><thead><tr>${["Encoder", "Coverage", ...used.map((metric) => data.metrics[metric].title)].map((title, n) => `<th scope="col" class="${n ? "" : "name"}" style="padding:10px 12px">${escapeHtml(title)}</th>`).join("")}</tr></thead><tbody>${ranked.map((encoder) => `<tr class="${encoder.is_control ? "is-control" : ""}"><th scope="row">${encoderLabel(encoder)}${markHtml(encoder, row.family)}</th><td>${formatShare(whole.coverage?.[encoder.e])}</td>${used.map((metric) => `<td>${formatValue(scoreOf(metric, "mean", cellIndex(row.t, encoder.e)))}<small>±${formatValue(scoreOf(metric, "sd", cellIndex(row.t, encoder.e)))}</small>${significance.scoreInterval(metric, cellIndex(row.t, encoder.e))}</td>`).join("")}</tr>`).join("")}</tbody></table>`;
  }
  function lineageTables(row, whole) {
    const keys = data.keys[state.series];
    const digest = (text) => (text ? `<code>${escapeHtml(text)}</code>` : "–");
    const encoders = encoderRows.filter((one) => keys[cellIndex(row.t, one.e)]).map((one) => [escapeHtml(one.title), digest(keys[cellIndex(row.t, one.e)]), digest(one.digest), escapeHtml(one.embedded_at)]);
    const wanted = new Set((whole.snapshot_id || "").split(","));
    const sources = data.sources.filter((one) => wanted.has(one.snapshot_id)).map((one) => [`${escapeHtml(one.source)}.${escapeHtml(one.file)}`, escapeHtml(one.version), escapeHtml(one.retrieved_at), digest(one.sha256)]);
    return `<p class="hint">The evaluation key is the digest of labels, vectors and rules. <code>genebench lineage ${escapeHtml(row.id)} ENCODER --release ${escapeHtml(data.release.id)} --verify</code> adds the runs, the versions of the tables and the other digests, and hashes the stored bytes again.</p>${plainTable(["Encoder", "Evaluation key", "Digest of the encoder", "Encoded at"], encoders)}<p class="hint">Source files of the labels:</p>${plainTable(["Source file", "Version", "Retrieved", "SHA-256"], sources)}`;
  }
  function labelTable(row) {
    const children = taskRows.filter((one) => one.parent === row.t && encoderRows.some((encoder) => scoreOf("roc_auc", "mean", cellIndex(one.t, encoder.e)) != null));
    const byLabel = data.labels[row.t]?.[state.series];
    const lines = children.length
      ? children.map((one) => [`<a class="link" href="#task=${encodeURIComponent(one.id)}">${escapeHtml(one.title.replace(`${row.title}: `, ""))}</a>`, encoderRows.map((encoder) => scoreOf("roc_auc", "mean", cellIndex(one.t, encoder.e)))])
      : byLabel ? byLabel.labels.map((label, n) => [escapeHtml(label), byLabel.mean[n].map((mean) => (mean == null ? null : mean / 10000))]) : [];
    if (!lines.length) return "";
    return `<details><summary>${plural(lines.length, "label")}, ROC AUC of each</summary><div class="scroll tall" role="region" aria-label="Labels of ${escapeHtml(row.title)}" tabindex="0"><table class="grid"><caption class="hidden">ROC AUC of each label by encoder</caption><thead><tr>${["Label", ...encoderRows.map((encoder) => encoder.title + (encoder.is_control ? " (control)" : ""))].map((title, n) => `<th scope="col" class="${n ? "" : "name"}" style="padding:10px 12px">${escapeHtml(title)}</th>`).join("")}</tr></thead><tbody>${lines.map(([name, means]) => `<tr><th scope="row">${name}</th>${means.map((mean) => `<td>${formatValue(mean)}</td>`).join("")}</tr>`).join("")}</tbody></table></div></details>`;
  }

  // Encoders
  function drawEncoders() {
    $("cards").innerHTML = encoderRows.map((one) => `<article class="card" style="--tone:${modalityColour(one.modality)}"><h3>${escapeHtml(one.title)}${one.is_control ? '<span class="tag">control</span>' : ""}</h3>${one.description ? `<p>${escapeHtml(one.description)}</p>` : ""}${definitionList([
      ["id", `<code>${escapeHtml(one.id)}</code>`], ["modality", escapeHtml(one.modality)], ["model", one.model ? `<code>${escapeHtml(one.model)}</code>` : null], ["revision", one.revision ? `<code>${escapeHtml(one.revision)}</code>` : null], ["loader", one.loader ? escapeHtml(one.loader) : null],
      ["combines", one.base ? escapeHtml(typeof one.base === "string" ? one.base : Object.values(one.base).join(", ")) : null],
      ["dimension", formatCount(one.dimension)], ["parameters", one.parameters ? formatCount(one.parameters) : null], ["covers", one.coverage.map((c) => `${formatShare(c.share)} of ${formatCount(c.n_needed)} ${escapeHtml(c.entity_type)}s`).join("<br>")],
      ["input text", typeof one.template === "string" ? escapeHtml(one.template) : null], ["trained on data until", one.trained ? escapeHtml(one.trained) : null], ["licence", one.license ? escapeHtml(one.license) : null], ["cite", one.cite ? `<code>${escapeHtml(one.cite)}</code>` : null], ["encoded at", one.embedded_at ? escapeHtml(one.embedded_at) : null], ["digest", one.digest ? `<code>${escapeHtml(one.digest.slice(0, 12))}…</code>` : null]])}</article>`).join("");
  }

  // Published numbers
  const publishedTable = sortableTable($("published-table"), [
    { title: "Task", name: true, sort: (row) => row.task_name, cell: (row) => (row.task_id == null ? escapeHtml(row.task_name) : `<a class="link" href="#task=${encodeURIComponent(data.tasks[row.task_id].id)}">${escapeHtml(row.task_name)}</a>`) },
    { title: "Model", name: true, sort: (row) => row.encoder_name, cell: (row) => escapeHtml(row.encoder_name) },
    { title: "Release", name: true, sort: (row) => row.release_id, cell: (row) => escapeHtml(row.release_id) },
    { title: "Metric", name: true, sort: (row) => row.metric, cell: (row) => escapeHtml(data.metrics[row.metric]?.title || row.metric) },
    { title: "Ours", down: true, sort: (row) => row.ours, cell: (row) => formatValue(row.ours) },
    { title: "Published", down: true, sort: (row) => row.mean, cell: (row) => `${formatValue(row.mean)}<small>±${formatValue(row.sd)}</small>` },
    { title: "Difference in SD", down: true, sort: (row) => row.inSds, cell: (row) => (row.inSds == null ? "–" : `<span class="${Math.abs(row.inSds) <= 2 ? "verdict-in" : "verdict-out"}">${formatValue(row.inSds)} ${Math.abs(row.inSds) <= 2 ? "within 2" : "outside 2"}</span>`) },
    { title: "Samples", down: true, sort: (row) => row.n_samples, cell: (row) => formatCount(row.n_samples) },
  ], { column: 0, down: false });
  function drawPublished() {
    if (!data.published.length) return;
    $("published").hidden = $("nav-published").hidden = false;
    const probe = data.series[state.series]?.probe;
    const rows = data.published.filter((one) => one.probe === probe).map((one) => {
      const ours = one.task_id != null && one.encoder_id != null ? scoreOf(one.metric, "mean", cellIndex(one.task_id, one.encoder_id)) : null;
      const inSds = ours != null && one.sd ? (ours - one.mean) / one.sd : null;
      return { ...one, ours, inSds };
    });
    const others = [...new Set(data.published.map((one) => one.probe))].sort().join(", ");
    $("published-count").textContent = rows.length ? `${plural(rows.length, "published number")} for the probe ${probe}.` : `No published number uses the probe ${probe}; there are numbers for: ${others}.`;
    publishedTable.show(rows);
  }

  const plainTable = (head, rows) => `<div class="scroll" role="region" aria-label="${escapeHtml(head[0])}s" tabindex="0"><table class="grid"><thead><tr>${head.map((title) => `<th scope="col" class="name" style="padding:10px 12px">${escapeHtml(title)}</th>`).join("")}</tr></thead><tbody>${rows.map((row) => `<tr>${row.map((cell) => `<td class="name">${cell}</td>`).join("")}</tr>`).join("")}</tbody></table></div>`;

  // Changes
  function drawChanges() {
    const changes = data.changes;
    if (!changes) return;
    $("changes").hidden = $("nav-changes").hidden = false;
    $("changes-counts").textContent = `${changes.before} → ${changes.after}: ${changes.counts}. A score moves with the labels of its samples, with the samples themselves, with the universe (the entities in common), or with what its encoder reads.`;
    const cell = (value) => escapeHtml(typeof value !== "number" ? value : Number.isInteger(value) ? formatCount(value) : formatValue(value));
    const parts = changes.tables.map((one) => `<h3>${escapeHtml(one.title.charAt(0).toUpperCase() + one.title.slice(1))}</h3>${plainTable(one.columns, one.rows.map((row) => row.map(cell))).replace('class="scroll"', 'class="scroll prose"')}`);
    if (changes.scores.length) parts.push(`<h3>Largest changes of a score</h3>${plainTable(["Task", "Encoder", "Metric", "Before", "Now", "Change", "Noise", "Why"], changes.scores.map((one) => [`<code>${escapeHtml(one.task_id)}</code>`, escapeHtml(one.encoder_id), escapeHtml(one.metric), formatValue(one.mean_before), formatValue(one.mean_after), formatValue(one.change), formatValue(one.noise), escapeHtml(one.why)])).replace('class="scroll"', 'class="scroll tall"')}`);
    $("changes-body").innerHTML = parts.join("");
  }

  // Provenance
  function drawProvenance() {
    const parts = [`<h3>Probes and protocols</h3>${plainTable(["Kind", "Name", "Title", "Description"], data.rules.map((one) => [escapeHtml(one.noun), `<code>${escapeHtml(one.id)}</code>`, escapeHtml(one.title), escapeHtml(one.description)])).replace('class="scroll"', 'class="scroll prose"')}`,
      `<h3>Sources</h3><p class="hint">The versions in the lake when this page was generated. A frozen release may use earlier versions.</p>${plainTable(["Source file", "Version", "Retrieved", "SHA-256", "Size", "Licence"], data.sources.map((one) => [`${escapeHtml(one.source)}.${escapeHtml(one.file)}`, escapeHtml(one.version), escapeHtml(one.retrieved_at), `<code>${escapeHtml(one.sha256)}</code>`, `${formatCount(one.size_bytes)} bytes`, escapeHtml(one.license)]))}`,
      ...(data.freshness.length ? [`<h3>Age of the sources</h3><p class="hint">On the day of this page. The age counts from the release, as declared or as the server says, else from the retrieval. A source is stale if it is older than it declares to become.</p>${plainTable(["Source", "Version", "Released", "Known by", "Retrieved", "Age", "Limit", "State"], data.freshness.map((one) => [escapeHtml(one.source), escapeHtml(one.version ?? "–"), escapeHtml(one.dated_on ?? "–"), escapeHtml(one.dated_by ?? "–"), escapeHtml(one.retrieved_on ?? "–"), one.age_days == null ? "–" : plural(one.age_days, "day"), one.fresh_within_days == null ? "–" : plural(one.fresh_within_days, "day"), `<span class="${one.state === "stale" ? "verdict-out" : ""}">${escapeHtml(one.state)}</span>`]))}`] : []),
      `<h3>Code and packages</h3>${plainTable(["Packages", "Revision", "Solver", "Evaluations", "Seconds"], data.packages.map((one) => [escapeHtml(one.packages), formatCount(one.revision), escapeHtml(one.solver), formatCount(one.n_evaluations), formatCount(one.seconds)]))}`,
      `<details><summary>Versions of the tables</summary>${plainTable(["Table", "Version", "Committed", "Code", "Inputs"], data.tables.map((one) => [`<code>${escapeHtml(one.table)}</code>`, formatCount(one.version), escapeHtml(one.committed_at), escapeHtml(one.code), `<code>${escapeHtml(one.inputs)}</code>`]))}</details>`];
    if (data.unscored.length) parts.push(`<details><summary>${plural(data.unscored.length, "reason")} for evaluations without a score</summary>${plainTable(["Task", "Probe", "State", "Reason", "Encoders"], data.unscored.map((one) => [`<code>${escapeHtml(one.task_id)}</code>`, escapeHtml(one.probe_id), escapeHtml(one.status), escapeHtml(one.reason), escapeHtml(one.encoder_id.join(", "))]))}</details>`);
    $("provenance-body").innerHTML = parts.join("");
  }

  function drawAll() {
    findBestEncoders(); drawHeader(); resetLeaderboard(); drawTaskTable(); significance.draw(); drawPublished();
    if (state.task) openTask(state.task, false);
  }
  setUpLeaderboard(); setUpTasks(); drawEncoders(); drawChanges(); drawProvenance(); drawAll();
  setOptions($("figure"), figures.map((one) => [one.id, one.title]), figures[0]?.id);
  $("figure").addEventListener("change", (event) => drawFigure(event.target.value));
  drawFigure(figures[0]?.id);
  openLinkedTask();
  document.documentElement.dataset.ready = "yes";
});
