// Tables that stand in the page become sortable, filterable and copyable. What they show stays theirs.
const key = (cell, isNumber) => {
  if (cell.dataset.sort) return Number(cell.dataset.sort);
  const text = cell.textContent.trim();
  if (text === "") return null;
  return isNumber ? Number(text.replaceAll(",", "")) : text;
};
const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
const WIDEST_ON_PAPER = 15;
const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

const enhance = (table) => {
  const heads = [...table.querySelectorAll(".columns th")];
  const groupHeads = [...table.querySelectorAll(".groups th")];
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const foot = table.tFoot?.rows[0];
  const area = table.closest(".scroll");
  const caption = table.caption.textContent;
  const groups = groupHeads.map((head) => head.dataset.group);
  const hidden = new Set(table.dataset.hidden.split("|").filter(Boolean));
  const operators = heads.findIndex((head) => head.dataset.key === "op" || head.dataset.key === "kind");
  const none = el("tr", { hidden: true }, el("td", { class: "empty", colspan: heads.length }, "No row has that."));
  body.append(none);
  let order = rows;
  let shownRows = rows;

  heads.forEach((head, column) => {
    const label = head.textContent;
    const help = head.title;
    head.removeAttribute("title");
    if (column && head.dataset.group && head.dataset.group !== heads[column - 1].dataset.group) {
      for (const row of [...rows, foot].filter(Boolean)) row.cells[column].setAttribute("data-first", "");
      head.setAttribute("data-first", "");
    }
    head.replaceChildren(el("button", { type: "button", title: help || null, onclick: () => sort(column) }, label));
  });
  if (table.id === "table-layers" || table.id === "table-proofs") {
    for (const row of rows) {
      const layer = REPORT.layers[row.dataset.row].name;
      row.cells[0].replaceChildren(el("a", { href: layerLink(layer) }, name(layer)));
    }
  }
  for (const cell of table.querySelectorAll("td.text, tbody th")) {
    if (cell.textContent.length > 24) cell.title = cell.textContent.trim();
  }

  const sort = (column) => {
    const head = heads[column];
    const up = head.getAttribute("aria-sort") !== "ascending";
    const isNumber = head.classList.contains("number");
    const keys = new Map(rows.map((row) => [row, key(row.cells[column], isNumber)]));
    order = [...rows].sort((a, b) => {
      const [left, right] = [keys.get(a), keys.get(b)];
      if (left === null || right === null) return (left === null) - (right === null);
      return up ? compare(left, right) : compare(right, left);
    });
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...order, none);
    filter();
    say(`${caption} sorted by ${head.textContent}, ${up ? "ascending" : "descending"}`);
  };

  const count = el("span", { class: "count" });
  const search = el("input", { type: "search", placeholder: "Filter", "aria-label": `Filter: ${caption}`, oninput: () => filter(true) });
  const kinds = operators < 0 ? [] : [...new Set(rows.map((row) => row.cells[operators].textContent.trim()))].sort();
  const pick = el("select", { "aria-label": `${heads[operators]?.textContent}: ${caption}`, onchange: () => filter(true) },
    el("option", { value: "" }, `every ${heads[operators]?.textContent}`),
    kinds.map((kind) => el("option", { value: kind }, cut(kind, 40))));
  const texts = new Map();
  const filter = (loud) => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    shownRows = order.filter((row) => {
      if (pick.value && row.cells[operators].textContent.trim() !== pick.value) return false;
      if (!words.length) return true;
      if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
      return words.every((word) => texts.get(row).includes(word));
    });
    const keep = new Set(shownRows);
    for (const row of rows) row.hidden = !keep.has(row);
    none.hidden = shownRows.length > 0;
    if (foot) foot.hidden = shownRows.length < rows.length;
    count.textContent = shownRows.length < rows.length ? `${number(shownRows.length)} of ${number(rows.length)}` : plural(rows.length, "row");
    if (loud) say(`${caption}: ${count.textContent}`);
  };

  const showGroup = (group, visible) => {
    heads.forEach((head, column) => {
      if (head.dataset.group !== group) return;
      head.hidden = !visible;
      for (const row of rows) row.cells[column].hidden = !visible;
      if (foot) foot.cells[column].hidden = !visible;
    });
    groupHeads[groups.indexOf(group)].hidden = !visible;
  };
  const csv = () => [
    heads.map((head) => head.dataset.key),
    ...shownRows.map((row) => [...row.cells].map((cell, column) => {
      const text = cell.textContent.trim();
      return heads[column].classList.contains("number") ? text.replaceAll(",", "") : text;
    })),
  ].map((line) => line.map(quoted).join(",")).join("\n") + "\n";

  for (const group of hidden) showGroup(group, false);
  const choices = groups.length > 1
    ? el("fieldset", {}, el("legend", {}, "Columns"), groups.slice(1).map((group) => el("label", {},
        el("input", { type: "checkbox", checked: !hidden.has(group), onchange: (event) => showGroup(group, event.target.checked) }), group)))
    : null;
  const few = rows.length < 6;
  filter();
  area.before(el("div", { class: "controls" },
    few ? null : search, few || kinds.length < 2 ? null : pick, few ? null : count, choices,
    el("span", { class: "push" }, copyButton("Copy CSV", `${caption} as CSV`, csv))));
  // On paper: every column, a wide table in parts that each begin with the first column; afterwards as it was.
  const onPaper = () => {
    groups.forEach((group) => showGroup(group, true));
    if (heads.length <= WIDEST_ON_PAPER) return;
    const parts = [[]];
    for (const group of groups) {
      const own = heads.map((_, column) => column).filter((column) => column && heads[column].dataset.group === group);
      if (parts.at(-1).length + own.length > WIDEST_ON_PAPER) parts.push([]);
      parts.at(-1).push(...own);
    }
    area.classList.add("in-parts");
    area.after(...parts.map((part) => {
      const copied = (row) => el("tr", {}, [0, ...part].map((column) => row.cells[column].cloneNode(true)));
      const columns = el("tr", {}, [0, ...part].map((column) => el("th", { class: heads[column].className, "data-key": heads[column].dataset.key }, heads[column].textContent)));
      return el("table", { class: "printed" }, el("thead", {}, columns), el("tbody", {}, order.map(copied), foot ? copied(foot) : null));
    }));
  };
  const onScreen = () => {
    groups.forEach((group, i) => i && showGroup(group, choices.querySelectorAll("input")[i - 1].checked));
    area.classList.remove("in-parts");
    for (const part of area.parentElement.querySelectorAll(".printed")) part.remove();
  };
  return { onPaper, onScreen };
};
