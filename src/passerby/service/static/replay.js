// Plays back the paths of a quarter of an hour: a dot a track, a flash a crossing, and the counts up to then.
"use strict";
(() => {
  const root = document.getElementById("replay");
  if (!root) return;
  const { seconds, lines, trails } = JSON.parse(root.dataset.replay);
  const words = JSON.parse(root.dataset.words);
  const heads = document.getElementById("heads");
  const [play, speed, seek, clock, counts] = ["play", "speed", "at", "clock", "counts"].map((name) => root.querySelector(`[data-${name}]`));
  const format = new Intl.DateTimeFormat("en-GB", { timeZone: root.dataset.zone, hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const FLASH_S = 1.5;
  let at = 0; // seconds from the beginning
  let running = 0; // the frame that is asked for
  let before = 0;

  const make = (name, attributes, text) => {
    const one = document.createElementNS(heads.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
    if (text != null) one.textContent = text;
    heads.append(one);
  };

  function place(points) {
    const next = points.findIndex((point) => point[0] >= at);
    if (next < 0) return points.at(-1).slice(1);
    if (next === 0) return points[0].slice(1);
    const [[s, x, y], [t, u, v]] = [points[next - 1], points[next]];
    const share = (at - s) / (t - s || 1);
    return [x + share * (u - x), y + share * (v - y)];
  }

  function show() {
    heads.replaceChildren();
    for (const trail of trails) {
      const there = trail.start_s <= at && at <= trail.end_s && trail.points.length;
      document.querySelector(`[data-trail="${trail.number}"]`).classList.toggle("now", Boolean(there));
      if (!there) continue;
      const [cx, cy] = place(trail.points);
      const crosses = trail.crossings.some(([second]) => Math.abs(at - second) < FLASH_S / 2);
      make("circle", { cx, cy, r: crosses ? 30 : 16, class: `head ${trail.verdict}${crosses ? " crosses" : ""}` });
      make("text", { x: cx + 24, y: cy - 16 }, trail.number);
    }
    const passed = trails.flatMap((trail) => trail.crossings.filter(([second]) => second <= at));
    counts.textContent = lines
      .map((line) => {
        const of = (inwards) => passed.filter((each) => each[1] === line && each[2] === inwards).length;
        return `${line}: ${of(true)} ${words.in}, ${of(false)} ${words.out}`;
      })
      .join("; ");
    clock.textContent = format.format(new Date((Number(root.dataset.start) + at) * 1000));
    seek.value = at;
  }

  // a stretch in which nobody was seen is skipped
  const next = (from) => Math.min(...trails.filter((trail) => trail.end_s >= from).map((trail) => Math.max(from, trail.start_s)), seconds);

  function step(now) {
    at = next(at + ((now - before) / 1000) * Number(speed.value));
    before = now;
    show();
    if (at < seconds) running = requestAnimationFrame(step);
    else stop();
  }

  function stop() {
    cancelAnimationFrame(running);
    running = 0;
    play.textContent = words.play;
  }

  function start() {
    if (at >= seconds) at = 0;
    play.textContent = words.pause;
    before = performance.now();
    running = requestAnimationFrame(step);
  }

  play.addEventListener("click", () => (running ? stop() : start()));
  seek.addEventListener("input", () => {
    stop();
    at = Number(seek.value);
    show();
  });
  for (const button of document.querySelectorAll("[data-go]")) {
    button.addEventListener("click", () => {
      stop();
      at = Math.max(0, Number(button.dataset.go));
      for (const line of document.querySelectorAll("[data-trail]")) line.classList.toggle("chosen", line.dataset.trail === button.dataset.of);
      show();
      root.scrollIntoView({ block: "start" });
      start();
    });
  }
  show();
})();
