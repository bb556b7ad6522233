// Places drawn on a camera's picture: all others stay visible, Enter closes, numbers can be edited, everything can be undone.
"use strict";
(() => {
  const root = document.getElementById("drawing");
  if (!root) return;
  const words = JSON.parse(root.dataset.words);
  const taken = JSON.parse(root.dataset.places);
  const board = document.getElementById("board");
  const fresh = document.getElementById("fresh");
  const said = document.getElementById("said");
  const [W, H] = [1600, 900];
  let shapes = []; // {kind, name, door, corners: [[x, y]], open}
  let past = [];
  let drawing = null; // the kind that is drawn
  let held = null; // [shape, corner] that the mouse holds
  let pointer = [0.5, 0.5]; // of the keyboard

  const round = (value) => Math.min(1, Math.max(0, Math.round(value * 1000) / 1000));
  const least = (kind) => (kind === "line" ? 2 : 3);
  const current = () => shapes.find((shape) => shape.open);
  const make = (name, attributes, parent, text) => {
    const svg = parent.namespaceURI === board.namespaceURI;
    const one = svg ? document.createElementNS(board.namespaceURI, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
    if (text != null) one.textContent = text;
    parent.append(one);
    return one;
  };

  function remember() {
    past.push(JSON.stringify(shapes));
    if (past.length > 200) past.shift();
  }

  function undo() {
    if (!past.length) return;
    shapes = JSON.parse(past.pop());
    if (!current()) drawing = null;
    show();
  }

  function newName(kind) {
    const names = [...taken, ...shapes.map((shape) => shape.name)];
    let number = 1;
    while (names.includes(`${kind} ${number}`)) number += 1;
    return `${kind} ${number}`;
  }

  function choose(kind) {
    if (current()) giveUp();
    drawing = drawing === kind ? null : kind;
    show();
    if (drawing) board.focus();
  }

  function add(x, y) {
    if (!drawing) return;
    const shape = current();
    if (shape && shape.corners.length >= least(shape.kind) && Math.hypot((x - shape.corners[0][0]) * W, (y - shape.corners[0][1]) * H) < 16) return close();
    remember();
    if (shape) shape.corners.push([round(x), round(y)]);
    else shapes.push({ kind: drawing, name: newName(drawing), door: drawing === "line", corners: [[round(x), round(y)]], open: true });
    show();
    if (drawing === "line" && current().corners.length === 2) close();
  }

  function close() {
    const shape = current();
    if (!shape) return;
    if (shape.corners.length < least(shape.kind)) {
      said.textContent = root.dataset.tooFew;
      return;
    }
    remember();
    shape.open = false;
    drawing = null;
    show();
    document.querySelector("#shapes fieldset:last-of-type input")?.focus();
  }

  function giveUp() {
    if (current()) {
      remember();
      shapes = shapes.filter((shape) => !shape.open);
    }
    drawing = null;
    show();
  }

  function toml() {
    const quote = (text) => JSON.stringify(text);
    const point = ([x, y]) => `[${x.toFixed(3)}, ${y.toFixed(3)}]`;
    const camera = root.dataset.camera;
    const parts = [];
    for (const shape of shapes.filter((each) => !each.open)) {
      const corners = shape.corners.map(point).join(", ");
      if (shape.kind === "zone") parts.push(`[[zones]]\nname = ${quote(shape.name)}\ncamera = ${quote(camera)}\ncorners = [${corners}]`);
      else if (shape.kind === "line") {
        const door = shape.door ? "" : "\ndoor = false";
        parts.push(`[[lines]]\nname = ${quote(shape.name)}\ncamera = ${quote(camera)}\nstart = ${point(shape.corners[0])}\nend = ${point(shape.corners[1])}${door}`);
      } else parts.push(`# in the [[cameras]] of ${quote(camera)}:\nmasks = [[${corners}]]`);
    }
    return parts.join("\n\n") || root.dataset.nothing;
  }

  function arrow(shape) {
    const [[ax, ay], [bx, by]] = shape.corners.map(([x, y]) => [x * W, y * H]);
    const long = Math.hypot(bx - ax, by - ay) || 1;
    const [mx, my] = [(ax + bx) / 2, (ay + by) / 2];
    const [nx, ny] = [(by - ay) / long, -(bx - ax) / long]; // to its left, as seen from its start in the picture
    const [tx, ty] = [mx + 70 * nx, my + 70 * ny];
    const head = [[tx - 22 * nx + 12 * ny, ty - 22 * ny - 12 * nx], [tx, ty], [tx - 22 * nx - 12 * ny, ty - 22 * ny + 12 * nx]];
    return `M${mx} ${my}L${tx} ${ty}M${head[0].join(" ")}L${head[1].join(" ")}L${head[2].join(" ")}`;
  }

  function show() {
    fresh.replaceChildren();
    for (const [n, shape] of shapes.entries()) {
      const points = shape.corners.map(([x, y]) => `${x * W},${y * H}`).join(" ");
      make(shape.open || shape.kind === "line" ? "polyline" : "polygon", { points, class: `${shape.kind} new${shape.open ? " open" : ""}` }, fresh);
      if (shape.kind === "line" && shape.corners.length === 2) make("path", { d: arrow(shape), class: "way" }, fresh);
      const [left, top] = shape.corners.toSorted((a, b) => a[1] - b[1])[0];
      make("text", { x: Math.max(8, left * W), y: Math.max(30, top * H - 10) }, fresh, shape.name);
      for (const [m, [x, y]] of shape.corners.entries()) {
        make("circle", { cx: x * W, cy: y * H, r: 9, class: "corner", "data-at": `${n} ${m}` }, fresh);
      }
    }
    if (drawing) {
      const [x, y] = [pointer[0] * W, pointer[1] * H];
      make("path", { d: `M${x - 18} ${y}h36M${x} ${y - 18}v36`, class: "pointer" }, fresh);
    }
    for (const button of root.querySelectorAll("[data-draw]")) button.setAttribute("aria-pressed", String(button.dataset.draw === drawing));
    root.querySelector("[data-close]").disabled = !current();
    root.querySelector("[data-undo]").disabled = !past.length;
    said.textContent = drawing ? `${words[drawing]}: ${current()?.corners.length ?? 0} ${words.corners.toLowerCase()}` : "";
    list();
    document.getElementById("toml").value = toml();
  }

  function list() {
    const place = document.getElementById("shapes");
    const focused = document.activeElement?.dataset?.field;
    place.replaceChildren();
    for (const [n, shape] of shapes.entries()) {
      if (shape.open) continue;
      const set = make("fieldset", {}, place);
      make("legend", {}, set, words[shape.kind]);
      const name = make("label", {}, set, `${words.name} `);
      const input = make("input", { value: shape.name, "data-field": `${n} name` }, name);
      input.addEventListener("change", () => change(() => (shape.name = input.value.trim() || shape.name)));
      if (shape.kind === "line") {
        const door = make("label", { class: "check" }, set);
        const box = make("input", { type: "checkbox", "data-field": `${n} door` }, door);
        box.checked = shape.door;
        door.append(` ${words.door}`);
        box.addEventListener("change", () => change(() => (shape.door = box.checked)));
      }
      const corners = make("div", { class: "corners" }, set);
      for (const [m, corner] of shape.corners.entries()) {
        for (const [axis, letter] of ["x", "y"].entries()) {
          const number = make("input", { type: "number", step: "0.005", min: "0", max: "1", value: corner[axis], "aria-label": `${shape.name}, ${m + 1}: ${letter}`, "data-field": `${n} ${m} ${axis}` }, corners);
          number.addEventListener("change", () => change(() => (corner[axis] = round(Number(number.value) || 0))));
        }
      }
      const row = make("p", {}, set);
      if (shape.kind === "line") make("button", { type: "button" }, row, words.swap).addEventListener("click", () => change(() => shape.corners.reverse()));
      make("button", { type: "button" }, row, words.delete).addEventListener("click", () => change(() => (shapes = shapes.filter((each) => each !== shape))));
    }
    if (focused) place.querySelector(`[data-field="${focused}"]`)?.focus();
  }

  function change(what) {
    remember();
    what();
    show();
  }

  const place = (event) => {
    const box = board.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  board.addEventListener("pointerdown", (event) => {
    const at = event.target.dataset?.at;
    if (!at || (drawing && at.endsWith(" 0"))) return;
    if (drawing) return;
    remember();
    held = at.split(" ").map(Number);
    board.setPointerCapture(event.pointerId);
  });
  board.addEventListener("pointermove", (event) => {
    if (!held) return;
    shapes[held[0]].corners[held[1]] = place(event).map(round);
    show();
  });
  board.addEventListener("pointerup", (event) => {
    if (held) {
      held = null;
      show();
    } else if (drawing) {
      pointer = place(event).map(round);
      add(...pointer);
    }
  });
  board.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 0.05 : 0.01;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (moves[event.key] && drawing) pointer = pointer.map((value, axis) => round(value + moves[event.key][axis]));
    else if (event.key === " " && drawing) add(...pointer);
    else if (event.key === "Enter") close();
    else if (event.key === "Escape") giveUp();
    else if (event.key === "Backspace" && current()) {
      remember();
      current().corners.pop();
      if (!current().corners.length) shapes = shapes.filter((shape) => shape !== current());
    } else return;
    event.preventDefault();
    show();
  });
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "z" && !/input|textarea/i.test(event.target.tagName)) {
      event.preventDefault();
      undo();
    }
  });
  for (const button of root.querySelectorAll("[data-draw]")) button.addEventListener("click", () => choose(button.dataset.draw));
  root.querySelector("[data-close]").addEventListener("click", close);
  root.querySelector("[data-undo]").addEventListener("click", undo);
  const copy = root.querySelector("[data-copy-button]");
  copy.addEventListener("click", async () => {
    const text = document.getElementById("toml");
    text.select();
    try {
      await navigator.clipboard.writeText(text.value);
    } catch {
      document.execCommand("copy");
    }
    copy.textContent = root.dataset.copied;
    setTimeout(() => (copy.textContent = root.dataset.copy), 1500);
  });
  show();
})();
