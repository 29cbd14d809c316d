"""A Hugging Face causal language model with the face of the CausalLM, whole or under low-rank adapters.

It computes in our token ids: its rows are put in the order of the data's tokenizer when it is loaded.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepalm.config import ModelConfig
from jepalm.data.backbone_tokenizer import hugging_face, load_backbone_tokenizer
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import JepalmError, UsageError
from jepalm.model.backbone_loading import draw_like, fingerprint_of, load, reorder, restore
from jepalm.model.causal import CausalModel, apart

FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass
class BackboneCache:
    """Keys and values of the positions read so far, as the library keeps them.

    Texts end in the same column: those that are shorter stand further right, with nothing before them.

    Attributes:
        past: the library's cache.
        seen: (B, columns) bool, where a text or its beginning stands.
        lengths: (B,) tokens of each text.
        room: tokens that a text may have.
        filled: the most tokens that a text may have by now, kept beside so that nothing waits for the device.
    """

    past: Any
    seen: Tensor
    lengths: Tensor
    room: int
    filled: int = 0


class Backbone(CausalModel):
    """A pretrained causal language model.

    Without adapters it learns as a whole, in float32: parts `decoder` and, where it is not tied,
    `vocabulary`. With adapters (LoRA, arXiv 2106.09685) they are its one part: what is frozen is no
    submodule, so that no optimizer and no checkpoint sees it. A fingerprint among the weights then tells
    another backbone.

    Where the model's tokenizer puts a token in front of every text, one stands in front of each text here
    too, and is not seen from outside.

    Args:
        config: `backbone` and how it learns.
        vocab_size: tokens of the data's tokenizer.
        attention: "sdpa", "matmul" or "auto" (fused, unless the model caps its attention scores).
        half: leave frozen weights in bfloat16 where they are stored so.
        predictor_tokens: how many tokens are read beside the vocabulary: the ids from the table's size on.
        linear_predictor: whether the model has a linear map of a view's embedding, at first the identity.

    Attributes:
        lm: the library's model.
        order: the model's own row of each of ours; None where it had none.

    Raises:
        UsageError: there is no such model, it is of a kind that cannot be split into states and logits, the
            context is longer than its own, or its tokenizer is not that of the data.
    """

    lm: Any
    _tuned: Any

    def __init__(
        self,
        config: ModelConfig,
        vocab_size: int,
        attention: str = "auto",
        *,
        half: bool = False,
        predictor_tokens: int = 0,
        linear_predictor: bool = False,
    ) -> None:
        super().__init__()
        assert config.backbone is not None
        self.config, self.vocab_size = config, vocab_size
        self.tokenizer = load_backbone_tokenizer(config.backbone)
        if self.tokenizer.text.vocab_size != vocab_size:
            raise UsageError(
                f"{config.backbone} has {self.tokenizer.text.vocab_size:,} tokens, the data's {vocab_size:,}",
                f"prepare the data with --tokenizer {config.backbone}",
            )
        self._hold("lm", load(config.backbone, attention, half=half and config.lora.r > 0))
        self._check_context()
        fingerprint = fingerprint_of(self.lm) if config.lora.r else None
        self.order = reorder(self.lm, self.tokenizer)
        self._hold("tokens", self.lm.get_input_embeddings())  # with rows beyond the vocabulary, maybe
        if config.gradient_checkpointing:
            self._recompute()
        if fingerprint is None:
            self.decoder = self.lm.base_model
            head = self.lm.get_output_embeddings()
            self.vocabulary = None if head.weight is self.tokens.weight else head
        else:
            self.adapters = self._adapt(config)
            self.register_buffer("fingerprint", fingerprint)
        width = self.tokens.weight.shape[1]
        self.predictor_tokens = nn.Embedding(predictor_tokens, width) if predictor_tokens else None
        if self.predictor_tokens is not None:
            draw_like(self.predictor_tokens, self.tokens)
        self.predictor = nn.Linear(width, width, bias=False) if linear_predictor else None
        if self.predictor is not None:
            nn.init.eye_(self.predictor.weight)
        self._check_split()

    @property
    def n_frozen(self) -> int:
        """Parameters that never learn and that no checkpoint holds."""
        return sum(p.numel() for p in self._frozen())

    def hidden(
        self,
        ids: Tensor,
        cache: BackboneCache | None = None,
        segments: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """(B, T) token ids to (B, T, D), what the last layer makes of them, after the last norm.

        Args:
            ids: left-aligned; with a cache, those that follow what it holds.
            cache: is written. What it reads first may be padded.
            segments: (B, T) numbers that never fall along a row. Positions of one number are a text of
                their own: blind to the others, its places counted from 0. None: each row is one text.
            lengths: (B,) positions of each row that are wanted; the others are computed and set to 0.
        """
        if cache is not None:
            return self._hidden_after(ids, cache)
        mask, positions = (None, None) if segments is None else self._apart(segments)
        states = self._read(self._begun(ids), mask, positions, use_cache=False)  # (B, F + T, D)
        states = states[:, self._front :]  # (B, T, D)
        if lengths is None:
            return states
        wanted = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]  # (B, T)
        return states * wanted[..., None]

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) to (..., V)."""
        head = self.lm.get_output_embeddings()
        bias = None if head.bias is None else head.bias[: self.vocab_size]
        logits = F.linear(hidden, head.weight[: self.vocab_size], bias)
        cap = getattr(self.lm.config.get_text_config(), "final_logit_softcapping", None)
        return cap * torch.tanh(logits / cap) if cap else logits  # Gemma 2, arXiv 2408.00118, section 2

    def new_cache(self, n_texts: int, room: int | None = None) -> BackboneCache:
        """An empty cache of `room` tokens for each text, `context_len` when not given."""
        device = self.tokens.weight.device
        return BackboneCache(
            hugging_face().DynamicCache(config=self.lm.config),
            torch.zeros(n_texts, 0, dtype=torch.bool, device=device),
            torch.zeros(n_texts, dtype=torch.long, device=device),
            room or self.context_len,
        )

    def plain(self) -> Any:
        """The library's model with the adapters merged in and rows in its own order. Ends this one's life."""
        lm = self._tuned.merge_and_unload() if self.config.lora.r else self.lm
        restore(lm, self.order, self.tokenizer)
        return lm

    def train(self, mode: bool = True) -> Backbone:
        """Set training or evaluation mode, of the frozen model too: dropout and recomputing follow it."""
        self.lm.train(mode)
        super().train(mode)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Backbone:
        """A copy that shares the frozen weights."""
        memo.update({id(shared): shared for shared in (self.tokenizer, *self._frozen())})
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__dict__.update({name: copy.deepcopy(value, memo) for name, value in self.__dict__.items()})
        return made

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Backbone:
        if self.config.lora.r:
            self.lm._apply(fn, recurse)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        saved = state_dict.get(f"{prefix}fingerprint")
        own = getattr(self, "fingerprint", None)
        if saved is not None and own is not None and not torch.equal(saved.cpu(), own.cpu()):
            message = f"the adapters belong to another backbone than what {self.config.backbone} is now"
            raise JepalmError(message, "put the one back that they were trained on")
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _hold(self, name: str, thing: Any) -> None:
        """Keep something that is no submodule."""
        self.__dict__[name] = thing

    def _frozen(self) -> list[nn.Parameter]:
        if not self.config.lora.r:
            return []
        learned = {id(p) for p in self.parameters()}
        return [p for p in self.lm.parameters() if id(p) not in learned]

    def _adapt(self, config: ModelConfig) -> nn.ModuleDict:
        """Put adapters into the model; return them by the layer they are in."""
        from peft import LoraConfig, get_peft_model
        from peft.tuners.lora import LoraLayer

        lora = config.lora
        wanted = LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha or 2 * lora.r,
            lora_dropout=lora.dropout,
            target_modules="all-linear",
        )
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of one library to the other
            self._hold("_tuned", get_peft_model(self.lm, wanted))
        self._hold("lm", self._tuned.get_base_model())
        parts = {"down": "lora_A", "up": "lora_B", "dropout": "lora_dropout"}
        return nn.ModuleDict(
            {
                name.replace(".", "/"): nn.ModuleDict(
                    {part: getattr(layer, theirs)["default"] for part, theirs in parts.items()}
                )
                for name, layer in self.lm.named_modules()
                if isinstance(layer, LoraLayer)
            }
        )

    @property
    def _front(self) -> int:
        """Tokens that stand in front of every text."""
        return int(self.tokenizer.begin is not None)

    def _begun(self, ids: Tensor) -> Tensor:
        """(B, T) to (B, F + T), with the beginning in front."""
        return ids if self.tokenizer.begin is None else F.pad(ids, (1, 0), value=self.tokenizer.begin)

    def _read(self, ids: Tensor, mask: Any, positions: Tensor | None, **named: Any) -> Tensor:
        """States (B, T, D) of the last layer, after the last norm."""
        read = self.lm.base_model(
            inputs_embeds=self.embed(ids), attention_mask=mask, position_ids=positions, **named
        )
        return read.last_hidden_state

    def _hidden_after(self, ids: Tensor, cache: BackboneCache) -> Tensor:
        """States of what follows a cache, (B, T, D). The first texts, of unequal length, are right-aligned.

        So columns of the cache are as far apart as places of the text, which sliding windows go by.
        """
        width = ids.shape[1]
        steps = torch.arange(width + self._front, device=ids.device)
        first = not cache.filled
        if first:
            lengths = (ids != TextTokenizer.PAD).sum(1)  # (B,)
            missing = (width - lengths)[:, None]  # (B, 1)
            places = steps - missing  # (B, F + T) in the text with its beginning; below 0: nothing
            positions = places.clamp(min=0)
            ids, seen = self._begun(ids).gather(1, positions), places >= 0
        else:
            lengths = torch.full_like(cache.lengths, width)
            positions = cache.lengths[:, None] + self._front + steps[:width]  # (B, T)
            seen = torch.ones_like(ids, dtype=torch.bool)
        cache.seen = torch.cat((cache.seen, seen), 1)
        cache.lengths = cache.lengths + lengths
        cache.filled = min(cache.room, cache.filled + width)
        states = self._read(ids, cache.seen, positions, past_key_values=cache.past, use_cache=True)
        if not first:
            return states
        columns = (steps[:width] + missing + self._front).clamp(max=width + self._front - 1)  # (B, T)
        return states.gather(1, columns[..., None].expand(-1, -1, states.shape[-1]))

    def _apart(self, segments: Tensor) -> tuple[Any, Tensor]:
        """Mask and positions (B, F + T) for each segment to be a text of its own.

        One beginning serves all segments: it sees only itself, so it is the same in front of each.
        """
        own, places = apart(segments)
        if self._front:
            own = F.pad(F.pad(own, (1, 0), value=True), (0, 0, 1, 0), value=False)  # (B, 1 + T, 1 + T)
            own[:, 0, 0] = True
            places = F.pad(places + 1, (1, 0))  # (B, 1 + T)
        return self._masks(own, places), places

    def _masks(self, seen: Tensor, places: Tensor) -> Any:
        """What may be seen (B, T, T) as the library takes it: for each kind of layer, if there are several.

        Raises:
            UsageError: the model has layers whose mask is not known.
        """
        config = self.lm.config.get_text_config()
        window: int = getattr(config, "sliding_window", None) or 0
        kinds = set(getattr(config, "layer_types", None) or [SLIDING if window else FULL])
        if not kinds <= {FULL, SLIDING}:
            odd = ", ".join(sorted(kinds - {FULL, SLIDING}))
            raise UsageError(f"layers of kind {odd} cannot hold two views apart", "take another backbone")
        masks = {}
        for kind in kinds:
            mask = seen
            if kind == SLIDING:
                mask = seen & (places[:, :, None] - places[:, None] < window)
            masks[kind] = self._additive(mask[:, None])  # (B, 1, T, T)
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _additive(self, mask: Tensor) -> Tensor:
        if self.lm.config._attn_implementation == "sdpa":
            return mask
        dtype = self.tokens.weight.dtype
        least = torch.finfo(dtype).min
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, least)

    def _recompute(self) -> None:
        try:
            self.lm.activation_checkpointing_enable({"use_reentrant": False})
        except ValueError:
            message = f"{self.config.backbone} cannot compute its layers again"
            raise UsageError(message, "set model.gradient_checkpointing=false") from None

    def _check_context(self) -> None:
        own = getattr(self.lm.config.get_text_config(), "max_position_embeddings", None)
        if own is not None and self.context_len + self._front > own:
            message = f"model.causal.context_len {self.context_len} is more than {self.config.backbone} has"
            raise UsageError(message, f"it reads {own - self._front} tokens")

    @torch.no_grad()
    def _check_split(self) -> None:
        """Make sure that `logits` of `hidden` is what the library's own pass gives."""
        self.eval()
        ids = torch.arange(min(8, self.vocab_size))[None]  # (1, T) any tokens do
        theirs = self.lm(input_ids=self._begun(ids), use_cache=False).logits[:, self._front :]
        theirs = theirs[..., : self.vocab_size].float()
        try:
            difference = (self(ids).float() - theirs).abs().max()
            same = bool(difference <= 1e-3 * theirs.abs().max().clamp(min=1))
        except (TypeError, AttributeError):
            same = False
        if not same:
            message = f"{self.config.backbone} makes its logits in a way that is not known here"
            raise UsageError(message, "take a model like Llama, Mistral, Qwen, Gemma or GPT-2")
        self.train()
