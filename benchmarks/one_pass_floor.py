"""What any one-pass model could know: a causal model that has forgotten all but the last m written tokens.

The best prediction of token i from the source s and the m tokens before it is the causal model's own,
averaged over what may stand between them:

    p(x_i | s, x_(i-m) .. x_(i-1)) = sum_k w_k p(x_i | s, y_k, x_(i-m) .. x_(i-1)) / sum_k w_k

y_k are the first i - m - 1 tokens of continuations that the model draws itself, and w_k is the probability of
the m tokens behind y_k (self-normalised importance sampling). With finitely many draws the NLL is a little
too high. The same with continuations of *other* sources is what the m tokens say without the source; the
difference of the two is what a predicted embedding can be worth to a decoder that reads m tokens.

    python benchmarks/one_pass_floor.py runs/CAUSAL --pairs 64 --draws 64

Data: jepalm prepare shakespeare --pairing windows --name shakespeare-windows
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from jepalm.atomic import write_json
from jepalm.config import HardwareConfig
from jepalm.data.batches import pad_rows
from jepalm.data.tokenizer import SPECIALS
from jepalm.evaluation.text.held_out import pick_pairs
from jepalm.evaluation.validation.exact_likelihood import RANGES
from jepalm.generation.loading import load_trained
from jepalm.model.causal import CausalModel
from jepalm.run import open_run

CONTEXTS = (0, 1, 2, 4)
OWN, OTHER = "own source", "other sources"


@torch.no_grad()
def draw(model: CausalModel, sources: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Continuations (K, T) of sources (K, S), drawn from the model as it is."""
    cache = model.new_cache(len(sources), sources.shape[1] + length)
    last, drawn = model.hidden(sources, cache)[:, -1], []
    while True:
        logits = model.logits(last).float()  # (K, V)
        logits[:, : len(SPECIALS)] = float("-inf")
        drawn.append(torch.multinomial(logits.softmax(-1), 1, generator=generator))
        if len(drawn) == length:
            return torch.cat(drawn, 1)
        last = model.hidden(drawn[-1], cache)[:, -1]


@torch.no_grad()
def forgetful_nll(
    model: CausalModel, source: Tensor, target: Tensor, prefixes: Tensor, contexts: Sequence[int]
) -> Tensor:
    """Nats of each target token with what stands before the last m tokens averaged over prefixes.

    Args:
        model: in evaluation mode; its context holds source and target.
        source: (S,) at least m tokens.
        target: (T,).
        prefixes: (K, S + T) sources with continuations.
        contexts: the values of m.

    Returns:
        (contexts, T).
    """
    n, first = len(prefixes), len(source)
    text = torch.cat((source, target))  # (S + T,)
    found = torch.zeros(len(contexts), len(target))
    for row, m in enumerate(contexts):
        cache = model.new_cache(n, len(text))
        states = model.hidden(prefixes, cache)  # (K, S + T, D)
        for place in reversed(range(len(target))):  # what is written over is not read again
            begin = first + place - m
            cache.keep([begin] * n)
            states_before = states[:, begin - 1 : begin]  # (K, 1, D)
            if m:
                read = model.hidden(text[begin : begin + m].expand(n, -1), cache)  # (K, m, D)
                states_before = torch.cat((states_before, read), 1)
            logs = model.logits(states_before).float().log_softmax(-1)  # (K, m + 1, V)
            tokens = text[begin : begin + m + 1].expand(n, -1)  # (K, m + 1)
            of_text = logs.gather(2, tokens[..., None])[..., 0]  # (K, m + 1)
            weights = of_text[:, :m].sum(1)  # (K,)
            found[row, place] = torch.logsumexp(weights, 0) - torch.logsumexp(of_text.sum(1), 0)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw, average, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a causal run on windows")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--pairs", type=int, default=64, help="held-out pairs")
    parser.add_argument("--draws", type=int, default=64, help="continuations a pair")
    parser.add_argument("--contexts", type=int, nargs="+", default=CONTEXTS, help="values of m")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("one-pass-floor.json"))
    args = parser.parse_args(arguments)
    place = HardwareConfig(device="cpu", precision="fp32", threads=args.threads)
    trained = load_trained(open_run(args.run), hardware=place)
    model = trained.causal.model
    split = trained.data(args.data_dir).split("validation")
    pairs = pick_pairs(split, trained.config.model, args.pairs).pairs
    cpu = torch.device("cpu")
    sources = pad_rows([source for source, _ in pairs], cpu).ids  # (P, S)
    targets = pad_rows([target for _, target in pairs], cpu).ids  # (P, T)
    generator = torch.Generator().manual_seed(0)
    drawn = [draw(model, row.expand(args.draws, -1), targets.shape[1], generator) for row in sources]
    texts = torch.cat((sources[:, None].expand(-1, args.draws, -1), torch.stack(drawn)), 2)  # (P, K, S + T)
    nats: dict[str, list[Tensor]] = {OWN: [], OTHER: []}
    for at, (source, target) in enumerate(zip(sources, targets, strict=True)):
        others = torch.randint(1, len(texts), (args.draws,), generator=generator)
        mixed = texts[(at + others) % len(texts), torch.arange(args.draws)]  # (K, S + T), never its own
        for name, prefixes in ((OWN, texts[at]), (OTHER, mixed)):
            nats[name].append(forgetful_nll(model, source, target, prefixes, args.contexts))
        print(f"{at + 1} of {len(texts)}", file=sys.stderr)
    rows = {name: torch.stack(found) for name, found in nats.items()}  # (P, contexts, T)
    print(table(rows, args.contexts))
    values = {name: found.mean(0).tolist() for name, found in rows.items()}
    measured = {"run": args.run.name, "pairs": len(pairs), "draws": args.draws}
    write_json(args.out, {**measured, "contexts": list(args.contexts), "nats": values})
    return 0


def table(rows: dict[str, Tensor], contexts: Sequence[int]) -> str:
    """Mean nats by m and by position, of the difference with the standard error over pairs, as Markdown."""
    ranges = {f"{first}-{last}": slice(first - 1, last) for first, last in RANGES}
    columns = {"all": slice(None), **ranges}
    lines = [f"| m | of | {' | '.join(columns)} |", "|---" * (2 + len(columns)) + "|"]
    for row, m in enumerate(contexts):
        for name, found in rows.items():
            cells = [f"{found[:, row, where].mean():.3f}" for where in columns.values()]
            lines.append(f"| {m} | {name} | {' | '.join(cells)} |")
        worth = rows[OTHER][:, row] - rows[OWN][:, row]  # (P, T)
        cells = []
        for where in columns.values():
            each = worth[:, where].mean(1)  # (P,)
            cells.append(f"{each.mean():.3f} ± {each.std() / len(each) ** 0.5:.3f}")
        lines.append(f"| {m} | the source's worth | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
