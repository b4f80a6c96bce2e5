"use strict";
// Sorting and enlarging are extras: the page is whole without them, so their controls are made here.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const key = (row, column) => {
    const cell = row.cells[column];
    return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
  };
  const order = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === "number" || typeof b === "number") return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b, "en", {numeric: true});
  };
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    if (body.rows[0]?.cells[column].classList.contains("ways")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    const arrow = document.createElement("span");
    arrow.className = "arrow";
    arrow.setAttribute("aria-hidden", "true");
    button.insertBefore(arrow, button.querySelector("small"));
    heading.append(button);
    button.addEventListener("click", () => {
      const direction = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", direction);
      const sign = direction === "ascending" ? 1 : -1;
      body.append(...[...body.rows].sort((a, b) => sign * order(key(a, column), key(b, column))));
    });
  });
}

const viewer = document.createElement("dialog");
viewer.className = "viewer";
viewer.addEventListener("click", () => viewer.close());
document.body.append(viewer);
for (const figure of document.querySelectorAll(".image")) {
  const whole = figure.querySelector(".whole");
  const name = whole.getAttribute("aria-label");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "enlarge";
  button.textContent = "Enlarge";
  button.setAttribute("aria-label", "Enlarge: " + name);
  button.addEventListener("click", () => {
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "Close";
    // The drawing itself moves to the viewer and back: a copy would have its names twice.
    const place = document.createComment("");
    whole.replaceWith(place);
    viewer.replaceChildren(close, whole);
    viewer.setAttribute("aria-label", name);
    viewer.addEventListener("close", () => place.replaceWith(whole), {once: true});
    viewer.showModal();
  });
  figure.append(button);
}

// What is folded on screen is wanted on paper.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
