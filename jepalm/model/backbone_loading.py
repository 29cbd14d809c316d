"""A Hugging Face model from its files, its rows in our order, and back again."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from jepalm.data.backbone_tokenizer import BackboneTokenizer, hugging_face, loading, where_is
from jepalm.errors import UsageError


def load(name: str, attention: str, *, half: bool) -> Any:
    """The library's model on the CPU, in float32.

    Args:
        name: folder, `.gguf` file or name on the hub.
        attention: "sdpa", "matmul" or "auto".
        half: leave it in bfloat16 where it is stored so.

    Raises:
        UsageError: there is no such model, it lacks weights, or fused attention was asked of one that caps
            its scores.
    """
    library = hugging_face()
    where = where_is(name)
    with loading(name, "model"):
        config = library.AutoConfig.from_pretrained(**where)
        capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
        if capped and attention == "sdpa":
            raise UsageError(f"{name} caps its attention scores, which fused attention cannot", "use matmul")
        kind = "eager" if capped or attention == "matmul" else "sdpa"
        whole = {"quantization_config": library.GgufConfig(dequantize=True)} if "gguf_file" in where else {}
        lm, found = library.AutoModelForCausalLM.from_pretrained(
            **where, **whole, dtype="auto", attn_implementation=kind, output_loading_info=True
        )
    if found["missing_keys"]:
        missing = min(found["missing_keys"])
        raise UsageError(f"{name} lacks weights of a causal model, such as {missing}", "take another model")
    return lm if half and lm.dtype == torch.bfloat16 else lm.float()


def fingerprint_of(lm: Any) -> Tensor:
    """32 bytes over names, shapes and sums of the bits of all weights as float32, (32,) uint8.

    The same whether the weights are held in float32 or in the half precision that they are stored in.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(lm.state_dict().items()):
        bits = weight.detach().float().contiguous().view(torch.int32).sum(dtype=torch.int64)
        digest.update(f"{name} {tuple(weight.shape)} {int(bits)}\n".encode())
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)


@torch.no_grad()
def reorder(lm: Any, tokenizer: BackboneTokenizer) -> list[int | None]:
    """Put the rows of a model's tables in the tokenizer's order; rows of no token go to the end.

    A token that the model had no row for gets the mean row, which is never likelier than the average.

    Returns:
        the model's own row of each of ours; None where it had none.

    Raises:
        UsageError: the tokenizer has tokens that the model has no rows for.
    """
    n_rows = lm.get_input_embeddings().num_embeddings
    order = list(tokenizer.order)
    used = {old for old in order if old is not None}
    if tokenizer.pad_added:
        order[0] = None
    if max(old for old in order if old is not None) >= n_rows:
        raise UsageError(f"the model has {n_rows:,} rows, fewer than its tokenizer has tokens", "resize it")
    order += sorted(set(range(n_rows)) - used)
    index = torch.tensor([0 if old is None else old for old in order])
    missing = torch.tensor([old is None for old in order])
    old_rows = [rows.clone() for rows in rows_of(lm)]
    lm.resize_token_embeddings(len(order), mean_resizing=False)
    lm.get_input_embeddings().padding_idx = None
    for rows, old in zip(rows_of(lm), old_rows, strict=True):
        mean = old.float().mean(0).to(old.dtype)  # (...)
        rows.copy_(old[index])
        rows[missing] = mean
    return order


@torch.no_grad()
def restore(lm: Any, order: list[int | None], tokenizer: BackboneTokenizer) -> None:
    """Put the rows back in the model's own order, with the padding where its tokenizer has it."""
    pad = tokenizer.order[0]
    own = [pad if place == 0 else old for place, old in enumerate(order)]
    places = {old: place for place, old in enumerate(own) if old is not None}
    index = torch.tensor([places[old] for old in range(len(places))])
    old_rows = [rows.clone() for rows in rows_of(lm)]
    lm.resize_token_embeddings(len(index), mean_resizing=False)
    for rows, old in zip(rows_of(lm), old_rows, strict=True):
        rows.copy_(old[index])
    for config in (lm.config.get_text_config(), lm.generation_config):
        if config is not None:
            config.pad_token_id = pad


def rows_of(lm: Any) -> list[Tensor]:
    """What holds a row for each token: one table where reading and writing are tied; biases, too."""
    read, write = lm.get_input_embeddings(), lm.get_output_embeddings()
    found = [read.weight] if write.weight is read.weight else [read.weight, write.weight]
    return found if getattr(write, "bias", None) is None else [*found, write.bias]


@torch.no_grad()
def draw_like(made: nn.Embedding, table: Any) -> None:
    """Draw rows with the mean and deviation of each column of what a table gives."""
    given = table(torch.arange(table.num_embeddings, device=table.weight.device)).float()  # (V, D)
    made.weight.normal_().mul_(given.std(0)).add_(given.mean(0))
