"""What commands write into a run's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_json(path: Path, tree: dict[str, Any]) -> None:
    """Write a tree as JSON, whole or not at all; its folder is made.

    Raises:
        JepalmError: it cannot be written.
    """
    from jepalm.errors import JepalmError
    from jepalm.run import write_atomically

    try:
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, json.dumps(tree, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise JepalmError(f"cannot write {path}: {error.strerror}", "make the folder writable") from None
