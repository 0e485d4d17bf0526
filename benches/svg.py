"""Line charts as SVG text, for results that are shown in a document."""

from __future__ import annotations

from math import ceil, floor, log10
from xml.sax.saxutils import escape

Points = list[tuple[float, float]]

_WIDTH, _HEIGHT = 720, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 110, 34, 44
# Readable for the colour-blind, on white and on black.
_COLOURS = ("#d55e00", "#b08900", "#0072b2", "#009e73", "#cc79a7", "#56b4e9")
_STEPS = 5


def line_chart(title: str, x_label: str, y_label: str, lines: dict[str, Points], *, log: bool = False) -> str:
    """One chart; with log=True the y axis is logarithmic and its values must be positive."""
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1e-9)
    ticks = _log_ticks(min(ys), max(ys)) if log else _ticks(max(ys))
    y_low, y_high = ticks[0], ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        share = (log10(y / y_low) / log10(y_high / y_low)) if log else (y - y_low) / (y_high - y_low)
        across = (x - x_low) / (x_high - x_low)
        return (
            _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif"'
        f' font-size="12"><rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        _text(_LEFT, 20, title, size=14),
        _text(_LEFT, _HEIGHT - 8, x_label),
        _text(8, _TOP - 6, y_label, size=11),
    ]
    for tick in ticks:
        _, y = place(x_low, tick)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{tick:,.6g}", anchor="end"))
    for step in range(_STEPS + 1):
        x_value = x_low + (x_high - x_low) * step / _STEPS
        x, _ = place(x_value, y_low)
        parts.append(_text(x, _HEIGHT - _BOTTOM + 16, f"{x_value:.3g}", anchor="middle"))
    lowest = _TOP - 20.0
    ends = sorted((place(*points[-1])[1], name) for name, points in lines.items())
    for y, name in ends:
        colour = _COLOURS[list(lines).index(name) % len(_COLOURS)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (place(*point) for point in lines[name]))
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        # Names that would lie on each other move apart.
        lowest = max(y + 4, lowest + 15)
        parts.append(_text(_WIDTH - _RIGHT + 6, lowest, name, colour=colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(
    x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", colour: str = "#333"
) -> str:
    at = f'x="{x:.1f}" y="{y:.1f}"'
    return f'<text {at} font-size="{size}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


def _ticks(highest: float) -> list[float]:
    """Round values from 0 to above the highest."""
    rough = max(highest, 1e-9) / _STEPS
    unit = 10 ** floor(log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough)
    return [step * number for number in range(ceil(highest / step) + 1)] if highest > 0 else [0, 1]


def _log_ticks(lowest: float, highest: float) -> list[float]:
    first, last = floor(log10(lowest)), ceil(log10(highest))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]
