"""How every plot is drawn: palette, ink that follows the page's theme, SVG and PNG of one Figure.

Colours are told apart by people with colour-blindness (after Okabe and Ito, and viridis for order).
In the SVG each colour is a CSS variable, so that an inlined plot follows light and dark.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from jepalm.numbers import count, percent
from jepalm.report.read import Series

DPI = 144
POINTS = 1200
"""Most points of a line in a plot; the extremes of each stretch are kept."""
FEW = 40
"""Lines of at most this many points show their points."""

_RAMP = 12


def _ramp(start: float, stop: float) -> list[str]:
    colours = matplotlib.colormaps["viridis"](np.linspace(start, stop, _RAMP))
    return [to_hex(colour) for colour in colours]


PALETTE: dict[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#15181c"),
    "ink": ("#1f2328", "#e6e8eb"),
    "muted": ("#5a626c", "#a3adb8"),
    "grid": ("#e1e5e9", "#30363d"),
    "reconstruction": ("#0072b2", "#4fb0e8"),
    "embedding": ("#d55e00", "#ff8f4a"),
    "generation": ("#00805e", "#2fc79b"),
    "length": ("#a3447c", "#e58fc0"),
    "regularizer": ("#8a6d00", "#e8c547"),
    "other": ("#5458c4", "#a3a6ff"),
    "control": ("#7d868f", "#8b949e"),
    **{f"ramp{k}": pair for k, pair in enumerate(zip(_ramp(0.0, 0.82), _ramp(0.3, 1.0), strict=True))},
}
"""Name to the colours of the light and the dark page."""

_RUN_NAMES = ("reconstruction", "embedding", "generation", "length", "regularizer", "other")
_DASHES = ("-", "--", "-.", ":")
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": PALETTE["muted"][0],
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.labelcolor": PALETTE["muted"][0],
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": PALETTE["ink"][0],
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": PALETTE["grid"][0],
    "grid.linewidth": 0.8,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": PALETTE["ink"][0],
    "lines.linewidth": 1.6,
    "lines.markersize": 3.5,
    "path.simplify": True,
    "svg.fonttype": "none",
    "text.color": PALETTE["ink"][0],
    "text.parse_math": False,
    "xtick.color": PALETTE["muted"][0],
    "xtick.labelsize": 8.5,
    "ytick.color": PALETTE["muted"][0],
    "ytick.labelsize": 8.5,
}


@dataclass(frozen=True)
class Plot:
    """A drawn plot."""

    name: str
    title: str
    caption: str
    """What to look for, in a sentence or two."""
    svg: str
    """Inline SVG whose ids are unique to the plot."""
    png: bytes


@contextmanager
def canvas(width: float = 9.6, height: float = 3.4) -> Iterator[Figure]:
    """Give a Figure of that many inches under the style of the house."""
    with matplotlib.rc_context(_STYLE):
        yield Figure(figsize=(width, height))


def finish(figure: Figure, name: str, title: str, caption: str) -> Plot:
    """Render a Figure under its title, as SVG for the page and as PNG; call it inside `canvas`."""
    figure.suptitle(title, x=0.008, ha="left", fontsize=11.5, fontweight="bold")
    with matplotlib.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Creating legend with", UserWarning)  # said where a machine is slow
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    figure.set_layout_engine("none")  # already laid out; a second time costs as much as drawing
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return Plot(name, title, caption, inline_svg(text.getvalue(), name, title), image.getvalue())


def inline_svg(svg: str, name: str, title: str) -> str:
    """Make matplotlib's SVG fit to stand in a page: own ids, the page's fonts and colours.

    Args:
        svg: a whole SVG document.
        name: what every id is prefixed with.
        title: the accessible name.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = svg.replace("'DejaVu Sans'", _FONT)
    for variable, (light, _) in PALETTE.items():
        svg = svg.replace(light, f"var(--{variable}, {light})")
    head, rest = svg.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    label = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return f'{head} role="img" aria-label="{label}">{rest}'


