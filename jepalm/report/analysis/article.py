"""What the JEPALM article reports: the figures that a run is set beside."""

from __future__ import annotations

from collections.abc import Mapping

ARTICLE_SECONDS = 8.6 * 3600
ARTICLE_STEPS = 25_000
ARTICLE_PARAMETERS = 10_100_000
ARTICLE_DEVICE = "A100 80GB"
ARTICLE_COMPOSITION: Mapping[str, float] = {"reconstruction": 0.0, "embedding": 0.575, "length": 0.425}
CE_STEP = 500
"""The article's step for reconstruction CE."""
