"""Charts as SVG inside HTML. Shapes stretch with the page and labels do not; all text is escaped.

Colours are classes of the style sheet: c1, c2, c3, bad, rest.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

TICKS = 4  # lines of a scale at most
_STEPS = (1, 2, 2.5, 5, 10)
Format = Callable[[float], str]


@dataclass(frozen=True)
class Series:
    label: str
    colour: str
    values: Sequence[float]


def columns(
    labels: Sequence[str], series: Sequence[Series], shown: Sequence[str], format: Format,
    *, marked: Iterable[int] = (), top: float | None = None, title: str = "",
) -> Markup:  # fmt: skip
    """Stacked columns. `labels` say in full what each is, `shown` what stands below it; `marked` have a background."""
    highest = max((sum(each.values[at] for each in series) for at in range(len(labels))), default=0)
    ticks = scale(highest) if top is None else [0.0, top / 2, top]
    end = ticks[-1]
    shapes = [Markup('<rect class="mark" x="{}" y="0" width="10" height="100"/>').format(at * 10) for at in marked]
    shapes += [Markup('<line class="grid" x1="0" x2="{}" y1="{y}" y2="{y}"/>').format(
        len(labels) * 10, y=figure(100 - 100 * tick / end)) for tick in ticks]  # fmt: skip
    for at, label in enumerate(labels):
        base = 0.0
        for each in series:
            if each.values[at]:
                shapes.append(rectangle(each, at, base / end, each.values[at] / end, label, format))
            base += each.values[at]
    return figure_of(shapes, len(labels) * 10, ticks, end, shown, format, title)


def rectangle(series: Series, at: int, base: float, height: float, label: str, format: Format) -> Markup:
    return Markup('<rect class="{}" x="{}" y="{}" width="7" height="{}"><title>{}: {} {}</title></rect>').format(
        series.colour, figure(at * 10 + 1.5), figure(100 - 100 * (base + height)), figure(100 * height), label,
        format(series.values[at]), series.label,
    )  # fmt: skip


def figure_of(
    shapes: Iterable[Markup], width: int, ticks: Sequence[float], end: float, shown: Sequence[str], format: Format,
    title: str,
) -> Markup:  # fmt: skip
    """The shapes with a scale on the left and labels below."""
    marks = Markup("").join(
        Markup('<span style="bottom:{}%">{}</span>').format(figure(100 * tick / end), format(tick)) for tick in ticks
    )
    names = Markup("").join(
        Markup('<span style="left:{}%">{}</span>').format(figure(100 * (at + 0.5) / len(shown)), name)
        for at, name in enumerate(shown)
        if name
    )
    return Markup(
        '<div class="plot"><div class="scale" aria-hidden="true">{}</div><svg viewBox="0 0 {} 100" '
        'preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
        '<div class="names" aria-hidden="true">{}</div></div>'
    ).format(marks, width, title, Markup("").join(shapes), names)


def scale(highest: float) -> list[float]:
    """Round values from 0 up to the first that is not below the highest."""
    if highest <= 0:
        return [0, 1]
    power = 10 ** math.floor(math.log10(highest / TICKS))
    step = next(each * power for each in (*_STEPS, 20) if each * power * TICKS >= highest)
    if highest <= TICKS and float(highest).is_integer():
        step = 1
    return [step * each for each in range(math.ceil(round(highest / step, 9)) + 1)]


def line(values: Sequence[float | None], lowest: float, title: str) -> Markup:
    """A small line of shares from `lowest` to 100, with a dot at the last; None leaves a gap."""
    width, height, left = 104, 26, 3
    step = (width - 2 * left) / max(1, len(values) - 1)
    places = [
        None if value is None else (left + at * step, height - 3 - (height - 6) * (value - lowest) / (100 - lowest))
        for at, value in enumerate(values)
    ]
    pieces: list[list[tuple[float, float]]] = [[]]
    for place in places:
        pieces = [*pieces[:-1], [*pieces[-1], place]] if place else [*pieces, []]
    drawn = [Markup('<polyline points="{}"/>').format(" ".join(f"{figure(x)},{figure(y)}" for x, y in piece))
             for piece in pieces if len(piece) > 1]  # fmt: skip
    drawn += [Markup('<circle cx="{}" cy="{}" r="1.8"/>').format(figure(x), figure(y))
              for x, y in (piece[0] for piece in pieces if len(piece) == 1)]  # fmt: skip
    last = next((place for place in reversed(places) if place), None)
    if last:
        drawn.append(Markup('<circle class="last" cx="{}" cy="{}" r="2.5"/>').format(*map(figure, last)))
    return Markup(
        '<svg class="line" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{title}">'
        '<title>{title}</title><line class="grid" x1="0" x2="{w}" y1="{low}" y2="{low}"/>{}</svg>'
    ).format(Markup("").join(drawn), w=width, h=height, title=title, low=height - 0.5)


def bar(percent: float | None, colour: str = "c1") -> Markup:
    """A bar of 0 to 100 percent of its cell."""
    return Markup(
        '<svg class="bar" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" height="1"/><rect class="{}" width="{}" height="1"/></svg>'
    ).format(colour, figure(max(0.0, min(100.0, percent or 0))))


def heat(rows: Sequence[Sequence[int]], names: Sequence[str], label: Callable[[int, int], str]) -> Markup:
    """Cells that are the darker the higher their value. Labels of every third column stand below."""
    highest = max(map(max, rows)) or 1
    cells = [
        Markup(
            '<rect class="{}" x="{}" y="{}" width="9.2" height="8.8" style="--heat:{}"><title>{}</title></rect>'
        ).format("heat" if value else "cold", at * 10, row * 10, f"{value / highest:.2f}", label(row, at))
        for row, values in enumerate(rows)
        for at, value in enumerate(values)
    ]
    sides = Markup("").join(Markup("<span>{}</span>").format(name[:3]) for name in names)
    hours = Markup("").join(
        Markup('<span style="left:{}%">{}</span>').format(figure(100 * (at + 0.46) / 24), at) for at in range(0, 24, 3)
    )
    return Markup(
        '<div class="plot days"><div class="sides" aria-hidden="true">{}</div><svg viewBox="0 0 240 70" '
        'preserveAspectRatio="none" role="img" aria-label="Calls by weekday and hour">{}</svg>'
        '<div class="names" aria-hidden="true">{}</div></div>'
    ).format(sides, Markup("").join(cells), hours)


def figure(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
