"use strict";
// Filter and sort the tables of rows; show the values of plots. The page reads the same without it.
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

const MOST_PIXELS = 30; // from the pointer to a point whose values are shown
const GAP = 12; // between the point and its values
for (const figure of document.querySelectorAll("figure[data-hover]")) {
  const { x, y, series } = JSON.parse(figure.dataset.hover);
  const points = series.flatMap(({ name, points }) =>
    points.map(([left, top, xValue, yValue]) => {
      return { left, top, lines: [...(name ? [name] : []), `${x}: ${xValue}`, `${y}: ${yValue}`] };
    })
  );
  const image = figure.querySelector("img");
  const dot = document.createElement("span");
  const values = document.createElement("output");
  dot.className = "dot";
  dot.hidden = values.hidden = true;
  figure.append(dot, values);

  const hide = () => {
    dot.hidden = values.hidden = true;
  };
  const show = (event) => {
    const area = image.getBoundingClientRect();
    let nearest, least = MOST_PIXELS;
    for (const point of points) {
      const across = area.left + point.left * area.width - event.clientX;
      const down = area.top + point.top * area.height - event.clientY;
      const distance = Math.hypot(across, down);
      if (distance < least) [nearest, least] = [point, distance];
    }
    if (!nearest) return hide();
    dot.hidden = values.hidden = false;
    values.textContent = nearest.lines.join("\n");
    const [left, top] = [nearest.left * area.width, nearest.top * area.height];
    dot.style.left = `${left}px`;
    dot.style.top = `${top}px`;
    // Above or below the point, within the image, so that nothing sticks out of a narrow screen.
    values.style.left = "0px"; // where it is as wide as it can be
    const middle = left - values.offsetWidth / 2;
    values.style.left = `${Math.max(0, Math.min(middle, area.width - values.offsetWidth))}px`;
    values.style.top = `${top > values.offsetHeight + GAP ? top - values.offsetHeight - GAP : top + GAP}px`;
  };
  image.addEventListener("pointermove", show);
  image.addEventListener("pointerdown", show);
  image.addEventListener("pointerleave", hide);
}
