"use strict";
// Filter and sort the tables of rows. The page reads the same without it.
for (const section of document.querySelectorAll("section")) {
  const table = section.querySelector("table.rows");
  const field = section.querySelector("input[type=search]");
  if (!table || !field) continue;
  const body = table.tBodies[0];
  const rows = [...body.rows];

  field.hidden = false;
  field.addEventListener("input", () => {
    const wanted = field.value.toLowerCase();
    for (const row of rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
    }
  });

  const valueOf = (row, column) => {
    const cell = row.cells[column];
    const number = cell.querySelector("data");
    return number ? Number(number.value) : cell.textContent.trim();
  };
  for (const button of table.querySelectorAll("th button")) {
    const head = button.parentElement;
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sign = down ? -1 : 1;
      const sorted = [...rows].sort((a, b) => {
        const [x, y] = [valueOf(a, head.cellIndex), valueOf(b, head.cellIndex)];
        // With numeric, "line 9" comes before "line 10".
        const byText = () => x.localeCompare(y, undefined, { numeric: true });
        return sign * (typeof x === "number" ? x - y : byText());
      });
      body.append(...sorted);
    });
  }
}
