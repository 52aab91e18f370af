"use strict";
// What the numbers can bear: intervals, verdicts, pairs of encoders and ranks. `page` lends the
// page's data, state and ways to write; nothing is fetched.
function makeEvidence({ data, state, $, text, fixed, count, plural, value, at, who, mainOf, grid, options, encoderRows, better }) {
  const title = (e) => data.encoders[e].title;
  const signed = (number) => `${number > 0 ? "+" : ""}${fixed(number)}`;
  const chance = (p) => (p < 0.001 ? "< 0.001" : p.toFixed(3));
  const taskLink = (t) => `<a class="link" href="#task=${encodeURIComponent(data.tasks[t].id)}">${text(data.tasks[t].title)}</a>`;
  const verdictOf = (t) => data.verdicts[state.series]?.[t];

  function range(low, high) {
    return low == null || high == null ? "" : ` <small class="range">[${fixed(low)}, ${fixed(high)}]</small>`;
  }
  const interval = (metric, place) => range(value(metric, "low", place), value(metric, "high", place));

  function mark(t) {
    const found = verdictOf(t);
    if (!found) return "–";
    if (found.solved_by != null) return `<span class="mark solved">solved by ${text(title(found.solved_by))}</span>`;
    return `<span class="mark">${text(found.verdict)}</span>`;
  }
  const isSolved = (t) => verdictOf(t)?.solved_by != null;
  const words = (t) => { const found = verdictOf(t); return !found ? "" : found.solved_by != null ? `solved by ${title(found.solved_by)}` : found.verdict; };

  // Under a family's name: how many of its tasks a control solves.
  function solvedIn(family) {
    const mine = data.tasks.map((task, t) => t).filter((t) => data.tasks[t].parent == null && (family === "overall" || data.tasks[t].family === family));
    const judged = mine.filter(verdictOf);
    const n = judged.filter(isSolved).length;
    return n ? `${n} of ${judged.length} solved by a control` : "";
  }
  function solvedNote() {
    const solved = data.tasks.map((task, t) => t).filter((t) => data.tasks[t].parent == null && isSolved(t));
    const judged = Object.keys(data.verdicts[state.series] || {}).length;
    const place = $("solved-note");
    place.hidden = !judged;
    place.innerHTML = solved.length
      ? `<strong>Solved by a control</strong>, so their scores tell little of the encoders: ${solved.map((t) => `${taskLink(t)} (${text(title(verdictOf(t).solved_by))})`).join(", ")}.`
      : `None of the ${count(judged)} judged tasks is solved by a control.`;
  }

  // One task
  function taskVerdict(t) {
    const found = verdictOf(t);
    if (!found) return "";
    const parts = [];
    if (found.n_pairs) parts.push(`${count(found.n_established)} of ${plural(found.n_pairs, "pair")} of encoders differ beyond chance`);
    if (found.spread != null) parts.push(`best and worst encoder are ${fixed(found.spread)} apart`);
    if (found.noise != null) parts.push(`a score is known to about ±${fixed(found.noise)}`);
    if (found.control != null && found.solved_by == null) parts.push(`the best control is ${title(found.control)}`);
    return `<p class="verdict-line">${mark(t)} ${text(parts.join("; "))}.</p>`;
  }
  const heads = (names) => `<thead><tr>${names.map((name, n) => `<th scope="col" class="plain${n < 2 ? " name" : ""}">${text(name)}</th>`).join("")}</tr></thead>`;
  function taskPairs(t) {
    const rows = pairRows().filter((row) => row.t === t);
    if (!rows.length) return "";
    const lines = rows.map((row) => `<tr><th scope="row">${text(title(row.a))}</th><td class="name">${text(title(row.b))}</td><td>${signed(row.difference)}${range(row.low, row.high)}</td><td>${chance(row.p)}</td><td>${chance(row.p_folds)}</td><td>${row.is_established ? "yes" : "no"}</td></tr>`);
    return `<details><summary>${plural(rows.length, "pair")} of encoders compared</summary><div class="scroll tall" role="region" aria-label="Pairs of encoders on ${text(data.tasks[t].title)}" tabindex="0"><table class="grid"><caption class="hidden">Every pair of encoders on the same folds</caption>${heads(["First", "Second", "Difference", "p, corrected", "p by folds", "Established"])}<tbody>${lines.join("")}</tbody></table></div></details>`;
  }

  // All tasks
  const kept = new Map();
  function pairRows() {
    if (!kept.has(state.series)) {
      const columns = data.pairs[state.series] || { task: [] };
      kept.set(state.series, columns.task.map((t, n) => ({
        t, a: columns.a[n], b: columns.b[n], difference: columns.difference[n], low: columns.low[n], high: columns.high[n],
        p: columns.p[n], p_folds: columns.p_folds[n], is_established: columns.is_established[n] === 1 })));
    }
    return kept.get(state.series);
  }
  const turned = (row) => ({ ...row, a: row.b, b: row.a, difference: -row.difference, low: -row.high, high: -row.low });
  const gain = (row) => (better(mainOf(data.tasks[row.t]))(row.difference, 0) ? 1 : -1);

  function matrix() {
    const tally = new Map();
    for (const row of pairRows()) {
      for (const [a, b, sign] of [[row.a, row.b, 1], [row.b, row.a, -1]]) {
        const cell = tally.get(`${a} ${b}`) || { won: 0, lost: 0, n: 0 };
        cell.n += 1;
        if (row.is_established) cell[gain(row) * sign > 0 ? "won" : "lost"] += 1;
        tally.set(`${a} ${b}`, cell);
      }
    }
    const here = encoderRows.filter((one) => pairRows().some((row) => row.a === one.e || row.b === one.e));
    const names = `<thead><tr><th scope="col" class="plain name">better ↓ than →</th>${here.map((one) => `<th scope="col" class="plain slim">${text(one.title)}</th>`).join("")}</tr></thead>`;
    const lines = here.map((one) => `<tr class="${one.is_control ? "is-control" : ""}"><th scope="row">${who(one)}</th>${here.map((other) => {
      const cell = tally.get(`${one.e} ${other.e}`);
      if (!cell) return '<td class="empty">–</td>';
      return `<td class="tally" style="--w:${cell.won / cell.n}"><span>${cell.won}<small>of ${cell.n}</small></span></td>`;
    }).join("")}</tr>`);
    $("pair-matrix").innerHTML = `<caption class="hidden">Tasks on which the encoder of a row is better than that of a column, beyond chance</caption>${names}<tbody>${lines.join("")}</tbody>`;
  }

  const table = grid($("pair-table"), [], { column: 2, down: true });
  function pairs() {
    const [a, b] = [Number($("pair-a").value), Number($("pair-b").value)];
    const rows = pairRows().filter((row) => (row.a === a && row.b === b) || (row.a === b && row.b === a)).map((row) => (row.a === a ? row : turned(row)));
    const other = (row, e) => { const metric = mainOf(data.tasks[row.t]); const place = at(row.t, e); return `${fixed(value(metric, "mean", place))}${interval(metric, place)}`; };
    table.show(rows, [
      { title: "Task", name: true, sort: (row) => data.tasks[row.t].title, cell: (row) => taskLink(row.t) },
      { title: "Metric", name: true, sort: (row) => mainOf(data.tasks[row.t]), cell: (row) => text(data.metrics[mainOf(data.tasks[row.t])].title) },
      { title: "Difference", down: true, sort: (row) => row.difference, cell: (row) => `<strong>${signed(row.difference)}</strong>${range(row.low, row.high)}` },
      { title: title(a), down: true, sort: (row) => value(mainOf(data.tasks[row.t]), "mean", at(row.t, a)), cell: (row) => other(row, a) },
      { title: title(b), down: true, sort: (row) => value(mainOf(data.tasks[row.t]), "mean", at(row.t, b)), cell: (row) => other(row, b) },
      { title: "p, corrected", sort: (row) => row.p, cell: (row) => chance(row.p) },
      { title: "p by folds", sort: (row) => row.p_folds, cell: (row) => chance(row.p_folds) },
      { title: "Established", down: true, sort: (row) => Number(row.is_established), cell: (row) => (row.is_established ? `<span class="verdict-in">${gain(row) > 0 ? text(title(a)) : text(title(b))} is better</span>` : "no") },
      { title: "Verdict of the task", name: true, sort: (row) => words(row.t), cell: (row) => mark(row.t) },
    ]);
    const found = rows.filter((row) => row.is_established);
    const won = found.filter((row) => gain(row) > 0).length;
    $("pair-count").textContent = rows.length
      ? `Of ${plural(rows.length, "task")}, ${title(a)} is better on ${won}, ${title(b)} on ${found.length - won}; on ${rows.length - found.length} the difference is within chance.`
      : "These two share no compared task.";
  }

  function ranks() {
    const found = Object.entries(data.ranks[state.series] || {});
    $("ranks").hidden = !found.length;
    $("ranks").innerHTML = found.map(([metric, one]) => {
      const order = one.encoders.map((e, n) => ({ e, mean: one.mean[n] })).sort((x, y) => x.mean - y.mean);
      const alike = one.cliques.map((clique) => clique.map((e) => text(title(e))).join(", "));
      return `<article class="card"><h3>Mean ranks by ${text(data.metrics[metric].title)}</h3><p>Over ${plural(one.n_tasks, "task")} that all encoders were scored on; 1 is best. Ranks that differ by less than <strong>${fixed(one.critical)}</strong>, the critical difference, cannot be told apart (Nemenyi); that all are equal has p ${one.p < 0.001 ? "" : "= "}${chance(one.p)} (Friedman).</p><ol class="ranks">${order.map((row) => `<li><span>${who({ ...data.encoders[row.e] })}</span><strong>${row.mean.toFixed(2)}</strong></li>`).join("")}</ol>${alike.length ? `<p>Not told apart: ${alike.join("; ")}.</p>` : ""}</article>`;
    }).join("");
  }

  // What the ranks say of the best encoder, for the head of the page.
  function alike(encoder) {
    const found = data.ranks[state.series]?.[state.metric];
    const others = new Set((found?.cliques || []).filter((clique) => clique.includes(encoder.e)).flat().filter((e) => e !== encoder.e));
    return others.size ? ` Over ${plural(found.n_tasks, "task")}, its ranks cannot be told apart from those of ${[...others].map((e) => text(title(e))).join(", ")}.` : "";
  }

  function choose() {
    const here = encoderRows.filter((one) => pairRows().some((row) => row.a === one.e || row.b === one.e)).map((one) => [one.e, one.title + (one.is_control ? " (control)" : "")]);
    options($("pair-a"), here, here[0]?.[0]);
    options($("pair-b"), here, here[1]?.[0]);
  }
  function all() {
    const hasPairs = pairRows().length > 0;
    const hasRanks = Object.keys(data.ranks[state.series] || {}).length > 0;
    $("comparisons").hidden = $("nav-comparisons").hidden = !hasPairs && !hasRanks;
    $("pairs").hidden = !hasPairs;
    ranks();
    solvedNote();
    if (!hasPairs) return;
    choose();
    matrix();
    pairs();
  }
  for (const id of ["pair-a", "pair-b"]) $(id).addEventListener("change", pairs);
  return { all, alike, range, interval, mark, words, solvedIn, taskVerdict, taskPairs };
}
