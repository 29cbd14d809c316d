"""A run's metrics with nothing but the standard library.

python examples/read_metrics.py runs/latest
"""

import json
import sys
from pathlib import Path


def main(run: Path) -> None:
    """Print step, share of each term, and held-out R2."""
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["kind"] == "train":
            shares = {key.split("/")[-1]: row[key] for key in row if key.startswith("train/share/")}
            print(
                row["step"],
                "train",
                " ".join(f"{name} {100 * share:.1f} %" for name, share in shares.items()),
            )
        elif row["kind"] == "validation":
            print(row["step"], "validation", f"R2 {row['validation/r2']:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/latest"))
