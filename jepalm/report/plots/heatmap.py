"""Embeddings as a heat map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jepalm.errors import JepalmError
from jepalm.report.plots.draw import DPI, canvas


def embedding_heatmap(values: NDArray[np.floating], labels: list[str], path: Path, title: str) -> None:
    """Draw embeddings as a heat map, one row a position.

    Args:
        values: embeddings, (T, D).
        labels: the character or token of each position, T of them.
        path: where to write; its suffix chooses SVG, PNG or PDF.
        title: what these are and of which run.

    Raises:
        JepalmError: the file cannot be written.
        ValueError: values are not (T, D), are empty, or labels are not T.
    """
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or not matrix.size or len(labels) != len(matrix):
        raise ValueError(f"embeddings of shape {matrix.shape} with {len(labels)} labels")
    finite = np.abs(matrix[np.isfinite(matrix)])
    limit = (float(np.percentile(finite, 99)) if len(finite) else 0.0) or 1.0
    with canvas(9.6, min(14.0, 1.6 + 0.17 * len(matrix))) as figure:
        axes = figure.subplots()
        axes.grid(False)
        picture = axes.imshow(
            matrix, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest"
        )
        shown = range(0, len(labels), -(-len(labels) // 80))
        axes.set_yticks(list(shown), [repr(labels[k])[1:-1].replace(" ", "␣") for k in shown])
        axes.tick_params(axis="y", labelsize=7, length=0)
        axes.set_xlabel("dim")
        axes.set_ylabel("position")
        axes.set_title(title, fontweight="bold")
        figure.colorbar(picture, ax=axes, label="value", pad=0.01)
        try:
            figure.savefig(path, dpi=DPI, facecolor="white")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise JepalmError(f"cannot write {path}: {reason}", "name a .png, .svg or .pdf file") from None
