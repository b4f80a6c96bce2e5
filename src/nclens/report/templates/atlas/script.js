// Filters of the verdicts; the marks at a glance follow the rows of the table. Without scripts everything is shown.
{
  const form = document.querySelector(".filters");
  const fields = ["paper", "data", "outcome", "reason"];
  const rows = [...document.querySelectorAll(".every > tbody > tr")];
  const places = rows.map((row) => row.dataset.f.split(" "));
  const texts = rows.map((row) => [row.textContent, ...[...row.querySelectorAll("[title]")].map((part) => part.title)].join(" ").toLowerCase());
  const marks = [...document.querySelectorAll(".glance a.cell")];
  const show = () => {
    const chosen = fields.map((name) => form.elements[name].value);
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = !words.length && chosen.every((value) => value === "");
    let shown = 0;
    rows.forEach((row, place) => {
      const fits = chosen.every((value, field) => value === "" || value === places[place][field]);
      row.hidden = !(fits && words.every((word) => texts[place].includes(word)));
      shown += !row.hidden;
    });
    for (const mark of marks) mark.hidden = document.getElementById("r" + mark.dataset.row).hidden;
    for (const body of document.querySelectorAll(".glance > tbody")) {
      for (const row of body.querySelectorAll("tr:not(.paper)")) row.hidden = !all && !row.querySelector("a.cell:not([hidden])");
      body.hidden = !body.querySelector("tr:not(.paper):not([hidden])");
    }
    form.querySelector("output").textContent = shown + " of " + rows.length + " verdicts";
  };
  form.hidden = false;
  form.addEventListener("input", show);
  form.querySelector("button").addEventListener("click", () => {
    form.reset();
    show();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  show();
}
