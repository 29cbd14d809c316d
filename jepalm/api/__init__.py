"""The public interface for programs: what `import jepalm` offers, loaded when it is first asked for.

    model = jepalm.load("runs/latest")          # a run, or a folder that `jepalm export` wrote
    model.generate(["To be"])                   # texts
    model.predict_embeddings(["To be"])         # predicted embeddings, (T', D') each
    model.encode(["To be"])                     # embeddings of sources, (T, D) each
    model.score([("To be", "or not to be")])    # nats a token, or a distance

Texts come in lists and results in their order, computed in batches. What a user can get wrong is a
`jepalm.errors.UsageError`.
"""

from __future__ import annotations

from jepalm.api.model import Model, load
from jepalm.api.training import prepare_pairs, train

__all__ = ["Model", "load", "prepare_pairs", "train"]
