"use strict";
// Sorting of tables whose column titles are buttons: by the cells' `data-value`, numbers as numbers.
const tables = {
  value(row, column) {
    const text = row.cells[column].dataset.value;
    return text === "" || Number.isNaN(Number(text)) ? text : Number(text);
  },

  // Order of two rows; what is unknown comes last, either way.
  compare(a, b, column, descending) {
    const [left, right] = [tables.value(a, column), tables.value(b, column)];
    if (left === right) return 0;
    if (left === "" || right === "") return left === "" ? 1 : -1;
    const order = typeof left === "string" ? left.localeCompare(String(right)) : left - right;
    return descending ? -order : order;
  },

  mark(headers, key, descending) {
    for (const header of headers) {
      const chosen = header.dataset.key === key;
      header.setAttribute("aria-sort", chosen ? (descending ? "descending" : "ascending") : "none");
    }
  },
};
