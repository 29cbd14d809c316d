"""Nats a character that a causal run needs for the last tenth of a text, each character once.

    python examples/score_text.py runs/latest data/raw/tinyshakespeare.txt

The last tenth begins at character int(0.9 * N), as in nanoGPT's split. Text before it is only read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from jepalm.evaluation.text.stream import score_stream
from jepalm.generation.loading import load_trained
from jepalm.objective import CausalObjective
from jepalm.run import open_run


def main() -> None:
    """Read the arguments, score the text, print one line a stride."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--from", dest="share", type=float, default=0.9, help="share of the text before")
    parser.add_argument("--checkpoint", default="last", help="last, best, or a step")
    parser.add_argument(
        "--stride", type=int, nargs="*", help="tokens a pass; default: the context, a quarter"
    )
    asked = parser.parse_args()

    trained = load_trained(open_run(asked.run), asked.checkpoint)
    if not isinstance(trained.objective, CausalObjective):
        raise SystemExit(f"{asked.run} is not a causal model")
    text = asked.text.read_text(encoding="utf-8")
    cut = int(asked.share * len(text))
    before = trained.tokenizer.encode_flat(text[:cut])
    scored = trained.tokenizer.encode_flat(text[cut:])
    characters = len(text) - cut
    ids = [*before.tolist(), *scored.tolist()]
    context = trained.objective.model.context_len
    for stride in asked.stride or [context, max(1, context // 4)]:
        with trained.hardware.autocast():
            score = score_stream(trained.objective, ids, first=max(1, len(before)), stride=stride)
        how = "blocks" if stride == context else f"sliding, at least {context - stride + 1} before each"
        print(
            f"{score.nats.sum() / characters:.4f} nats a character over {characters:,} characters"
            f" · context {context}, stride {stride} ({how})"
            f" · {trained.run.name} at step {trained.checkpoint.step:,}"
        )


if __name__ == "__main__":
    main()
