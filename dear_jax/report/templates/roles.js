// The table and the cards of the page: sorted and filtered together; the view is kept in the address after "#".
(() => {
  const FILTERS = ["search", "role", "layer", "concept"];
  const byId = (id) => document.getElementById(id);
  const body = document.querySelector("#table tbody");
  const cards = byId("details");
  const headers = [...document.querySelectorAll("#table thead th")];
  const legend = [...document.querySelectorAll(".legend button")];
  const heads = [...body.rows].map((row, order) => {
    const card = byId(row.dataset.head);
    return { row, card, order, cell: document.querySelector(`.map a[href="#${row.dataset.head}"]`),
             role: row.dataset.role, layer: row.dataset.layer, concept: row.dataset.concept, text: card.textContent.toLowerCase() };
  });
  let sort = { key: "head", descending: false };

  function compare(a, b) {
    const column = headers.findIndex((header) => header.dataset.key === sort.key);
    return tables.compare(a.row, b.row, column, sort.descending) || a.order - b.order;
  }

  // Whether a head passes all filters but, where one is named, that one.
  function passes(head, words, but = "") {
    return words.every((word) => head.text.includes(word)) && FILTERS.slice(1).every(
      (id) => id === but || !byId(id).value || head[id] === byId(id).value);
  }

  // What would find nothing cannot be chosen.
  function disable(words) {
    for (const id of FILTERS.slice(1)) {
      const found = new Set(heads.filter((head) => passes(head, words, id)).map((head) => head[id]));
      for (const option of byId(id).options) option.disabled = option.value !== "" && !found.has(option.value);
      if (id === "role") for (const button of legend) {
        const chosen = button.dataset.role === byId(id).value;
        button.setAttribute("aria-pressed", String(chosen));
        button.disabled = !chosen && !found.has(button.dataset.role);
      }
    }
  }

  function update() {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    const sorted = [...heads].sort(compare);
    const moves = sorted.some((head, place) => body.rows[place] !== head.row);  // else what has the focus keeps it
    for (const head of sorted) {
      const fits = passes(head, words);
      head.row.hidden = head.card.hidden = !fits;
      head.cell.classList.toggle("faded", !fits);
      if (moves) {
        body.append(head.row);
        cards.append(head.card);
      }
      shown += fits;
    }
    tables.mark(headers, sort.key, sort.descending);
    disable(words);
    byId("count").textContent = shown === heads.length ? `${shown} heads` : `${shown} of ${heads.length} heads`;
    byId("nothing").hidden = shown > 0;
  }

  function remember() {
    const view = new URLSearchParams();
    for (const id of FILTERS) if (byId(id).value) view.set(id, byId(id).value);
    if (sort.key !== "head" || sort.descending) view.set("sort", (sort.descending ? "-" : "") + sort.key);
    history.replaceState(null, "", `#${view}`);
  }

  function follow() {
    const hash = decodeURIComponent(location.hash.slice(1));
    const place = hash && document.getElementById(hash);
    const card = place && place.closest("details.head");
    const head = card && heads.find((candidate) => candidate.card === card);
    if (head) {
      if (head.card.hidden) {
        for (const id of FILTERS) byId(id).value = "";
        update();
      }
      head.card.open = true;
      place.scrollIntoView();
      if (place === card) card.querySelector("summary").focus({ preventScroll: true });
      return;
    }
    const view = new URLSearchParams(location.hash.slice(1));
    for (const id of FILTERS) if (view.has(id)) byId(id).value = view.get(id);
    const key = (view.get("sort") || "").replace(/^-/, "");
    if (headers.some((header) => header.dataset.key === key)) {
      sort = { key, descending: view.get("sort").startsWith("-") };
    }
    update();
  }

  const change = () => { update(); remember(); };
  for (const header of headers) {
    header.querySelector("button").addEventListener("click", () => {
      const again = sort.key === header.dataset.key;
      sort = { key: header.dataset.key, descending: again && !sort.descending };
      change();
    });
  }
  for (const button of legend) {
    button.addEventListener("click", () => {
      byId("role").value = byId("role").value === button.dataset.role ? "" : button.dataset.role;
      change();
    });
  }
  const form = document.querySelector(".filters");
  form.addEventListener("input", change);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(change));
  byId("save").addEventListener("click", () => {
    const quoted = (text) => `"${text.trim().replace(/\s+/g, " ").replaceAll('"', '""')}"`;
    const cells = (row) => [...row.cells].map((cell) => quoted(cell.textContent)).join(",");
    const rows = [document.querySelector("#table thead tr"), ...[...body.rows].filter((row) => !row.hidden)];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([rows.map(cells).join("\r\n") + "\r\n"], { type: "text/csv" }));
    link.download = "heads.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href));
  });
  byId("open-all").addEventListener("click", () => heads.forEach((head) => { head.card.open = !head.card.hidden; }));
  byId("close-all").addEventListener("click", () => heads.forEach((head) => { head.card.open = false; }));
  addEventListener("hashchange", follow);
  follow();
})();