def svg_file(svg: str) -> str:
    """Make a document of its own of an inline SVG: the colours of the light page, on its paper."""
    plain = re.sub(r"var\(--[a-z0-9]+, (#[0-9a-f]+)\)", r"\1", svg)
    head, rest = plain.split(">", 1)
    paper = f'<rect width="100%" height="100%" fill="{PALETTE["paper"][0]}"/>'
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head}>{paper}{rest}'


def theme_css() -> tuple[str, str]:
    """Return the CSS variables of the light and of the dark page."""
    light = "".join(f"--{name}:{pair[0]};" for name, pair in PALETTE.items())
    dark = "".join(f"--{name}:{pair[1]};" for name, pair in PALETTE.items())
    return light, dark


def colour(name: str) -> str:
    """Return the colour of a loss term, or of another palette name; unknown terms share one."""
    return PALETTE.get(name, PALETTE["other"])[0]


def ramp(index: int, total: int) -> str:
    """Return the colour of the index-th of `total` ordered things."""
    position = 0 if total < 2 else round(index * (_RAMP - 1) / (total - 1))
    return PALETTE[f"ramp{position}"][0]


def run_style(index: int) -> dict[str, str]:
    """Return colour and dashes of the index-th of several things without an order."""
    return {
        "color": PALETTE[_RUN_NAMES[index % len(_RUN_NAMES)]][0],
        "linestyle": _DASHES[index % len(_DASHES)],
    }


def thin(
    x: NDArray[np.float64] | NDArray[np.int64], y: NDArray[np.float64], limit: int = POINTS
) -> tuple[NDArray[np.float64] | NDArray[np.int64], NDArray[np.float64]]:
    """Keep at most about `limit` points of a line, with the lowest and highest of each stretch."""
    y = np.where(np.isfinite(y), y, np.nan)
    if len(y) <= limit:
        return x, y
    keep: set[int] = {0, len(y) - 1}
    for bucket in np.array_split(np.arange(len(y)), limit // 2):
        if not np.isnan(y[bucket]).all():
            keep.add(int(bucket[np.nanargmin(y[bucket])]))
            keep.add(int(bucket[np.nanargmax(y[bucket])]))
    chosen = np.array(sorted(keep))
    return x[chosen], y[chosen]


def line(
    axes: Axes, x: NDArray[np.float64] | NDArray[np.int64], y: NDArray[np.float64], **style: object
) -> None:
    """Draw a line; one of few points shows its points."""
    if np.isfinite(y).sum() <= FEW:
        style.setdefault("marker", "o")
    xs, ys = thin(x, y)
    axes.plot(xs, ys, **style)  # type: ignore[arg-type]


def step_axis(axes: Axes, label: str = "step", marks: Sequence[tuple[int, str]] = ()) -> None:
    """Name the horizontal axis and write its numbers as steps are written; call it after drawing.

    Args:
        axes: over steps.
        label: its name.
        marks: first step and name of each phase of the training, drawn where the axis shows them.
    """
    _mark_phases(axes, marks)
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: count(value) if abs(value) >= 1_000_000 else f"{value:,.0f}")
    )


def _mark_phases(axes: Axes, marks: Sequence[tuple[int, str]]) -> None:
    """A light line where each phase begins, with its name; the first one's name stands at the left."""
    left, right = axes.get_xlim()
    paper = {"facecolor": colour("paper"), "edgecolor": "none", "alpha": 0.75, "pad": 1}
    style: dict[str, Any] = {
        "rotation": 90,
        "ha": "left",
        "va": "top",
        "fontsize": 7,
        "color": colour("muted"),
    }
    for index, (step, name) in enumerate(marks):
        if step <= right:
            if index and step > left:
                axes.axvline(step, color=colour("control"), linewidth=0.8, alpha=0.6)
            where = axes.get_xaxis_transform()
            axes.text(max(step, left), 0.98, name, transform=where, clip_on=True, bbox=paper, **style)
    if marks:
        axes.set_xlim(left, right)


