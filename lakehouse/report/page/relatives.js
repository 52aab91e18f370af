"use strict";
// Draws what the scores lose where related genes are held out together.
function makeRelatives({ data, state, $, encoderLabel, encoderRows, familyTitle }) {
  const table = sortableTable($("relatives-table"), [], { column: 1, down: true });
  const drop = (entry, e) => (entry.mean[e] == null ? null : entry.mean[e] - entry.mean_held_out[e]);
  const signed = (number) => `${number > 0 ? "+" : ""}${formatValue(number)}`;

  function draw() {
    const probe = data.series[state.series]?.probe;
    const chosen = data.relatives.filter((one) => one.probe === probe && one.metric === state.metric);
    $("relatives").hidden = $("nav-relatives").hidden = !chosen.length;
    if (!chosen.length) return;
    const scopes = ["overall", ...Object.keys(data.families)].map((name) => chosen.find((one) => one.scope === name)).filter(Boolean);
    const columns = scopes.map((one) => ({
      title: one.scope === "overall" ? "Overall" : familyTitle(one.scope).split(" ")[0], down: true, note: plural(Math.max(...one.n_tasks), "task"),
      sort: (row) => drop(one, row.e),
      cell: (row) => (one.mean[row.e] == null ? "–" : `${signed(-drop(one, row.e))} <small>${formatValue(one.mean[row.e])} → ${formatValue(one.mean_held_out[row.e])}</small>`),
    }));
    const rows = encoderRows.filter((row) => scopes.some((one) => one.mean[row.e] != null));
    table.show(rows, [{ title: "Encoder", name: true, sort: (row) => row.title, cell: encoderLabel }, ...columns]);
    $("relatives-note").textContent = `${data.metrics[state.metric].title}: change of the mean under the protocol relatives, whose folds hold out related genes together, for tasks that both protocols scored with equal labels and vectors. What is lost is memory of relatives in training. Pairs of genes can gain: pairs of relatives are nearly all positive, and more of them are tested.`;
  }
  return { draw };
}
