// The table and the cards of the page: sorted and filtered together; the view is kept in the address after "#".
(() => {
  const FILTERS = ["search", "role", "layer"];
  const byId = (id) => document.getElementById(id);
  const body = document.querySelector("#table tbody");
  const cards = byId("details");
  const headers = [...document.querySelectorAll("#table thead th")];
  const legend = [...document.querySelectorAll(".legend button")];
  const heads = [...body.rows].map((row, order) => {
    const card = byId(row.dataset.head);
    return { row, card, order, cell: document.querySelector(`.map a[href="#${row.dataset.head}"]`),
             role: row.dataset.role, layer: row.dataset.layer, text: card.textContent.toLowerCase() };
  });
  let sort = { key: "head", descending: false };

  function compare(a, b) {
    const column = headers.findIndex((header) => header.dataset.key === sort.key);
    return tables.compare(a.row, b.row, column, sort.descending) || a.order - b.order;
  }

  function update() {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [role, layer] = [byId("role").value, byId("layer").value];
    let shown = 0;
    const sorted = [...heads].sort(compare);
    const moves = sorted.some((head, place) => body.rows[place] !== head.row);  // else what has the focus keeps it
    for (const head of sorted) {
      const fits = (!role || head.role === role) && (!layer || head.layer === layer)
        && words.every((word) => head.text.includes(word));
      head.row.hidden = head.card.hidden = !fits;
      head.cell.classList.toggle("faded", !fits);
      if (moves) {
        body.append(head.row);
        cards.append(head.card);
      }
      shown += fits;
    }
    tables.mark(headers, sort.key, sort.descending);
    for (const button of legend) button.setAttribute("aria-pressed", String(button.dataset.role === role));
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
    const head = heads.find((candidate) => candidate.card.id === hash);
    if (head) {
      if (head.card.hidden) {
        for (const id of FILTERS) byId(id).value = "";
        update();
      }
      head.card.open = true;
      head.card.scrollIntoView();
      head.card.querySelector("summary").focus({ preventScroll: true });
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
  byId("open-all").addEventListener("click", () => heads.forEach((head) => { head.card.open = !head.card.hidden; }));
  byId("close-all").addEventListener("click", () => heads.forEach((head) => { head.card.open = false; }));
  addEventListener("hashchange", follow);
  follow();
})();
