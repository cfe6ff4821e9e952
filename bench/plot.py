"""Charts as SVG, with colours for light and dark mode."""

import itertools
import math
from html import escape
from statistics import median

STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #374151 } .small { font-size: 11px; fill: #6b7280 }
.title { font-size: 15px; font-weight: 600; fill: #111827 } .grid { stroke: #d1d5db } .end { text-anchor: end } .mid { text-anchor: middle }
@media (prefers-color-scheme: dark) { text { fill: #d1d5db } .small { fill: #9ca3af } .title { fill: #f3f4f6 } .grid { stroke: #374151 } }
</style>"""
# Distinguishable with red-green colour blindness, on white and on black.
COLOURS = {"Rollcall": "#d97706", "PostgreSQL": "#3b82f6", "SQLite": "#0d9488", "DuckDB": "#a855f7"}


def colour(label: str) -> str:
    return next(shade for name, shade in COLOURS.items() if label.startswith(name))


def milliseconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ticks(low: float, high: float) -> list[float]:
    """The powers of ten around the values."""
    return [10.0**n for n in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def svg(width: int, height: int, title: str, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
    named = f"<title>{escape(title)}</title>"
    return "\n".join(
        [head, named, STYLE, f'<text class="title" x="16" y="26">{escape(title)}</text>', *parts, "</svg>\n"]
    )


def engines(title: str, groups: dict[str, dict[str, list[list[float]]]]) -> str:
    """A chart of groups of rows: for each period a dot at the median, and a line from the fastest to the slowest round."""
    values = [value for rows in groups.values() for periods in rows.values() for times in periods for value in times]
    scale = ticks(min(values), max(values))
    left, right, width = 160, 170, 860
    low, high = math.log10(scale[0]), math.log10(scale[-1])

    def x(value: float) -> float:
        return left + (math.log10(value) - low) / (high - low) * (width - left - right)

    y, parts, rows_of = 56, [], []
    for heading, rows in groups.items():
        rows_of.append(f'<text class="small" x="16" y="{y + 4}">{escape(heading)}</text>')
        y += 26
        for label, periods in rows.items():
            shade = colour(label)
            rows_of.append(f'<text class="end" x="{left - 16}" y="{y + 4}">{escape(label)}</text>')
            for n, times in enumerate(periods):
                at, line = x(median(times)), y + (n - (len(periods) - 1) / 2) * 7
                rows_of.append(
                    f'<line x1="{x(min(times)):.1f}" x2="{x(max(times)):.1f}" y1="{line}" y2="{line}" stroke="{shade}" stroke-opacity=".5" stroke-width="2"/>'
                )
                rows_of.append(f'<circle cx="{at:.1f}" cy="{line}" r="3.5" fill="{shade}"/>')
            said = " / ".join(milliseconds(median(times)) for times in periods)
            rows_of.append(f'<text class="end" x="{width - 12}" y="{y + 4}">{said}</text>')
            y += 34
        y += 8
    for tick in scale:
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="44" y2="{y}"/>')
        parts.append(f'<text class="small mid" x="{x(tick):.1f}" y="{y + 18}">{tick:g} ms</text>')
    parts += rows_of
    note = "Dots from above: medians by DAY, WEEK, MONTH, as the numbers at the right; lines: fastest to slowest round"
    parts.append(f'<text class="small" x="16" y="{y + 42}">{note}</text>')
    return svg(width, y + 56, title, parts)


def growth(title: str, caption: str, lines: dict[str, list[tuple[int, list[float]]]]) -> str:
    """A line chart: for each label, times by number."""
    shades = dict(zip(lines, itertools.cycle(COLOURS.values())))
    points = [(visits, median(times)) for line in lines.values() for visits, times in line]
    left, right, top, bottom, width, height = 70, 230, 50, 64, 860, 440
    across = ticks(min(v for v, _ in points), max(v for v, _ in points))
    up = ticks(min(t for _, t in points), max(t for _, t in points))

    def scaled(value: float, scale: list[float], start: float, end: float) -> float:
        low, high = math.log10(scale[0]), math.log10(scale[-1])
        return start + (math.log10(value) - low) / (high - low) * (end - start)

    def x(visits: float) -> float:
        return scaled(visits, across, left, width - right)

    def y(time: float) -> float:
        return scaled(time, up, height - bottom, top)

    parts = []
    for tick in across:
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{height - bottom}"/>')
        parts.append(f'<text class="small mid" x="{x(tick):.1f}" y="{height - bottom + 18}">{tick:,.0f}</text>')
    for tick in up:
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="small end" x="{left - 8}" y="{y(tick) + 4:.1f}">{tick:g} ms</text>')
    # Labels are at the ends of their lines, moved apart where two would overlap.
    below = -math.inf
    for label, line in sorted(lines.items(), key=lambda item: -median(item[1][-1][1])):
        shade = next((shade for name, shade in COLOURS.items() if label.startswith(name)), shades[label])
        path = " ".join(f"{x(visits):.1f},{y(median(times)):.1f}" for visits, times in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{shade}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(v):.1f}" cy="{y(median(t)):.1f}" r="3.5" fill="{shade}"/>' for v, t in line]
        end_x, end_y = x(line[-1][0]), y(median(line[-1][1]))
        below = max(end_y, below + 18)
        parts.append(
            f'<line x1="{end_x:.1f}" y1="{end_y:.1f}" x2="{width - right + 8}" y2="{below:.1f}" stroke="{shade}" stroke-opacity=".4"/>'
        )
        parts.append(f'<text x="{width - right + 12}" y="{below + 4:.1f}">{escape(label)}</text>')
    parts.append(
        f'<text class="small mid" x="{(left + width - right) / 2}" y="{height - 20}">{escape(caption)}</text>'
    )
    return svg(width, height, title, parts)
