// The tables of classes, sorted and filtered; the confusion matrices, which say what a cell holds and can be enlarged.
(() => {
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const headers = [...table.tHead.rows[0].cells];
    let sorted = { column: -1, descending: false };
    headers.forEach((header, column) => {
      header.querySelector("button").addEventListener("click", () => {
        sorted = { column, descending: sorted.column === column ? !sorted.descending : header.dataset.key === "change" };
        const rows = [...body.rows].sort((a, b) => tables.compare(a, b, column, sorted.descending));
        body.append(...rows);
        tables.mark(headers, header.dataset.key, sorted.descending);
      });
    });
  }

  for (const form of document.querySelectorAll("form.filters")) {
    const rows = [...document.getElementById(form.dataset.table).tBodies[0].rows];
    const [search, kind] = [form.querySelector("input"), form.querySelector("select")];
    const update = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const name = row.cells[0].textContent.toLowerCase();
        const fits = (!kind || !kind.value || row.dataset.kind === kind.value) && words.every((word) => name.includes(word));
        row.hidden = !fits;
        shown += fits;
      }
      const all = `${rows.length} ${rows.length === 1 ? "class" : "classes"}`;
      form.querySelector("output").textContent = shown === rows.length ? all : `${shown} of ${all}`;
    };
    form.addEventListener("input", update);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(update));
  }

  for (const slider of document.querySelectorAll("input[data-matrix]")) {
    const matrix = document.getElementById(slider.dataset.matrix);
    const output = document.querySelector(`output[data-for="${matrix.id}"]`);
    const cursor = matrix.querySelector(".cursor");
    const [names, images, cells] = ["names", "images", "cells"].map((key) => JSON.parse(matrix.dataset[key]));
    const counts = new Map(cells.true.map((row, i) => [row * names.length + cells.predicted[i], [cells.images[i], cells.zero_shot[i]]]));
    const seeds = Number(matrix.dataset.seeds);
    let place = { row: 0, column: 0 };

    const show = (row, column) => {
      place = { row, column };
      const [count, plain] = counts.get(row * names.length + column) || [0, 0];
      const mean = (count / seeds).toFixed(seeds > 1 ? 1 : 0);
      output.textContent = `${names[row]} → ${names[column]}: ${mean} of ${images[row]} images, zero-shot CLIP ${plain}`;
      cursor.setAttribute("x", column);
      cursor.setAttribute("y", row);
      cursor.removeAttribute("hidden");
    };
    for (const kind of ["pointermove", "pointerdown"]) {  // a finger only taps
      matrix.addEventListener(kind, (event) => {
        const box = matrix.getBoundingClientRect();
        const at = (offset, size) => Math.min(names.length - 1, Math.max(0, Math.floor((offset / size) * names.length)));
        show(at(event.clientY - box.top, box.height), at(event.clientX - box.left, box.width));
      });
    }
    matrix.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      const within = (value) => Math.min(names.length - 1, Math.max(0, value));
      show(within(place.row + step[0]), within(place.column + step[1]));
      cursor.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
    slider.addEventListener("input", () => {  // what is in the middle stays there
      const frame = matrix.parentElement;
      const [x, y] = [frame.scrollLeft + frame.clientWidth / 2, frame.scrollTop + frame.clientHeight / 2];
      const before = matrix.clientWidth;
      matrix.style.width = `${100 * slider.value}%`;
      const factor = matrix.clientWidth / before;
      frame.scrollLeft = x * factor - frame.clientWidth / 2;
      frame.scrollTop = y * factor - frame.clientHeight / 2;
    });
  }
})();
