// A plot over time as SVG: lines, a grid, and the values under the pointer.

import { el } from "./ui.js";

const HEIGHT = 150;
const LEFT = 46;
const BOTTOM = 20;
const TOP = 8;

function svg(tag, props, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(props)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** A round number at or above `value`, and the step, `least` or more, of three or so lines up to it. */
function scale(value, least) {
  if (!(value > 0)) return { top: 1, step: Math.max(0.5, least) };
  const rough = Math.max(value / 3, least);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough);
  return { top: Math.ceil(value / step - 1e-9) * step, step };
}

/** A plot with a title. `format` writes a value, `least` is the least distance of two lines of the grid. `update(series, span)` draws `[{name, points: [[time, value]]}]`. */
export function plot(title, format, least = 0) {
  const drawing = svg("svg", { class: "plot", role: "img" });
  const legend = el("ul", { class: "legend" });
  const root = el("figure", { class: "card" }, el("figcaption", {}, el("h2", { text: title }), legend), drawing);
  let series = [];
  let span = 60_000;
  let pointer;

  function values(at) {
    return series.map(({ points }) => {
      if (at === undefined) return points.at(-1)?.[1];
      return points.reduce((best, point) => (best && Math.abs(best[0] - at) <= Math.abs(point[0] - at) ? best : point), undefined)?.[1];
    });
  }

  function draw() {
    const width = Math.max(drawing.clientWidth, 160);
    const end = Math.max(...series.flatMap(({ points }) => points.map(([time]) => time)), 0) || Date.now();
    const { top, step } = scale(Math.max(...series.flatMap(({ points }) => points.map(([, value]) => value ?? 0)), 0), least);
    const x = (time) => LEFT + ((time - end + span) / span) * (width - LEFT - 6);
    const y = (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
    drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const parts = [];
    for (let value = 0; value <= top + step / 2; value += step) {
      parts.push(svg("line", { class: "grid", x1: LEFT, x2: width - 6, y1: y(value), y2: y(value) }),
        svg("text", { class: "axis", x: LEFT - 7, y: y(value) + 3.5, "text-anchor": "end" }, format(value)));
    }
    for (const [share, anchor] of [[0, "start"], [0.5, "middle"], [1, "end"]]) {
      const seconds = Math.round((span / 1000) * (1 - share));
      const label = seconds === 0 ? "now" : seconds % 60 ? `${seconds} s ago` : `${seconds / 60} min ago`;
      parts.push(svg("text", { class: "axis", x: x(end - span * (1 - share)), y: HEIGHT - 5, "text-anchor": anchor }, label));
    }
    series.forEach(({ points }, index) => {
      let path = "";
      let gap = true;
      for (const [time, value] of points) {
        if (value === undefined || time < end - span) gap = true;
        else {
          path += `${gap ? "M" : "L"}${x(time).toFixed(1)} ${y(value).toFixed(1)}`;
          gap = false;
        }
      }
      parts.push(svg("path", { class: `line series-${index}`, d: path || "M0 0" }));
    });
    const at = pointer === undefined ? undefined : end - span + ((pointer - LEFT) / (width - LEFT - 6)) * span;
    if (at !== undefined) parts.push(svg("line", { class: "cursor", x1: pointer, x2: pointer, y1: TOP, y2: HEIGHT - BOTTOM }));
    drawing.replaceChildren(...parts);
    const shown = values(at).map((value) => (value === undefined ? "–" : format(value)));
    legend.replaceChildren(...series.map(({ name }, index) => el("li", { class: `series-${index}` }, name, " ", el("b", { text: shown[index] }))));
    drawing.setAttribute("aria-label", `${title}: ${series.map(({ name }, index) => `${name} ${shown[index]}`).join(", ")}`);
  }

  drawing.addEventListener("pointermove", (event) => {
    const offset = event.clientX - drawing.getBoundingClientRect().left;
    pointer = offset > LEFT && offset < drawing.clientWidth - 6 ? offset : undefined;
    draw();
  });
  drawing.addEventListener("pointerleave", () => { pointer = undefined; draw(); });
  new ResizeObserver(draw).observe(drawing);
  return { root, update(next, milliseconds) { series = next; span = milliseconds; draw(); } };
}
