// Sorts the leaderboard by the column that is clicked, and opens the verdicts that a link names.
const table = document.getElementById("leaderboard");
const body = table.tBodies[0];

function keyOf(row, column) {
  const cell = row.cells[column];
  const number = Number(cell.dataset.value ?? cell.textContent);
  return Number.isNaN(number) ? cell.textContent : number;
}

// A cell without a number comes after the numbers, in either direction.
function compareRows(first, second, column, sign) {
  const [left, right] = [keyOf(first, column), keyOf(second, column)];
  if (typeof left !== typeof right) return typeof left === "number" ? -1 : 1;
  return sign * (typeof left === "number" ? left - right : left.localeCompare(right));
}

[...table.tHead.rows[0].cells].forEach((head, column) => {
  const button = document.createElement("button");
  button.textContent = head.textContent;
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    const descending = head.getAttribute("aria-sort") !== "descending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const sign = descending ? -1 : 1;
    body.append(...[...body.rows].sort((a, b) => compareRows(a, b, column, sign)));
  });
});

function openNamed() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named instanceof HTMLDetailsElement) {
    named.open = true;
    named.scrollIntoView();
  }
}
addEventListener("hashchange", openNamed);
openNamed();
document.documentElement.dataset.ready = "yes";
