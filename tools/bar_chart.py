"""Draws bars in groups, as SVG: one row for each thing measured, and beside its name one bar in each panel."""

from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, MARGIN, NAMES_WIDTH, LABEL_WIDTH = 1200, 16, 330, 110
ROW_HEIGHT, HEADING_HEIGHT, HEAD_HEIGHT = 24, 34, 64
OURS, OTHERS = "#1f77b4", "#7f7f7f"


@dataclass
class Bar:
    """`value` is drawn full, what `far_value` has beyond it pale; `label` is written behind both."""

    value: float
    far_value: float
    label: str


@dataclass
class Row:
    """A name, whether it is ours, and a bar for each panel."""

    name: str
    is_ours: bool
    bars: list


def draw(title, captions, groups):
    """The chart as text; `captions` has a word for each panel, `groups` pairs of a heading and its rows."""
    panel_width = (WIDTH - MARGIN - NAMES_WIDTH) / len(captions)
    lefts = [NAMES_WIDTH + panel_width * index for index in range(len(captions))]
    scales = [scale([row for _, rows in groups for row in rows], index, panel_width) for index in range(len(captions))]
    parts = [text(MARGIN, 24, title, 16)]
    parts += [text(left, HEAD_HEIGHT - 12, caption, 14) for left, caption in zip(lefts, captions)]
    top = HEAD_HEIGHT
    for heading, rows in groups:
        parts.append(text(MARGIN, top + HEADING_HEIGHT - 10, heading, 14, weight="bold"))
        top += HEADING_HEIGHT
        for row in rows:
            parts += draw_row(row, top, lefts, scales)
            top += ROW_HEIGHT
    height = top + MARGIN
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">'
    ground = f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
    return "\n".join([head, ground, *parts, "</svg>"]) + "\n"


def scale(rows, panel, panel_width):
    """Pixels per unit, so that the longest bar leaves room for its label."""
    longest = max(max(row.bars[panel].value, row.bars[panel].far_value) for row in rows)
    return (panel_width - LABEL_WIDTH) / longest if longest > 0 else 0


def draw_row(row, top, lefts, scales):
    middle = top + ROW_HEIGHT / 2
    parts = [text(MARGIN, middle + 4, row.name, 12)]
    for bar, left, pixels in zip(row.bars, lefts, scales):
        far = max(bar.value, bar.far_value)
        parts += [rectangle(left, top, length * pixels, row.is_ours, opacity)
                  for length, opacity in [(far, 0.35), (bar.value, 1)] if length > 0]
        parts.append(text(left + far * pixels + 6, middle + 4, bar.label, 12))
    return parts


def rectangle(left, top, width, is_ours, opacity):
    fill = OURS if is_ours else OTHERS
    return (f'<rect x="{left:.1f}" y="{top + 4}" width="{width:.1f}" height="{ROW_HEIGHT - 8}" fill="{fill}" '
            f'opacity="{opacity}"/>')


def text(left, baseline, words, size, weight="normal"):
    return (f'<text x="{left:.1f}" y="{baseline:.1f}" font-family="sans-serif" font-size="{size}" '
            f'font-weight="{weight}">{escape(words)}</text>')
