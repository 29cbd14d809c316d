"""An evaluation on disk, in the report folder of its run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jepalm.errors import JepalmError
from jepalm.evaluation.rows import Evaluation
from jepalm.run import write_atomically


def write_evaluation(evaluation: Evaluation, folder: Path, asked: Mapping[str, Any] | None = None) -> Path:
    """Write `evaluation-SPLIT.json` and return its path.

    Args:
        evaluation: the figures.
        folder: made where it is missing.
        asked: under which settings they were measured, for whoever would know whether to measure again.

    Raises:
        JepalmError: the file cannot be written.
    """
    path = folder / f"evaluation-{evaluation.split}.json"
    tree = {**evaluation.as_json(), **({"asked": dict(asked)} if asked is not None else {})}
    try:
        folder.mkdir(exist_ok=True)
        write_atomically(path, json.dumps(tree, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise JepalmError(f"cannot write {path}: {error.strerror}", "make the folder writable") from None
    return path
