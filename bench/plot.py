"""The picture of a benchmark: how fast the acquisition still is, and how fast frames travel."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import ImageDraw

from refocus.bench.rows import HookRow
from refocus.bench.transports import TransportRow
from refocus.optics.drawing import BLUE, GREY, INK, LINE, PAPER, RED, canvas, write

WIDTH, MARGIN, ROW, BAR, HEAD = 720, 28, 22, 14, 58
LABEL = 190  # width of what stands before a bar
COLOURS = {
    "none": (168, 176, 186),
    "refocus": RED,
    "callback": BLUE,
    "output": (118, 158, 96),
    "thread-per-frame": (150, 110, 168),
}


@dataclass(frozen=True)
class Bar:
    """One bar: its label, its length, what is written after it, its colour."""

    label: str
    length: float
    text: str
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class Chart:
    """Bars under a title, in groups; ``full`` is the length that fills the width."""

    title: str
    subtitle: str
    full: float
    groups: Sequence[tuple[str, Sequence[Bar]]]

    @property
    def height(self) -> int:
        """Pixels it takes."""
        return HEAD + sum(ROW * (len(bars) + 1) + 8 for _, bars in self.groups) + MARGIN


def save_plot(path: Path, hooks: Sequence[HookRow], transports: Sequence[TransportRow]) -> None:
    """Draw rows into a PNG file."""
    columns = [[chart] for chart in _hook_charts(hooks)]
    columns += [_transport_charts(transports)] if transports else []
    heights = [sum(chart.height for chart in column) for column in columns]
    size = (len(columns) * (WIDTH + MARGIN) + MARGIN, max(heights, default=0) + 2 * MARGIN)
    picture, pen = canvas(size, PAPER)
    for place, column in enumerate(columns):
        top = MARGIN
        for chart in column:
            _draw_chart(pen, MARGIN + place * (WIDTH + MARGIN), top, chart)
            top += chart.height
    picture.save(path, format="PNG")


def _hook_charts(rows: Sequence[HookRow]) -> list[Chart]:
    charts = []
    for paced in sorted({row.paced for row in rows}, reverse=True):
        groups = []
        cases = dict.fromkeys(
            (row.frame, row.sequencing, row.load) for row in rows if row.paced is paced
        )
        for frame, sequencing, load in cases:
            case = (frame, sequencing, load, paced)
            bars = [
                Bar(row.name, row.ratio, _text(row), COLOURS[row.name])
                for row in rows
                if (row.frame, row.sequencing, row.load, row.paced) == case
            ]
            groups.append((f"{frame} x {frame}, {sequencing}, engine {load:g} x the period", bars))
        pace = "camera paced" if paced else "camera as fast as it can"
        title = f"Acquisition rate, over that without a hook: {pace}"
        subtitle = "the engine works beside the acquisition in every row, 'none' included"
        charts.append(Chart(title, subtitle, 1.0, groups))
    return charts


def _transport_charts(rows: Sequence[TransportRow]) -> list[Chart]:
    kinds: list[tuple[str, str, Callable[[TransportRow], float], str]] = [
        ("Throughput to another process, GB/s", "flooded", lambda row: row.gb_per_s, "{:.2f}"),
        (
            "Capture to subscriber, less engine time, median, ms",
            "at the rate of a paced camera",
            lambda row: row.latency_p50_ms,
            "{:.2f}",
        ),
    ]
    return [
        Chart(
            title,
            subtitle,
            max(value(row) for row in rows),
            [
                (
                    f"{frame} x {frame}",
                    [
                        Bar(row.name, value(row), text.format(value(row)), _colour(row))
                        for row in rows
                        if row.frame == frame
                    ],
                )
                for frame in dict.fromkeys(row.frame for row in rows)
            ],
        )
        for title, subtitle, value, text in kinds
    ]


def _colour(row: TransportRow) -> tuple[int, int, int]:
    return COLOURS["refocus" if row.name.startswith("publisher") else "none"]


def _text(row: HookRow) -> str:
    lost = f", {row.lost} lost" if row.lost else ""
    return f"{row.ratio:.2f}  ({row.fps:.0f} fps{lost})"


def _draw_chart(pen: ImageDraw.ImageDraw, left: int, top: int, chart: Chart) -> None:
    write(pen, (left, top), chart.title, 19, INK)
    write(pen, (left, top + 26), chart.subtitle, 14, GREY)
    start, reach = left + LABEL, WIDTH - LABEL - 150
    y = top + HEAD
    for name, bars in chart.groups:
        write(pen, (left, y), name, 14, GREY)
        y += ROW
        for bar in bars:
            length = round(reach * min(1.1, bar.length / chart.full)) if chart.full else 0
            write(pen, (left + 12, y), bar.label, 14, INK)
            pen.rectangle([start, y + 2, start + reach, y + 2 + BAR], outline=LINE)
            pen.rectangle([start, y + 2, start + max(1, length), y + 2 + BAR], fill=bar.colour)
            beside = (start + max(length, reach) + 8, y)
            write(pen, beside, bar.text, 14, INK)
            y += ROW
        y += 8
