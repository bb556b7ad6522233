// The page's own script: draws charts from the data that the server wrote beside them, and says when the stream is lost.
"use strict";
(() => {
  document.documentElement.classList.add("js");
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const faded = (colour, share) => `color-mix(in srgb, ${colour} ${share}%, transparent)`;
  const drawn = new Map(); // figures and their plots

  // not `scrollIntoView`, after which the Tab key would begin there
  const here = document.querySelector("nav [aria-current]");
  if (here) {
    const screens = here.closest("nav");
    const [one, all] = [here.getBoundingClientRect(), screens.getBoundingClientRect()];
    screens.scrollLeft += one.left + one.width / 2 - all.left - all.width / 2;
  }

  // Charts over time

  function wall(zone, options) {
    const format = new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options });
    return (second) => format.format(new Date(second * 1000));
  }

  function shade(chart) {
    const clock = chart.end - chart.x[0] <= 9 * 86400;
    return (plot) => {
      let gaps = 0;
      const { ctx, bbox } = plot;
      ctx.save();
      for (const region of chart.regions) {
        const from = Math.max(bbox.left, plot.valToPos(region.start, "x", true));
        const to = Math.min(bbox.left + bbox.width, plot.valToPos(region.end, "x", true));
        if (to - from < 0.5) continue;
        ctx.fillStyle = region.kind === "gap" ? style("gap") : style("closed");
        ctx.fillRect(from, bbox.top, to - from, bbox.height);
        if (region.kind === "gap" || region.kind === "unfinished") {
          ctx.strokeStyle = region.kind === "gap" ? style("alarm") : style("before");
          ctx.globalAlpha = 0.45;
          ctx.lineWidth = devicePixelRatio;
          ctx.beginPath();
          ctx.rect(from, bbox.top, to - from, bbox.height);
          ctx.clip();
          for (let x = from - bbox.height; x < to; x += 7 * devicePixelRatio) {
            ctx.moveTo(x, bbox.top + bbox.height);
            ctx.lineTo(x + bbox.height, bbox.top);
          }
          ctx.stroke();
          ctx.restore();
          ctx.save();
        }
        ctx.fillStyle = region.kind === "gap" ? style("alarm") : style("soft");
        ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
        ctx.textBaseline = "top";
        const room = region.kind === "closed" && !clock ? 0 : to - from - 8 * devicePixelRatio;
        const wide = ctx.measureText(region.label).width;
        if (region.kind === "gap") {
          // beside it where it is narrow, one below the other
          const x = to + wide + 6 * devicePixelRatio < bbox.left + bbox.width ? (wide <= room ? from : to) + 4 * devicePixelRatio : from - wide - 4 * devicePixelRatio;
          ctx.fillText(region.label, x, bbox.top + (3 + 14 * gaps++) * devicePixelRatio);
        } else if (wide <= room) {
          ctx.fillText(region.label, from + 4 * devicePixelRatio, bbox.top + 3 * devicePixelRatio);
        }
      }
      ctx.restore();
    };
  }

  function draw(figure) {
    const chart = JSON.parse(figure.dataset.chart);
    const box = figure.querySelector(".plot");
    drawn.get(figure)?.destroy();
    const stroke = { first: style("first"), second: style("second"), third: style("third"), before: style("before"), usual: style("before") };
    // a step is drawn from where it begins to just before where it ends, and joined to the next one only where both are known
    const ends = [...chart.x.slice(1), chart.end];
    const x = chart.x.flatMap((start, n) => [start, ends[n] - 1]);
    const whole = (values) => values.flatMap((value) => [value, value]);
    const data = [x];
    const day = wall(chart.time_zone, { weekday: "short", day: "numeric", month: "short" });
    const minute = wall(chart.time_zone, { hour: "2-digit", minute: "2-digit" });
    const days = chart.x.length > 1 && chart.x[1] - chart.x[0] > 80000;
    const series = [{ label: "\u00a0", value: (plot, second) => (second == null ? "" : days ? day(second) : `${day(second)} ${minute(second)}`) }];
    const bands = [];
    const paths = uPlot.paths.linear();
    for (const line of chart.lines) {
      const colour = stroke[line.role];
      const quiet = line.role === "before" || line.role === "usual";
      if (line.low) {
        data.push(whole(line.high), whole(line.low));
        const edge = { stroke: "transparent", paths, points: { show: false }, class: "band" };
        series.push({ ...edge, label: `${line.name}, high` }, { ...edge, label: `${line.name}, low` });
        bands.push({ series: [series.length - 2, series.length - 1], fill: faded(colour, 22) });
      }
      data.push(whole(line.values));
      series.push({
        label: line.name,
        stroke: colour,
        width: quiet ? 1.5 : 2,
        dash: quiet ? [5, 4] : undefined,
        fill: line.role === "first" && !line.low ? faded(colour, 10) : undefined,
        paths,
        spanGaps: false,
        points: { show: false },
        value: (plot, value) => (value == null ? "" : timed ? lasted(value) : Number.isInteger(value) ? value : value.toFixed(1)),
      });
    }
    const timed = chart.kind === "seconds";
    const lasted = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.round(seconds % 60)).padStart(2, "0")}`;
    const middles = chart.x.map((start, n) => (start + ends[n]) / 2);
    const every = Math.ceil(middles.length / Math.max(1, Math.floor((box.clientWidth - 80) / 84)));
    const most = Math.max(1, ...data.slice(1).flat().filter((value) => value != null));
    const axis = { stroke: style("soft"), grid: { stroke: style("line"), width: 1 }, ticks: { stroke: style("line"), width: 1, size: 4 }, font: "12px system-ui, sans-serif" };
    const plot = new uPlot(
      {
        width: box.clientWidth,
        height: box.clientWidth < 500 ? 220 : 260,
        tzDate: (second) => uPlot.tzDate(new Date(second * 1000), chart.time_zone),
        scales: { x: { range: [chart.x[0], chart.end] }, y: { range: [0, most * 1.12] } },
        axes: [
          days
            ? { ...axis, grid: { show: false }, ticks: { show: false }, size: 32, splits: middles.filter((_, n) => n % every === 0), values: (self, ticks) => ticks.map(day) }
            : { ...axis, grid: { show: false }, size: 32, space: 64, values: (self, ticks) => ticks.map((tick) => (minute(tick) === "00:00" ? day(tick) : minute(tick))) },
          {
            ...axis,
            size: 44,
            incrs: timed ? [15, 30, 60, 120, 300, 600, 1800, 3600] : undefined,
            values: (self, ticks) => ticks.map((tick) => (timed ? lasted(tick) : Number.isInteger(tick) ? tick.toLocaleString("en-GB") : "")),
          },
        ],
        padding: [8, 34, 0, 0],
        cursor: { y: false, points: { size: 7 } },
        legend: { live: true },
        series,
        bands,
        hooks: { drawClear: [shade(chart)] },
      },
      data,
      box,
    );
    for (const [n, one] of series.entries()) if (one.class === "band") plot.root.querySelectorAll(".u-series")[n].hidden = true;
    drawn.set(figure, plot);
  }

  function drawAll(root) {
    for (const figure of root.querySelectorAll("[data-chart]")) draw(figure);
  }

  // Ways, drawn by ECharts, which is loaded only where there is such a diagram

  function ways(box) {
    const said = JSON.parse(box.dataset.sankey);
    const places = [...new Set(said.nodes.map((node) => node[1]))];
    const colours = [style("first"), style("second"), style("third"), style("violet"), style("sand"), style("sky")];
    const quiet = (place) => place === said.nodes.find((node) => node[0].endsWith(` ${place}`))?.[1] && box.dataset.quiet?.split("|").includes(place);
    const colour = (place) => (quiet(place) ? style("strong") : colours[places.indexOf(place) % colours.length]);
    const steps = Math.max(...said.nodes.map((node) => node[2]));
    const text = { color: style("ink"), fontFamily: "system-ui, sans-serif", fontSize: 12 };
    const through = {};
    for (const flow of said.flows) {
      (through[flow.source] ??= [0, 0])[0] += flow.value;
      (through[flow.target] ??= [0, 0])[1] += flow.value;
    }
    const chart = (box.chart ??= window.echarts.init(box, null, { renderer: "canvas" }));
    const narrow = box.clientWidth < 560;
    chart.setOption({
      animation: false,
      tooltip: {
        renderMode: "richText",
        backgroundColor: style("ground"),
        borderColor: style("strong"),
        textStyle: text,
        formatter: ({ dataType, data, name }) => (dataType === "edge" ? `${data.source.slice(2)} \u2192 ${data.target.slice(2)}: ${data.value}` : `${name.slice(2)}: ${Math.max(...through[name])}`),
      },
      series: [
        {
          type: "sankey",
          orient: narrow ? "vertical" : "horizontal",
          left: narrow ? 6 : 4,
          right: narrow ? 24 : 90,
          top: narrow ? 24 : 8,
          bottom: narrow ? 40 : 8,
          nodeWidth: 12,
          nodeGap: 14,
          layoutIterations: 32,
          draggable: false,
          emphasis: { focus: "adjacency" },
          label: { ...text, fontSize: narrow ? 10 : 12, position: narrow ? "bottom" : "right", formatter: ({ name }) => (narrow ? name.slice(2) : `${name.slice(2)}  ${Math.max(...through[name]).toLocaleString("en-GB")}`) },
          data: said.nodes.map(([name, place, step]) => ({ name, depth: Math.min(step, steps), itemStyle: { color: colour(place), borderWidth: 0 } })),
          links: said.flows,
          lineStyle: { color: "source", opacity: 0.28, curveness: 0.5 },
        },
      ],
    });
    chart.resize();
  }

  function drawWays() {
    const boxes = [...document.querySelectorAll("[data-sankey]")];
    if (!boxes.length) return;
    if (window.echarts) return boxes.forEach(ways);
    const script = document.createElement("script");
    script.src = boxes[0].dataset.library;
    script.nonce = document.querySelector("script[nonce]").nonce;
    script.addEventListener("load", () => boxes.forEach(ways));
    document.head.append(script);
  }

  // The stream of "Now"

  let last = "";
  const live = document.getElementById("now");
  document.addEventListener("htmx:sse:after:message", () => {
    last = document.getElementById("at")?.textContent ?? last;
    document.getElementById("lost")?.setAttribute("hidden", "");
    pictures();
  });
  function lost() {
    const notice = document.getElementById("lost");
    if (!notice) return;
    notice.textContent = notice.dataset.text.replace("{time}", last || document.getElementById("at")?.textContent || "");
    notice.removeAttribute("hidden");
  }
  for (const name of ["htmx:sse:error", "htmx:sse:close"]) document.addEventListener(name, lost);
  // what stands here is better than an answer that says why there is none
  document.addEventListener("htmx:before:response", (event) => {
    if (event.detail.ctx.response.status >= 400) event.preventDefault();
  });
  // the extension connects again whenever a stream breaks off, but not where the first one never came
  live?.addEventListener("htmx:finally:request", (event) => {
    if (event.target !== live || live._htmx?.sse) return;
    lost();
    setTimeout(() => htmx.ajax("GET", live.getAttribute("hx-sse:connect"), { source: live }), 2000);
  });

  // The cameras' newest pictures, each drawn into its canvas and let go

  async function picture(canvas) {
    if (canvas.busy || canvas.shown === canvas.dataset.at) return;
    canvas.busy = true;
    try {
      const at = canvas.dataset.at;
      const answer = await fetch(canvas.dataset.picture, { cache: "no-store" });
      if (answer.ok) {
        const bitmap = await createImageBitmap(await answer.blob());
        const scale = Math.max(canvas.width / bitmap.width, canvas.height / bitmap.height); // all of the canvas is covered
        const [wide, high] = [bitmap.width * scale, bitmap.height * scale];
        canvas.getContext("2d").drawImage(bitmap, (canvas.width - wide) / 2, (canvas.height - high) / 2, wide, high);
        bitmap.close();
        canvas.shown = at;
      }
    } catch {
      // the stream says that the service is gone
    } finally {
      canvas.busy = false;
    }
  }
  const pictures = () => document.querySelectorAll("[data-picture]").forEach(picture);

  // What takes a moment is seen to be on its way

  const leaving = () => {
    document.getElementById("main").setAttribute("aria-busy", "true");
  };
  document.addEventListener("submit", leaving);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    if (link && !link.hasAttribute("download") && link.origin === location.origin && !link.hash && !event.ctrlKey && !event.metaKey && !event.shiftKey) leaving();
  });
  addEventListener("pageshow", () => document.getElementById("main").removeAttribute("aria-busy"));

  document.addEventListener("htmx:after:swap", () => {
    for (const [figure, plot] of drawn) {
      if (figure.isConnected) continue;
      plot.destroy(); // else uPlot keeps it, with all that it has drawn
      drawn.delete(figure);
    }
    for (const figure of document.querySelectorAll("[data-chart]")) if (!drawn.has(figure)) draw(figure);
  });
  let waiting = 0;
  const redraw = () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      drawAll(document);
      drawWays();
    }, 120);
  };
  addEventListener("resize", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  drawAll(document);
  drawWays();
  pictures();
})();