def set_log(axes: Axes, *values: NDArray[np.float64]) -> None:
    """Take a log axis where no value is under zero and they span over a decade; zeros have no place on it."""
    joined = np.concatenate([v[np.isfinite(v) & (v != 0)] for v in values]) if values else np.array([])
    positive = joined[joined > 0]
    if len(positive) > 1 and len(positive) == len(joined) and positive.max() > 10 * positive.min():
        axes.set_yscale("log")
        steps = (1.0,) if positive.max() > 300 * positive.min() else (1.0, 3.0)
        axes.yaxis.set_major_locator(LogLocator(subs=steps, numticks=8))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def panels_of(figure: Figure, panels: int) -> list[Axes]:
    """Two columns of axes, of which the unused last is hidden."""
    columns = 1 if panels == 1 else 2
    grid = figure.subplots(-(-panels // columns), columns, squeeze=False)
    cells = list(grid.flat)
    for cell in cells[panels:]:
        cell.set_visible(False)
    return cells[:panels]


def stacked_bars(axes: Axes, bars: Mapping[str, Mapping[str, float]], terms: list[str]) -> None:
    """One horizontal bar of shares for each name, the first on top."""
    names = list(bars)
    left = np.zeros(len(names))
    for term in terms:
        width = np.array([100 * bars[name].get(term, 0.0) for name in names])
        drawn = axes.barh(names, width, left=left, color=colour(term), label=term, height=0.62)
        text = [percent(value / 100) if value >= 8 else "" for value in width]
        axes.bar_label(drawn, text, label_type="center", color=colour("paper"), fontsize=8.5)
        left += width
    axes.invert_yaxis()
    axes.grid(False)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the loss (%)")
    axes.tick_params(axis="y", length=0, labelcolor=colour("ink"))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


@dataclass(frozen=True)
class Panel:
    """Curves over steps on axes of their own.

    Attributes:
        curves: series and its style as matplotlib names it; one without values is left out.
        title: above it.
        unit: of the vertical axis.
        log: whether that may be a log axis.
        limits: its lowest and highest value, where it is linear; None where the values say.
        levels: horizontal lines, with their styles.
        outside: whether the legend stands beside the axes.
    """

    curves: Sequence[tuple[Series, dict[str, Any]]]
    title: str = ""
    unit: str = ""
    log: bool = False
    limits: tuple[float | None, float | None] = (None, None)
    levels: Sequence[tuple[float, dict[str, Any]]] = ()
    outside: bool = False


def draw_panel(axes: Axes, panel: Panel, marks: Sequence[tuple[int, str]], label: str = "step") -> None:
    """Draw a panel over steps, with the phases of the training."""
    for series, style in panel.curves:
        if len(series):
            line(axes, series.step, series.value, **style)
    for value, style in panel.levels:
        axes.axhline(value, **{"color": colour("control"), "linestyle": ":", **style})
    axes.set_title(panel.title)
    axes.set_ylabel(panel.unit)
    if panel.log:
        set_log(axes, *(series.value for series, _ in panel.curves))
    if axes.get_yscale() == "linear":
        axes.set_ylim(*panel.limits)
    step_axis(axes, label, marks)
    if axes.get_legend_handles_labels()[1]:
        beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if panel.outside else {}
        axes.legend(**beside)


def step_plot(
    name: str, title: str, caption: str, panels: Sequence[Panel], marks: Sequence[tuple[int, str]]
) -> Plot | None:
    """Draw panels in two columns; nothing where none of them has a curve with values.

    Args:
        name: of the plot.
        title: above it.
        caption: what to look for.
        panels: those without values are left out.
        marks: first step and name of each phase of the training.
    """
    kept = [panel for panel in panels if any(len(series) for series, _ in panel.curves)]
    if not kept:
        return None
    with canvas(9.6, 3.4 if len(kept) < 3 else 2.7 * -(-len(kept) // 2) + 0.3) as figure:
        for axes, panel in zip(panels_of(figure, len(kept)), kept, strict=True):
            draw_panel(axes, panel, marks)
        return finish(figure, name, title, caption)
