"use strict";
// Draws the charts whose data the page has, and filters and sorts tables. All texts and numbers were made in Python.
(() => {
  document.documentElement.classList.add("has-script");
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const two = (number) => String(number).padStart(2, "0");
  const clock = (seconds) => {
    if (Math.abs(seconds) < 60) return `${+seconds.toFixed(2)} s`;
    const whole = Math.round(seconds), hours = Math.floor(whole / 3600);
    const rest = `${hours ? two(Math.floor(whole / 60) % 60) : Math.floor(whole / 60)}:${two(whole % 60)}`;
    return hours ? `${hours}:${rest}` : rest;
  };
  const short = (value) => value == null ? "–" : String(+value.toPrecision(6));

  function options(chart, width) {
    const axis = { stroke: style("--soft"), grid: { stroke: style("--grid"), width: 1 }, ticks: { stroke: style("--grid") }, font: "11px system-ui, sans-serif" };
    const place = (value) => Number.isInteger(value) ? chart.labels[value] ?? "" : "";
    const over = { time: (value) => value == null ? "–" : clock(value), number: short, place }[chart.axis];
    const isTime = chart.axis === "time";
    return {
      width, height: 230,
      scales: {
        x: { time: false, range: isTime ? undefined : (u, low, high) => [low - (high - low) * 0.05, high + (high - low) * 0.05] },
        y: { range: (u, low, high) => chart.is_percent ? [0, 100] : [Math.min(0, low ?? 0), (high ?? 0) > 0 ? high * 1.08 : 1] },
      },
      legend: { markers: { width: 2 } },
      cursor: { points: { size: 7 }, drag: { x: true, y: false } },
      axes: [
        { ...axis, values: (u, splits) => splits.map(over), splits: chart.axis === "place" ? () => chart.x : undefined },
        { ...axis, size: 56, values: (u, splits) => splits.map(short) },
      ],
      series: [
        { label: chart.over, value: (u, value) => over(value) },
        ...chart.lines.map((line) => {
          const stroke = style(line.colour < 0 ? "--many" : `--c${line.colour}`);
          const isMean = line.colour === 0 && chart.lines.length > 8;
          return { label: line.name, stroke, width: isMean ? 3 : 1.75, spanGaps: true, points: { show: !isTime || line.y.filter((value) => value != null).length === 1, size: 7, fill: stroke }, value: (u, value) => value == null ? "–" : short(value) + (chart.unit ? ` ${chart.unit}` : "") };
        }),
      ],
    };
  }

  const source = document.getElementById("charts");
  const drawn = new Map();
  function draw(chart) {
    const place = document.getElementById(chart.id);
    drawn.get(chart.id)?.destroy();
    const plot = new uPlot(options(chart, Math.max(280, place.clientWidth)), [chart.x, ...chart.lines.map((line) => line.y)], place);
    if (chart.lines.length > 9) plot.root.querySelector(".u-legend").hidden = true;
    drawn.set(chart.id, plot);
  }
  const charts = source ? JSON.parse(source.textContent) : [];
  for (const chart of charts) {
    draw(chart);
    document.getElementById(chart.id).addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, Escape: 0 }[event.key], plot = drawn.get(chart.id);
      if (step === undefined) return;
      event.preventDefault();
      if (!step) plot.setScale("x", { min: chart.x[0], max: chart.x.at(-1) });
      const at = Math.min(chart.x.length - 1, Math.max(0, (plot.cursor.idx ?? (step > 0 ? -1 : chart.x.length)) + step));
      plot.setCursor({ left: plot.valToPos(chart.x[at], "x"), top: 20 });
    });
  }
  const again = () => charts.forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  let waiting = 0;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(again, 150); });

  function unfold() {  // the rest of a table of tasks is laid out when it is needed
    for (const rest of document.querySelectorAll(".rest")) {
      rest.parentElement.querySelector(".sortable").tBodies[0].append(...rest.querySelectorAll("tbody tr"));
      rest.remove();
    }
  }
  addEventListener("beforeprint", unfold);

  const filter = document.querySelector(".filter");
  if (filter) {
    const rows = [...document.querySelectorAll(".tasks tbody tr")], hits = document.querySelector(".hits");
    const texts = rows.map((row) => `${row.cells[0].textContent} ${row.cells[1].textContent} ${row.querySelector(".place").textContent}`.toLowerCase());
    filter.addEventListener("input", () => {
      unfold();
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      rows.forEach((row, at) => { row.hidden = !words.every((word) => texts[at].includes(word)); count += !row.hidden; });
      hits.textContent = words.length ? `${count} shown` : "";
    });
  }
  for (const table of document.querySelectorAll(".sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        unfold();
        const down = head.classList.contains("sorted") && !head.classList.contains("down");
        for (const other of table.tHead.rows[0].cells) { other.classList.remove("sorted", "down"); other.removeAttribute("aria-sort"); }
        head.classList.add("sorted"); head.classList.toggle("down", down);
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => { const cell = row.cells[column]; return cell.dataset.v ?? cell.textContent; };
        const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
        const isEmpty = (text) => text === "" || text === "–";
        rows.sort(([a], [b]) => isEmpty(a) - isEmpty(b) || (down ? -1 : 1) * (isNaN(a) || isNaN(b) ? a.localeCompare(b, undefined, { numeric: true }) : a - b));
        table.tBodies[0].append(...rows.map(([, row]) => row));
      });
    });
  }
})();
