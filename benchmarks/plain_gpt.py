"""The causal family beside a plain training loop: steps a second, and nats after equal steps, in one run.

The plain side is what people write by hand, in the manner of nanoGPT: a GPT-2 model (learned positions,
LayerNorm, GELU, one table for reading and writing), batches of random windows, AdamW, float32, eager. It has
the preset's width, depth, heads, dropout, context, batch size and learning rates, and the same text,
tokenizer and held-out windows. The other side trains as `jepalm train` does. They take turns of ten steps.

    python benchmarks/plain_gpt.py --steps 200 --threads 1 --core 0 --out build/plain_gpt.json

Data: jepalm prepare shakespeare --pairing windows --name shakespeare-windows
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepalm.atomic import write_json
from jepalm.config import Config, resolve
from jepalm.data.batches import Batches
from jepalm.evaluation.speed.timing import TimingQuartiles, ratio
from jepalm.numbers import three
from jepalm.objective.causal import CausalObjective
from jepalm.session import new_session
from jepalm.training.optimizer import set_learning_rate
from jepalm.training.schedule import learning_rate
from jepalm.training.trial import Trial

TURN = 10
"""Steps of one side before the other's turn."""
PLAIN, OURS = "plain loop", "jepalm"


class Block(nn.Module):
    """Attention over the tokens so far, then a feed-forward layer, each added to what it reads."""

    def __init__(self, dim: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.dropout = n_heads, dropout
        self.attention_norm, self.ffn_norm = nn.LayerNorm(dim, bias=False), nn.LayerNorm(dim, bias=False)
        self.query_key_value = nn.Linear(dim, 3 * dim, bias=False)
        self.out, self.up = nn.Linear(dim, dim, bias=False), nn.Linear(dim, 4 * dim, bias=False)
        self.down = nn.Linear(4 * dim, dim, bias=False)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        heads = self.query_key_value(self.attention_norm(x)).unflatten(-1, (3, self.n_heads, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # (B, H, T, C) each
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        x = x + self.drop(self.out(mixed.transpose(1, 2).flatten(2)))
        return x + self.drop(self.down(F.gelu(self.up(self.ffn_norm(x)))))


class PlainGPT(nn.Module):
    """GPT-2 at a given size."""

    def __init__(
        self, vocab_size: int, dim: int, n_layers: int, n_heads: int, context_len: int, dropout: float
    ) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab_size, dim), nn.Embedding(context_len, dim)
        self.blocks = nn.Sequential(*(Block(dim, n_heads, dropout) for _ in range(n_layers)))
        self.norm, self.drop = nn.LayerNorm(dim, bias=False), nn.Dropout(dropout)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:  # the layers that are added to the stream are drawn smaller
                depth = 2 * n_layers if name.endswith(("out.weight", "down.weight")) else 1
                nn.init.normal_(parameter, std=0.02 / math.sqrt(depth))

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V) of the token after each of (B, T)."""
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.drop(self.tokens(ids) + self.positions(places))
        return F.linear(self.norm(self.blocks(x)), self.tokens.weight)


class PlainLoop:
    """One training as one writes it by hand.

    Args:
        stream: (N,) token ids of the training text.
        vocab_size: of the tokenizer.
        config: whose sizes and rates it takes.
        window: tokens of a text; all but the first are predicted.
        steps: of the whole training.
    """

    def __init__(self, stream: Tensor, vocab_size: int, config: Config, window: int, steps: int) -> None:
        model, self.rates, self.batch_size = config.model, config.optimizer, config.training.batch_size
        self.stream, self.window, self.steps = stream, window, steps
        self.model = PlainGPT(
            vocab_size,
            model.dim,
            model.causal.n_layers,
            model.n_heads,
            model.causal.context_len,
            model.dropout,
        )
        matrices = [p for p in self.model.parameters() if p.ndim >= 2]
        groups = [
            {"params": matrices, "weight_decay": self.rates.weight_decay},
            {"params": [p for p in self.model.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]
        betas = (self.rates.beta1, self.rates.beta2)
        self.optimizer = torch.optim.AdamW(groups, lr=self.rates.lr, betas=betas)

    def get_batch(self) -> tuple[Tensor, Tensor]:
        """Random windows: tokens, and the token after each, (B, T)."""
        starts = torch.randint(len(self.stream) - self.window + 1, (self.batch_size,)).tolist()
        windows = torch.stack([self.stream[at : at + self.window] for at in starts])
        return windows[:, :-1], windows[:, 1:]

    def step(self, number: int) -> None:
        """Do a step."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(number, self.steps, self.rates)
        ids, labels = self.get_batch()
        loss = F.cross_entropy(self.model(ids).flatten(0, 1), labels.flatten())
        loss.backward()
        if self.rates.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.rates.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def compare(config: Config, data: Path, steps: int) -> dict[str, Any]:
    """Train both sides in turns and measure them on the same held-out windows."""
    with new_session(config, data) as session:
        length = config.model.source_len + config.model.target_len
        vocab = session.prepared.meta.vocab_size
        split = session.prepared.split("train")
        stream = torch.from_numpy(split.tokens(0, split.n_tokens))
        torch.manual_seed(config.training.seed)
        plain = PlainLoop(stream, vocab, config, length, steps)
        trial = Trial(session.objective, session.batches, config, session.hardware)

        def ours(number: int) -> None:
            set_learning_rate(trial.optimizer, learning_rate(number, steps, config.optimizer))
            trial.step(number)

        times = in_turns({PLAIN: plain.step, OURS: ours}, steps)
        objective = trial.objective.eval()
        assert isinstance(objective, CausalObjective)
        models: dict[str, Callable[[Tensor], Tensor]] = {
            PLAIN: plain.model.eval(),
            OURS: lambda ids: objective.model.logits(objective.model.hidden(ids)),
        }
        windows = held_out(session.prepared, config)
        sizes = {PLAIN: plain.model, OURS: objective.model}
        rows = [
            {
                "side": side,
                "parameters": sum(p.numel() for p in sizes[side].parameters()),
                "seconds_a_step": asdict(TimingQuartiles.of(times[side])),
                "steps_per_s": 1 / TimingQuartiles.of(times[side]).median,
                "nats": nats(model, windows),
            }
            for side, model in models.items()
        ]
        return {
            "preset": config.preset,
            "steps": steps,
            "hardware": session.hardware.describe(),
            "held_out_windows": len(windows),
            "rows": rows,
            "ratio": asdict(ratio(times[PLAIN], times[OURS])),
        }


def in_turns(sides: dict[str, Callable[[int], None]], steps: int) -> dict[str, list[float]]:
    """Seconds a step of each turn but the first, which warms up."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    for first in range(0, steps, TURN):
        numbers = range(first, min(first + TURN, steps))
        for side, step in sides.items():
            start = time.perf_counter()
            for number in numbers:
                step(number)
            times[side].append((time.perf_counter() - start) / len(numbers))
    return {side: found[1:] for side, found in times.items()}


def held_out(prepared: Any, config: Config) -> Tensor:
    """All windows of the validation text, side by side, (N, T)."""
    sizes = (config.model.source_len, config.model.target_len)
    split = prepared.split("validation")
    batches = Batches(split, batch_size=1, source_len=sizes[0], target_len=sizes[1], seed=0, device="cpu")
    return torch.cat([torch.cat((b.source.ids, b.target.ids), 1) for b in batches.fixed(batches.n_pairs)])


@torch.no_grad()
def nats(model: Callable[[Tensor], Tensor], windows: Tensor) -> float:
    """Mean cross-entropy of every token but the first of each window, in nats."""
    total = 0.0
    for part in windows.split(64):
        logits = model(part[:, :-1]).float()
        total += float(F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum"))
    return total / windows[:, 1:].numel()


def table(found: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        f"{found['preset']}, {found['steps']} steps, {found['hardware']} ({PLAIN}: fp32)",
        "",
        f"| | parameters | steps/s | held-out nats after {found['steps']} steps |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['side']} | {row['parameters']:,} | {three(row['steps_per_s'])} | {row['nats']:.3f} |"
        for row in found["rows"]
    ]
    times = found["ratio"]
    middle = f"middle half {three(times['low'])} to {three(times['high'])}"
    return "\n".join([*lines, "", f"{OURS} takes a step {three(times['median'])} times as fast ({middle})"])


def main(arguments: list[str] | None = None) -> int:
    """Compare, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--preset", default="shakespeare-ar-small")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--core", type=int, help="run on this core alone")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("settings", nargs="*", help="section.key=value, for both sides")
    asked = parser.parse_args(arguments)
    if asked.core is not None:
        os.sched_setaffinity(0, {asked.core})
    torch.set_num_threads(asked.threads)
    flags = {"training.steps": asked.steps, "hardware.threads": asked.threads}
    found = compare(resolve(asked.preset, flags=flags, overrides=asked.settings), asked.data_dir, asked.steps)
    print(table(found))
    if asked.out is not None:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(asked.out, found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
