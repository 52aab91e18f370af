"use strict";
// Draws the significance results: intervals, verdicts on tasks, pairs of encoders and ranks.
// page.js passes in the page's data, its state and the functions that depend on them.
function makeSignificance({ data, state, $, scoreOf, cellIndex, encoderLabel, mainMetric, encoderRows, betterThan }) {
  const title = (e) => data.encoders[e].title;
  const signed = (number) => `${number > 0 ? "+" : ""}${formatValue(number)}`;
  const formatP = (p) => (p < 0.001 ? "< 0.001" : p.toFixed(3));
  const taskLink = (t) => `<a class="link" href="#task=${encodeURIComponent(data.tasks[t].id)}">${escapeHtml(data.tasks[t].title)}</a>`;
  const verdictOf = (t) => data.verdicts[state.series]?.[t];

  function formatInterval(low, high) {
    return low == null || high == null ? "" : ` <small class="range">[${formatValue(low)}, ${formatValue(high)}]</small>`;
  }
  const scoreInterval = (metric, place) => formatInterval(scoreOf(metric, "low", place), scoreOf(metric, "high", place));

  function verdictBadge(t) {
    const found = verdictOf(t);
    if (!found) return "–";
    if (found.solved_by != null) return `<span class="mark solved">solved by ${escapeHtml(title(found.solved_by))}</span>`;
    return `<span class="mark">${escapeHtml(found.verdict)}</span>`;
  }
  const isSolved = (t) => verdictOf(t)?.solved_by != null;
  const verdictText = (t) => { const found = verdictOf(t); return !found ? "" : found.solved_by != null ? `solved by ${title(found.solved_by)}` : found.verdict; };

  // How many tasks of a family a control solves; shown below the family's name.
  function countSolved(family) {
    const inScope = data.tasks.map((task, t) => t).filter((t) => data.tasks[t].parent == null && (family === "overall" || data.tasks[t].family === family));
    const judged = inScope.filter(verdictOf);
    const n = judged.filter(isSolved).length;
    return n ? `${n} of ${judged.length} solved by a control` : "";
  }
  function drawSolvedNote() {
    const solved = data.tasks.map((task, t) => t).filter((t) => data.tasks[t].parent == null && isSolved(t));
    const judged = Object.keys(data.verdicts[state.series] || {}).length;
    const note = $("solved-note");
    note.hidden = !judged;
    note.innerHTML = solved.length
      ? `<strong>Solved by a control</strong>, so their scores hardly distinguish encoders: ${solved.map((t) => `${taskLink(t)} (${escapeHtml(title(verdictOf(t).solved_by))})`).join(", ")}.`
      : `None of the ${formatCount(judged)} evaluated tasks is solved by a control.`;
    $("gains-note").hidden = !data.gains;
    $("gains-note").textContent = data.gains;
  }

  // One task
  function verdictSummary(t) {
    const found = verdictOf(t);
    if (!found) return "";
    const parts = [];
    if (found.n_pairs) parts.push(`${formatCount(found.n_established)} of ${plural(found.n_pairs, "pair")} of encoders differ significantly`);
    if (found.spread != null) parts.push(`best and worst encoder are ${formatValue(found.spread)} apart`);
    if (found.noise != null) parts.push(`the uncertainty of a score is about ±${formatValue(found.noise)}`);
    if (found.control != null && found.solved_by == null) parts.push(`the best control is ${title(found.control)}`);
    return `<p class="verdict-line">${verdictBadge(t)} ${escapeHtml(parts.join("; "))}.</p>`;
  }
  const plainHeader = (names) => `<thead><tr>${names.map((name, n) => `<th scope="col" class="plain${n < 2 ? " name" : ""}">${escapeHtml(name)}</th>`).join("")}</tr></thead>`;
  function pairTable(t) {
    const rows = pairRows().filter((row) => row.t === t);
    if (!rows.length) return "";
    const lines = rows.map((row) => `<tr><th scope="row">${escapeHtml(title(row.a))}</th><td class="name">${escapeHtml(title(row.b))}</td><td>${signed(row.difference)}${formatInterval(row.low, row.high)}</td><td>${formatP(row.p)}</td><td>${formatP(row.p_folds)}</td><td>${row.is_established ? "yes" : "no"}</td></tr>`);
    return `<details><summary>${plural(rows.length, "pair")} of encoders compared</summary><div class="scroll tall" role="region" aria-label="Pairs of encoders on ${escapeHtml(data.tasks[t].title)}" tabindex="0"><table class="grid"><caption class="hidden">Every pair of encoders on the same folds</caption>${plainHeader(["First", "Second", "Difference", "p, corrected (Holm)", "p over folds", "Established"])}<tbody>${lines.join("")}</tbody></table></div></details>`;
  }

  // All tasks
  const pairsBySeries = new Map();
  function pairRows() {
    if (!pairsBySeries.has(state.series)) {
      const columns = data.pairs[state.series] || { task: [] };
      pairsBySeries.set(state.series, columns.task.map((t, n) => ({
        t, a: columns.a[n], b: columns.b[n], difference: columns.difference[n], low: columns.low[n], high: columns.high[n],
        p: columns.p[n], p_folds: columns.p_folds[n], is_established: columns.is_established[n] === 1 })));
    }
    return pairsBySeries.get(state.series);
  }
  const swapPair = (row) => ({ ...row, a: row.b, b: row.a, difference: -row.difference, low: -row.high, high: -row.low });
  const gainSign = (row) => (betterThan(mainMetric(data.tasks[row.t]))(row.difference, 0) ? 1 : -1);

  function drawPairMatrix() {
    const tally = new Map();
    for (const row of pairRows()) {
      for (const [a, b, sign] of [[row.a, row.b, 1], [row.b, row.a, -1]]) {
        const cell = tally.get(`${a} ${b}`) || { won: 0, lost: 0, n: 0 };
        cell.n += 1;
        if (row.is_established) cell[gainSign(row) * sign > 0 ? "won" : "lost"] += 1;
        tally.set(`${a} ${b}`, cell);
      }
    }
    const present = encoderRows.filter((one) => pairRows().some((row) => row.a === one.e || row.b === one.e));
    const names = `<thead><tr><th scope="col" class="plain name">better ↓ than →</th>${present.map((one) => `<th scope="col" class="plain slim">${escapeHtml(one.title)}</th>`).join("")}</tr></thead>`;
    const lines = present.map((one) => `<tr class="${one.is_control ? "is-control" : ""}"><th scope="row">${encoderLabel(one)}</th>${present.map((other) => {
      const cell = tally.get(`${one.e} ${other.e}`);
      if (!cell) return '<td class="empty">–</td>';
      return `<td class="tally" style="--w:${cell.won / cell.n}"><span>${cell.won}<small>of ${cell.n}</small></span></td>`;
    }).join("")}</tr>`);
    $("pair-matrix").innerHTML = `<caption class="hidden">Number of tasks on which the encoder of the row is significantly better than that of the column</caption>${names}<tbody>${lines.join("")}</tbody>`;
  }

  const table = sortableTable($("pair-table"), [], { column: 2, down: true });
  function drawPairs() {
    const [a, b] = [Number($("pair-a").value), Number($("pair-b").value)];
    const rows = pairRows().filter((row) => (row.a === a && row.b === b) || (row.a === b && row.b === a)).map((row) => (row.a === a ? row : swapPair(row)));
    const other = (row, e) => { const metric = mainMetric(data.tasks[row.t]); const place = cellIndex(row.t, e); return `${formatValue(scoreOf(metric, "mean", place))}${scoreInterval(metric, place)}`; };
    table.show(rows, [
      { title: "Task", name: true, sort: (row) => data.tasks[row.t].title, cell: (row) => taskLink(row.t) },
      { title: "Metric", name: true, sort: (row) => mainMetric(data.tasks[row.t]), cell: (row) => escapeHtml(data.metrics[mainMetric(data.tasks[row.t])].title) },
      { title: "Difference", down: true, sort: (row) => row.difference, cell: (row) => `<strong>${signed(row.difference)}</strong>${formatInterval(row.low, row.high)}` },
      { title: title(a), down: true, sort: (row) => scoreOf(mainMetric(data.tasks[row.t]), "mean", cellIndex(row.t, a)), cell: (row) => other(row, a) },
      { title: title(b), down: true, sort: (row) => scoreOf(mainMetric(data.tasks[row.t]), "mean", cellIndex(row.t, b)), cell: (row) => other(row, b) },
      { title: "p, corrected (Holm)", sort: (row) => row.p, cell: (row) => formatP(row.p) },
      { title: "p over folds", sort: (row) => row.p_folds, cell: (row) => formatP(row.p_folds) },
      { title: "Established", down: true, sort: (row) => Number(row.is_established), cell: (row) => (row.is_established ? `<span class="verdict-in">${gainSign(row) > 0 ? escapeHtml(title(a)) : escapeHtml(title(b))} is better</span>` : "no") },
      { title: "Verdict of the task", name: true, sort: (row) => verdictText(row.t), cell: (row) => verdictBadge(row.t) },
    ]);
    const found = rows.filter((row) => row.is_established);
    const won = found.filter((row) => gainSign(row) > 0).length;
    $("pair-count").textContent = rows.length
      ? `Of ${plural(rows.length, "task")}, ${title(a)} is better on ${won}, ${title(b)} on ${found.length - won}; on ${rows.length - found.length} the difference is not significant.`
      : "These two encoders were not compared on any task.";
  }

  function drawRanks() {
    const found = Object.entries(data.ranks[state.series] || {});
    $("ranks").hidden = !found.length;
    $("ranks").innerHTML = found.map(([metric, one]) => {
      const order = one.encoders.map((e, n) => ({ e, mean: one.mean[n] })).sort((x, y) => x.mean - y.mean);
      const groups = one.cliques.map((clique) => clique.map((e) => escapeHtml(title(e))).join(", "));
      return `<article class="card"><h3>Mean ranks by ${escapeHtml(data.metrics[metric].title)}</h3><p>Over ${plural(one.n_tasks, "task")} that all encoders were scored on; 1 is best. Ranks that differ by less than the critical difference of <strong>${formatValue(one.critical)}</strong> do not differ significantly (Nemenyi's test). Friedman's test that all encoders are equal: p ${one.p < 0.001 ? "" : "= "}${formatP(one.p)}.</p><ol class="ranks">${order.map((row) => `<li><span>${encoderLabel({ ...data.encoders[row.e] })}</span><strong>${row.mean.toFixed(2)}</strong></li>`).join("")}</ol>${groups.length ? `<p>No significant difference: ${groups.join("; ")}.</p>` : ""}</article>`;
    }).join("");
  }

  // The encoders whose ranks do not differ significantly from those of one encoder; for the page header.
  function rankNote(encoder) {
    const found = data.ranks[state.series]?.[state.metric];
    const others = new Set((found?.cliques || []).filter((clique) => clique.includes(encoder.e)).flat().filter((e) => e !== encoder.e));
    return others.size ? ` Over ${plural(found.n_tasks, "task")}, its ranks do not differ significantly from those of ${[...others].map((e) => escapeHtml(title(e))).join(", ")}.` : "";
  }

  function setUpPairChoice() {
    const present = encoderRows.filter((one) => pairRows().some((row) => row.a === one.e || row.b === one.e)).map((one) => [one.e, one.title + (one.is_control ? " (control)" : "")]);
    setOptions($("pair-a"), present, present[0]?.[0]);
    setOptions($("pair-b"), present, present[1]?.[0]);
  }
  function draw() {
    const hasPairs = pairRows().length > 0;
    const hasRanks = Object.keys(data.ranks[state.series] || {}).length > 0;
    $("comparisons").hidden = $("nav-comparisons").hidden = !hasPairs && !hasRanks;
    $("pairs").hidden = !hasPairs;
    drawRanks();
    drawSolvedNote();
    if (!hasPairs) return;
    setUpPairChoice();
    drawPairMatrix();
    drawPairs();
  }
  for (const id of ["pair-a", "pair-b"]) $(id).addEventListener("change", drawPairs);
  return { draw, rankNote, formatInterval, scoreInterval, verdictBadge, verdictText, countSolved, verdictSummary, pairTable };
}
