"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const canvas = $("canvas"), view = $("view"), panel = $("panel"), tip = $("tip");
  const state = { stage: data.stages.length - 1, node: null, search: "", x: 0, y: 0, k: 1, hits: [], hit: 0, heat: data.profile ? "time" : "kind" };

  // ---- small helpers -------------------------------------------------------------------------------------------------
  function element(name, attributes, ...children) {
    const e = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key === "onclick") e.addEventListener("click", value);
      else e.setAttribute(key, value);
    }
    for (const child of children.flat()) if (child !== null && child !== undefined) e.append(child);
    return e;
  }
  function scaled(x, step, units, fixed) {
    let unit = 0;
    while (x >= step && unit + 1 < units.length) { x /= step; unit += 1; }
    const digits = fixed !== undefined ? fixed : unit === 0 || x >= 99.95 ? 0 : x >= 9.995 ? 1 : 2;
    return `${x.toFixed(digits)} ${units[unit]}`.trim();
  }
  const seconds = (x) => x < 1e-3 ? scaled(x * 1e6, Infinity, ["µs"], x < 1e-5 ? 2 : 1) : x < 1 ? scaled(x * 1e3, Infinity, ["ms"], 2) : scaled(x, Infinity, ["s"], 2);
  const percent = (x) => `${(100 * x).toFixed(x < 0.0995 ? 1 : 0)} %`;
  const bytes = (n) => scaled(n, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
  const count = (n) => scaled(n, 1000, ["", "K", "M", "G", "T"]);
  const stage = () => data.stages[state.stage];
  const facts = () => data.drawings[stage().drawing].nodes;

  // ---- the drawing ---------------------------------------------------------------------------------------------------
  let boxes = new Map();   // node id -> <g class="node">
  function draw() {
    const before = anchor();
    const drawing = data.drawings[stage().drawing];
    if (view.dataset.drawing !== String(stage().drawing)) {
      view.innerHTML = drawing.body;
      view.dataset.drawing = stage().drawing;
    }
    boxes = new Map();
    const all = view.querySelectorAll(".node");
    for (const box of all) for (const id of box.dataset.nodes.split(" ")) if (id && id !== box.dataset.key && !boxes.has(id)) boxes.set(id, box);
    for (const box of all) boxes.set(box.dataset.key, box);
    warm();
    const touched = new Set(stage().touched);
    for (const box of all) box.classList.toggle("touched", touched.has(box.dataset.key));
    const after = anchor();
    if (before && after) { state.x += before.x - after.x; state.y += before.y - after.y; }
    move();
    $("slider").value = state.stage;
    $("before").disabled = state.stage === 0;
    $("next").disabled = state.stage === data.stages.length - 1;
    $("stage").textContent = stage().name;
    $("stage-about").textContent = stage().about;
    mark();
    search(false);
    show();
    remember();
  }
  // ---- measured times --------------------------------------------------------------------------------------------------
  const measuredOf = (id) => data.plan.steps.flatMap((s) => (s.node === id ? [data.profile.steps[s.index]] : []));
  const sum = (list, of) => list.reduce((total, x) => total + of(x), 0);
  const shareOf = (list) => sum(list, (m) => (m.roofline_share || 0) * m.seconds) / Math.max(sum(list, (m) => m.seconds), 1e-12);
  // Pale yellow to red by the time, or red to green by the share of the roofline.
  function colourOf(list, longest) {
    const w = state.heat === "time" ? Math.sqrt(sum(list, (m) => m.seconds) / longest) : 1 - Math.min(shareOf(list), 1);
    const [cold, hot] = state.heat === "time" ? [[255, 250, 220], [240, 101, 82]] : [[140, 205, 130], [240, 101, 82]];
    return `rgb(${cold.map((c, i) => Math.round(c + (hot[i] - c) * w)).join(" ")})`;
  }
  function warm() {
    if (!data.profile) return;
    const on = state.heat !== "kind" && state.stage === data.stages.length - 1;
    const all = Array.from(view.querySelectorAll(".node"), (box) => [box, measuredOf(box.dataset.key)]);
    const longest = Math.max(1e-12, ...all.map(([, list]) => sum(list, (m) => m.seconds)));
    view.classList.toggle("heated", on);
    for (const [box, list] of all) {
      const timed = on && list.length > 0;
      box.classList.toggle("timed", timed);
      if (timed) box.style.setProperty("--f", colourOf(list, longest)); else box.style.removeProperty("--f");
    }
    $("heat").textContent = { time: "Heat: time", roofline: "Heat: roofline", kind: "Heat: off" }[state.heat];
    const ends = { time: ["short", "long"], roofline: ["at the roofline", "far below"], kind: [] }[state.heat];
    $("scale").hidden = !on;
    $("scale").className = state.heat;
    $("scale").replaceChildren(...(on ? [ends[0], element("i", {}), ends[1]] : []));
  }
  function profileRows(list) {
    if (!list.length) return [];
    const time = sum(list, (m) => m.seconds), limit = list[0].limit;
    return [
      ["time", `${seconds(time)}, ${percent(time / data.profile.total_seconds)} of the run`],
      ["rate", `${count(list[0].bytes_per_second)}B/s, ${count(list[0].flops_per_second)}FLOP/s`],
      limit ? ["roofline", `${percent(shareOf(list))} of what ${limit === "memory" ? "the memory" : "the arithmetic"} allows`] : null,
    ];
  }
  function profileOverview() {
    if (!data.profile) return [];
    const timed = data.plan.steps.map((s) => ({ s, m: data.profile.steps[s.index] })), ops = new Map();
    for (const t of timed) ops.set(t.s.op, [...(ops.get(t.s.op) || []), t.m]);
    const line = (name, list) => element("tr", {}, element("td", {}, name),
      ...[seconds(sum(list, (m) => m.seconds)), percent(sum(list, (m) => m.seconds) / data.profile.total_seconds), list[0].limit ? percent(shareOf(list)) : ""].map((v) => element("td", { class: "n" }, v)));
    const head = (what) => element("tr", {}, element("th", {}, what), ...["time", "share", "roofline"].map((t) => element("th", { class: "n" }, t)));
    const byTime = (a, b) => sum(b[1], (m) => m.seconds) - sum(a[1], (m) => m.seconds);
    const slowest = timed.toSorted((a, b) => b.m.seconds - a.m.seconds).slice(0, 8);
    return [
      element("h3", {}, "Measured"), element("p", {}, data.profile.about),
      element("table", { class: "times" }, head("op"), [...ops].sort(byTime).map(([op, list]) => line(op, list))),
      element("h3", {}, "The slowest steps"),
      element("table", { class: "times" }, head("step"), slowest.map(({ s, m }) => line(link(s.node, s.label || `${s.node} ${s.op}`), [m]))),
    ];
  }

  // Where the selected box is on the screen, so that it stays there when the stage changes.
  function anchor() {
    const box = state.node && boxes.get(state.node);
    return box && box.isConnected ? box.getBoundingClientRect() : null;
  }
  function move() { view.setAttribute("transform", `translate(${state.x} ${state.y}) scale(${state.k})`); }
  function fit(all) {
    const drawing = data.drawings[stage().drawing], area = canvas.getBoundingClientRect();
    const wide = area.width / drawing.width, high = area.height / drawing.height;
    state.k = Math.min(all ? Math.min(wide, high) : Math.max(wide, 0.55), 1);
    state.x = (area.width - drawing.width * state.k) / 2;
    state.y = all ? (area.height - drawing.height * state.k) / 2 : 0;
    move();
  }
  function centre(box) {
    const area = canvas.getBoundingClientRect(), at = box.getBoundingClientRect();
    state.x += area.left + area.width / 2 - (at.left + at.width / 2);
    state.y += area.top + area.height / 2 - (at.top + at.height / 2);
    move();
  }
  function zoom(factor, px, py) {
    const area = canvas.getBoundingClientRect(), x = px - area.left, y = py - area.top;
    const k = Math.min(4, Math.max(0.03, state.k * factor));
    state.x = x - (x - state.x) * (k / state.k);
    state.y = y - (y - state.y) * (k / state.k);
    state.k = k;
    move();
  }

  // ---- selection -----------------------------------------------------------------------------------------------------
  function select(id, centred) {
    state.node = id;
    if (id && centred && !boxes.has(id)) {
      // It may be there at another stage.
      const other = data.stages.findLastIndex((s) => data.drawings[s.drawing].nodes[id]);
      if (other >= 0) { state.stage = other; draw(); }
    }
    mark();
    show();
    if (centred && boxes.has(id)) centre(boxes.get(id));
    remember();
  }
  function mark() {
    for (const e of document.querySelectorAll(".selected, .edge.in, .edge.out, .head.in, .head.out")) e.classList.remove("selected", "in", "out");
    const box = state.node && boxes.get(state.node);
    if (!box) return;
    box.classList.add("selected");
    const key = CSS.escape(box.dataset.key);
    for (const e of view.querySelectorAll(`[data-to="${key}"]`)) e.classList.add("in");
    for (const e of view.querySelectorAll(`[data-from="${key}"]`)) e.classList.add("out");
    for (const b of buffersOf(state.node)) {
      const drawn = $("lifetimes").querySelector(`[data-buffer="${b.id}"]`);
      if (drawn) drawn.classList.add("selected");
    }
  }
  const stepsOf = (id) => (data.plan ? data.plan.steps.filter((s) => s.node === id) : []);
  function buffersOf(id) {
    if (!data.plan || !id) return [];
    const places = new Set(data.plan.buffers.filter((b) => nodeOf(b.value) === id).map((b) => b.id));
    for (const s of stepsOf(id)) for (const w of s.writes) places.add(w.place);
    return data.plan.buffers.filter((b) => places.has(b.id));
  }
  const nodeOf = (value) => value.split(".")[0];

  // ---- the panel -----------------------------------------------------------------------------------------------------
  function link(id, text) { return element("a", { onclick: () => select(id, true), "data-link": id }, text || id); }
  function list(title, items) { return items.length ? [element("h3", {}, title), element("ul", {}, items.map((i) => element("li", {}, i)))] : []; }
  function rows(pairs) {
    return element("table", {}, pairs.filter((p) => p).map(([name, value]) => element("tr", {}, element("th", {}, name), element("td", {}, value))));
  }
  function code(text) { return element("code", {}, text); }
  function show() {
    panel.replaceChildren(...(state.node ? aboutNode(state.node) : overview()));
    panel.scrollTop = 0;
  }
  function aboutNode(id) {
    const box = boxes.get(id), fact = facts()[id];
    if (box && box.dataset.key.startsWith("fold") && !fact) {
      const text = Array.from(box.querySelectorAll("text"), (t) => t.textContent);
      return [element("h2", {}, text[0]), ...text.slice(1).map((t) => element("p", {}, t)), element("p", {}, "Write the page with --layers all or --layers A..B to see inside.")];
    }
    if (!fact) {
      const steps = planned(id);
      const gone = steps.length ? "It belongs to a folded layer." : "It is not in the graph at this stage.";
      return [element("h2", {}, id), element("p", {}, gone), ...steps, ...came(id)];
    }
    const operands = fact.operands.map((o) => [o.name ? `${o.name}: ` : "", link(nodeOf(o.value)), ` ${o.label || o.op} `, code(o.type)]);
    const users = fact.users.map((u) => [link(u.node), ` ${u.label || u.op}`]);
    return [
      element("h2", {}, fact.label || `${id} ${fact.op}`),
      element("p", {}, element("span", { class: `chip k-${fact.kind}` }, fact.op), element("span", { class: "chip" }, id), fact.layer === null ? null : element("span", { class: "chip" }, `layer ${fact.layer}`)),
      rows([...Object.entries(fact.attributes).map(([k, v]) => [k, code(v)]), ["result", code(fact.types.join(", "))]]),
      ...list("Operands", operands), ...list("Used by", [...users, ...fact.outputs.map((o) => `output ${o}`)]),
      ...planned(id), ...came(id), ...decided(id),
      element("h3", {}, "Statement"), element("p", {}, code(fact.statement)),
    ];
  }
  function planned(id) {
    if (!data.plan || state.stage !== data.stages.length - 1) return [];
    const out = [];
    for (const s of stepsOf(id)) {
      out.push(element("h3", {}, `Step ${s.index} of ${data.plan.steps.length}`), rows([
        ["op", s.op], ...(data.profile ? profileRows([data.profile.steps[s.index]]) : []), ["reads", bytes(s.bytes_read)], ["writes", bytes(s.bytes_written)], ["flops", count(s.flops)],
        s.in_place === null ? null : ["in place", `of operand ${s.in_place}`],
        ...s.writes.map((w) => ["into", code(`${w.place} ${w.type}`)]),
      ]));
    }
    for (const b of buffersOf(id)) {
      const end = b.last >= data.plan.steps.length ? "the end" : `step ${b.last}`;
      out.push(element("h3", {}, `Buffer ${b.id}`), rows([["offset", String(b.offset)], ["bytes", `${bytes(b.bytes)} (${b.bytes})`], ["lives", `step ${b.first} to ${end}`]]));
    }
    return out;
  }
  function came(id) {
    const events = data.history[id] || [];
    return list("Where it came from", events.map((e) => [
      element("strong", {}, e.pass), e.before === null ? " added it" : e.after === null ? " removed it" : " changed it",
      ...e.absorbed.map((a) => element("div", {}, "fused from ", code(a))),
    ]));
  }
  function decided(id) {
    return list("Decisions", data.decisions.filter((d) => d.node === id).map((d) => [
      element("strong", {}, d.pass),
      d.outcome === "applied" ? ` applied: ${bytes(d.bytes_saved)}, ${d.launches_saved} launches saved` : element("span", { class: "bad" }, ` refused: ${d.reason}`),
    ]));
  }
  function overview() {
    const out = [element("h2", {}, data.name), element("p", {}, "Click a node for its facts; drag to pan, turn the wheel to zoom, ← and → step through the passes."), ...profileOverview()];
    if (data.plan) {
      const s = data.plan.summary, a = data.plan.arena;
      out.push(element("h3", {}, "Plan"), rows([
        ["nodes", `${s.nodes_before} → ${s.nodes_after}`], ["launches", `${s.launches_before} → ${s.launches_after}`],
        s.steps_per_layer.length ? ["a layer", `${s.launches_per_layer_before[0]} → ${s.steps_per_layer[0]}`] : null,
        ["read", bytes(s.bytes_read)], ["written", bytes(s.bytes_written)], ["flops", count(s.flops)],
        ["arena", `${bytes(a.bytes)}, ${s.arena_ratio.toFixed(3)} × its lower bound`],
      ]));
    }
    const bill = data.session_bill || data.bill;
    if (bill) {
      out.push(element("h3", {}, data.session_bill ? "Memory of a session" : "Memory"), rows(
        ["weights", "kv", "arena", "scratch", "allocated", "mapped"].map((k) => [k, bytes(bill[k])])));
    }
    const head = element("tr", {}, element("th", {}, "pass"), ...["applied", "refused", "saved"].map((t) => element("th", { class: "n" }, t)));
    out.push(element("h3", {}, "Passes"), element("table", { id: "passes" }, head, data.passes.map((p) => element("tr", {},
      element("td", {}, p.ran ? element("a", { onclick: () => go(data.stages.findIndex((s) => s.name === `after:${p.name}`)) }, p.name) : `${p.name} (off)`),
      ...[p.applied, p.refused, bytes(p.bytes_saved)].map((v) => element("td", { class: "n" }, String(v)))))));
    out.push(element("h3", {}, "Colours"), element("p", {}, data.kinds.map((k) => element("span", { class: `chip k-${k}`, style: k === "output" ? "color: var(--bg)" : "" }, k))));
    return out;
  }

  // ---- search --------------------------------------------------------------------------------------------------------
  function search(jump) {
    for (const e of view.querySelectorAll(".hit")) e.classList.remove("hit");
    const words = state.search.toLowerCase().split(/\s+/).filter((w) => w);
    state.hits = [];
    const marked = new Set();   // A box counts once, whatever of it was found.
    if (words.length) {
      for (const [id, f] of Object.entries(facts())) {
        const text = [id, f.label || "", f.op, ...f.types, ...Object.entries(f.attributes).map(([k, v]) => `${k}=${v}`)].join(" ").toLowerCase();
        const box = boxes.get(id);
        if (!box || marked.has(box) || !words.every((w) => text.includes(w))) continue;
        marked.add(box);
        // What was found in a weight leads to the node that reads it.
        state.hits.push(facts()[box.dataset.key] ? box.dataset.key : id);
      }
      for (const id of state.hits) boxes.get(id).classList.add("hit");
    }
    $("found").textContent = words.length ? (state.hits.length ? `${state.hits.length} found` : "none") : "";
    if (jump && state.hits.length) { state.hit = 0; centre(boxes.get(state.hits[0])); }
  }

  // ---- stages, address, theme ----------------------------------------------------------------------------------------
  function go(index) {
    if (index < 0 || index >= data.stages.length || index === state.stage) return;
    state.stage = index;
    draw();
  }
  function remember() {
    const parts = [];
    if (state.stage !== data.stages.length - 1) parts.push(`stage=${encodeURIComponent(stage().name)}`);
    if (state.node) parts.push(`node=${encodeURIComponent(state.node)}`);
    if (state.search) parts.push(`search=${encodeURIComponent(state.search)}`);
    const hash = parts.length ? `#${parts.join("&")}` : "";
    if (hash !== location.hash) history.replaceState(null, "", hash || location.pathname + location.search);
  }
  function recall() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const named = data.stages.findIndex((s) => s.name === asked.get("stage"));
    state.stage = named >= 0 ? named : data.stages.length - 1;
    state.search = asked.get("search") || "";
    $("search").value = state.search;
    if (asked.get("theme")) theme(asked.get("theme"));
    const node = asked.get("node");
    state.node = null;
    draw();
    if (state.search) search(true);
    if (node) select(nodeNamed(node), true);
  }
  // An id, or the id of the node with this label.
  function nodeNamed(name) {
    if (facts()[name]) return name;
    const all = Object.entries(facts());
    // Matmuls of a group have joined their labels.
    const entry = all.find(([, fact]) => fact.label === name) || all.find(([, fact]) => (fact.label || "").split(" + ").includes(name));
    return entry ? entry[0] : name;
  }
  function theme(name) { document.documentElement.dataset.theme = name === "dark" ? "dark" : "light"; }

  // ---- lifetimes -----------------------------------------------------------------------------------------------------
  function lifetimes() {
    if (!data.lifetimes) { $("dock").remove(); return; }
    const l = data.lifetimes;
    $("lifetimes").innerHTML = `<svg viewBox="0 0 ${l.width} ${l.height}" preserveAspectRatio="xMidYMid meet">${l.body}</svg>`;
    for (const t of $("lifetimes").querySelectorAll("title")) t.remove();
    $("dock-about").textContent = `${data.plan.buffers.length} buffers in ${bytes(data.plan.arena.bytes)}; steps across, offsets up`;
    const buffer = (e) => { const g = e.target.closest(".buffer"); return g && data.plan.buffers[Number(g.dataset.buffer.slice(1))]; };
    $("lifetimes").addEventListener("pointermove", (e) => {
      const b = buffer(e);
      tip.hidden = !b;
      if (!b) return;
      const step = data.plan.steps.find((s) => s.node === nodeOf(b.value));
      tip.textContent = `${b.id} for ${b.value}${step && step.label ? ` ${step.label}` : ""}: ${bytes(b.bytes)} at ${b.offset}, steps ${b.first} to ${b.last}`;
      tip.style.left = `${Math.min(e.clientX + 12, innerWidth - tip.offsetWidth - 8)}px`;
      tip.style.top = `${e.clientY - 34}px`;
    });
    $("lifetimes").addEventListener("pointerleave", () => { tip.hidden = true; });
    $("lifetimes").addEventListener("click", (e) => { const b = buffer(e); if (b) select(nodeOf(b.value), true); });
    $("dock-toggle").addEventListener("click", () => {
      $("dock-toggle").setAttribute("aria-expanded", String(!$("dock").classList.toggle("closed")));
    });
  }

  // ---- events --------------------------------------------------------------------------------------------------------
  let drag = null;
  canvas.addEventListener("pointerdown", (e) => { if (e.button === 0) drag = { x: e.clientX, y: e.clientY, moved: false }; });
  canvas.addEventListener("pointermove", (e) => {
    if (!drag) return;
    const dx = e.clientX - drag.x, dy = e.clientY - drag.y;
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    if (!drag.moved) canvas.setPointerCapture(e.pointerId);
    drag.moved = true;
    canvas.classList.add("dragging");
    state.x += dx; state.y += dy; drag.x = e.clientX; drag.y = e.clientY;
    move();
  });
  const drop = () => { canvas.classList.remove("dragging"); setTimeout(() => { drag = null; }, 0); };
  canvas.addEventListener("pointerup", drop);
  canvas.addEventListener("pointercancel", drop);
  canvas.addEventListener("click", (e) => {
    if (drag && drag.moved) return;
    const box = e.target.closest(".node");
    if (!box) return select(null, false);
    const key = box.dataset.key;
    select(key.startsWith("out") ? data.drawings[stage().drawing].outputs[Number(key.slice(3))] : key, false);
  });
  canvas.addEventListener("wheel", (e) => { e.preventDefault(); zoom(Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.0015)), e.clientX, e.clientY); }, { passive: false });
  canvas.addEventListener("dblclick", (e) => zoom(1.6, e.clientX, e.clientY));
  $("heat").addEventListener("click", () => {
    const kinds = ["time", "roofline", "kind"];
    state.heat = kinds[(kinds.indexOf(state.heat) + 1) % kinds.length];
    if (state.stage !== data.stages.length - 1) go(data.stages.length - 1); else warm();
  });
  $("fit").addEventListener("click", () => fit(true));
  $("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  $("before").addEventListener("click", () => go(state.stage - 1));
  $("next").addEventListener("click", () => go(state.stage + 1));
  $("slider").addEventListener("input", (e) => go(Number(e.target.value)));
  $("search").addEventListener("input", (e) => { state.search = e.target.value; search(true); remember(); });
  $("search").addEventListener("keydown", (e) => {
    if (e.key === "Enter" && state.hits.length) { select(state.hits[state.hit % state.hits.length], true); state.hit += 1; }
    if (e.key === "Escape") { e.target.value = state.search = ""; search(false); remember(); e.target.blur(); }
    e.stopPropagation();
  });
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.id === "slider") return;
    if (e.key === "ArrowLeft") go(state.stage - 1);
    else if (e.key === "ArrowRight") go(state.stage + 1);
    else if (e.key === "f") fit(true);
    else if (e.key === "/") { e.preventDefault(); $("search").focus(); }
    else if (e.key === "Escape") select(null, false);
  });
  window.addEventListener("hashchange", recall);

  $("name").textContent = data.name;
  $("about").textContent = `${data.target} · ${data.bounds} · ${data.generator}`;
  $("heat").hidden = !data.profile;
  $("slider").max = data.stages.length - 1;
  theme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  lifetimes();
  view.innerHTML = "";
  fit(false);
  recall();
  document.documentElement.dataset.ready = "yes";
})();
