"""Datasets of Parquet files, as the hub has them."""

from pathlib import Path
from typing import Any


def write_parquet(folder: Path, name: str, texts: list[Any], column: str = "text") -> None:
    """Write a file of a dataset: texts, numbered."""
    import pyarrow
    from pyarrow import parquet

    folder.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table({"number": list(range(len(texts))), column: texts})
    parquet.write_table(table, folder / f"{name}.parquet", row_group_size=7)
