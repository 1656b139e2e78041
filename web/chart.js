/** Charts of a value a day, drawn by uPlot. */

import uPlot from "./vendor/uplot.js";
import { clock, html, useEffect, useRef, useState } from "./app.js";

document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: "vendor/uplot.css" }));

export const DAY_MS = 86_400_000;
const utc = (options) => new Intl.DateTimeFormat(undefined, { ...options, timeZone: "UTC" });
const DATE = utc({ weekday: "short", day: "numeric", month: "short" });
const DATE_OF_YEAR = utc({ weekday: "short", day: "numeric", month: "short", year: "numeric" });
export const WEEKDAY = utc({ weekday: "long" });
/** A day in words, with its year if that is another one. */
export const dateOf = (date) =>
  (date.getUTCFullYear() === new Date().getUTCFullYear() ? DATE : DATE_OF_YEAR).format(date);
const NUMBER = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
export const number = (value) => NUMBER.format(value);

/** Bars on top of each other, or lines. The values under the pointer are shown beside it. */
export function Chart({ title, days, series, format = number, stacked = false, whole = false }) {
  const area = useRef();
  const [at, setAt] = useState(null);
  useEffect(() => {
    const draw = () => {
      area.current.replaceChildren();
      return new uPlot(
        options(area.current, series, format, stacked, steps(format, whole), setAt),
        heights(days, series, stacked),
        area.current,
      );
    };
    let plot = draw();
    const again = () => {
      plot.destroy();
      plot = draw();
    };
    const sizes = new ResizeObserver(() => plot.setSize({ width: area.current.clientWidth, height: 200 }));
    sizes.observe(area.current);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", again);
    return () => {
      sizes.disconnect();
      dark.removeEventListener("change", again);
      plot.destroy();
    };
  }, [days, series.map((each) => [each.label, ...each.values]).join()]);
  return html`<figure class="chart">
    <figcaption>
      <h3>${title}</h3>
      <span class="legend">${series.map((each) => html`<span><${Swatch} ...${each} /></span>`)}</span>
    </figcaption>
    <div class="area" ref=${area} aria-hidden="true"></div>
    ${at && html`<${Tip} at=${at} day=${days[at.index]} series=${series} format=${format} />`}
  </figure>`;
}

const Swatch = ({ label, color }) => html`<i class=${`swatch ${color}`}></i>${label}`;

function Tip({ at, day, series, format }) {
  const place = useRef();
  useEffect(() => void Object.assign(place.current.style, { left: "", right: "", ...at.style }), [at]);
  const value = ({ values }) => (values[at.index] === null ? "–" : format(values[at.index]));
  return html`<div class="tip" ref=${place}>
    <strong>${dateOf(new Date(day))}</strong>
    <table>
      ${series.map((each) => html`<tr><td><${Swatch} ...${each} /></td><td class="num">${value(each)}</td></tr>`)}
    </table>
  </div>`;
}

/** What is drawn: stacked bars stand on those after them, so that each is drawn as high as it and they are together. */
function heights(days, series, stacked) {
  const times = days.map((each) => Date.parse(each) / 1000);
  if (!stacked) return [times, ...series.map(({ values }) => values)];
  return [
    times,
    ...series.map((_, place) =>
      days.map((_, index) => series.slice(place).reduce((total, { values }) => total + values[index], 0)),
    ),
  ];
}

/** The steps between the lines of an axis; undefined leaves them to uPlot. */
function steps(format, whole) {
  if (format === clock) return [10, 30, 60, 120, 300, 600, 1200, 1800, 3600];
  return whole ? [1, 10, 100, 1000, 10_000, 100_000].flatMap((ten) => [ten, 2 * ten, 5 * ten]) : undefined;
}

function options(element, series, format, stacked, incrs, setAt) {
  const style = getComputedStyle(element);
  const color = (name) => paint(style, `--${name}`);
  const font = `12px ${style.fontFamily}`;
  const axis = { stroke: color("muted"), font, grid: { stroke: color("line"), width: 1 }, ticks: { show: false } };
  return {
    width: element.clientWidth,
    height: 200,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { show: !stacked } },
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
    scales: {
      x: { range: (_, low, high) => [low - DAY_MS / 2000, high + DAY_MS / 2000] },
      y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] },
    },
    axes: [
      {
        ...axis,
        grid: { show: false },
        size: 28,
        space: 64,
        incrs: DAYS,
        values: (_, ticks) => ticks.map(dayAndMonth),
      },
      { ...axis, size: 52, space: 36, incrs, values: (_, ticks) => ticks.map(format) },
    ],
    series: [{}, ...series.map((each) => drawn(color(each.color), stacked))],
    hooks: { setCursor: [(plot) => setAt(under(plot, element.clientWidth))] },
  };
}

const drawn = (color, stacked) =>
  stacked
    ? { stroke: color, fill: color, width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.72, 28] }) }
    : { stroke: color, width: 1.5, spanGaps: true, points: { show: true, size: 5, fill: color } };

/** What is under the pointer, and on which side of it there is room. */
function under({ cursor, bbox }, width) {
  const { idx: index, left } = cursor;
  if (index === null || index === undefined || left < 0) return null;
  const x = left + bbox.left / devicePixelRatio;
  return { index, style: x > width / 2 ? { right: `${width - x + 12}px` } : { left: `${x + 12}px` } };
}

const DAYS = [1, 2, 3, 7, 14, 28, 56].map((days) => (days * DAY_MS) / 1000);
const SHORT = utc({ day: "numeric", month: "short" });
const dayAndMonth = (seconds) => SHORT.format(new Date(seconds * 1000));

/** A colour of the style sheet as a canvas takes it: light-dark() is resolved only where a colour is applied. */
function paint(style, name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color || style.color;
}
