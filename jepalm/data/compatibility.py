"""Whether a config goes with its data: tokenizer, pairing, actions, lengths."""

from __future__ import annotations

from jepalm.config import Config, SpansConfig
from jepalm.data.backbone_tokenizer import load_backbone_tokenizer
from jepalm.data.prepared import Meta, PreparedData
from jepalm.errors import UsageError

NGRAM_TOKENS, NGRAM_VOCABULARY = 20_000_000, 4096
"""Most training tokens that the n-gram expert of a light decoder counts, and its largest vocabulary."""


def check_data(config: Config, prepared: PreparedData) -> None:
    """Check that a config can be trained on prepared data.

    Raises:
        UsageError: it cannot; what to change is in the hint.
    """
    _check_pairing(config, prepared.meta.pairing)
    _check_tokenizer(config, prepared)
    _check_actions(config, prepared.meta.has_action)
    _check_ngram(config, prepared.meta)


def view_lengths(config: Config, meta: Meta) -> tuple[int, int]:
    """Most tokens of a source and of a target.

    A causal model reads a window as its first token and the `context_len` that it predicts.

    Raises:
        UsageError: a pair does not fit the context, or windows are to be learned in part.
    """
    model = config.model
    if model.family == "causal":
        context = model.causal.context_len
        if meta.pairing == "windows":
            if config.objective.next_token.loss_on != "all":
                message = "objective.next_token.loss_on=target does nothing with windows"
                raise UsageError(message, "a window has no source: train on lines or pairs")
            return 1, context
        lengths = {"source_len": model.source_len, "target_len": model.target_len}
        if meta.has_action:
            lengths["action_len"] = model.longest_action
        ends = len(lengths) - 1  # behind each part but the target
        if sum(lengths.values()) + ends > context:
            parts = " + ".join(f"model.{key} {length}" for key, length in lengths.items())
            raise UsageError(
                f"{parts} + {ends} for the ends between is more than model.causal.context_len {context}",
                f"set model.causal.context_len={sum(lengths.values()) + ends}",
            )
    return model.source_len, model.target_len


def _check_pairing(config: Config, pairing: str) -> None:
    """Check the settings that go with hidden spans only, with two views, and not with hidden spans.

    Raises:
        UsageError: the data has another pairing than a setting needs.
    """
    model, objective = config.model, config.objective
    if pairing == "windows" and objective.latent.weight > 0:
        message = f"objective.latent.weight does nothing with {config.data.name}, whose pairing is windows"
        raise UsageError(message, "a window has no second view: train on lines or pairs")
    if pairing != "spans":
        only = {
            "data.spans": config.data.spans != SpansConfig(),
            "objective.local.weight": objective.local.weight > 0,
        }
        for key in (key for key, asked in only.items() if asked):
            message = f"{key} does nothing with {config.data.name}, whose pairing is {pairing}"
            raise UsageError(message, "prepare the text with --pairing spans for it")
        return
    if model.family != "jepalm":
        message = f"model.family={model.family} does not go with data of pairing spans"
        raise UsageError(message, "prepare the text with --pairing windows for it")
    if objective.length.kind != "none":
        message = "hidden spans have no length to predict: their places are given"
        raise UsageError(message, "set objective.length.kind=none, or take --preset shakespeare-spans")
    if model.source_len != model.target_len or model.source_len < 2:
        sizes = f"model.source_len {model.source_len} and model.target_len {model.target_len}"
        message = f"{sizes} do not go with hidden spans, which lie inside the source"
        raise UsageError(message, "set both to the same, 2 or more")
    if model.predictor.intermediate_logits:
        message = "model.predictor.intermediate_logits does not go with hidden spans"
        raise UsageError(message, "what is hidden next need not follow: set it to false")
    if model.latent.tokens > 1:
        message = f"model.latent.tokens={model.latent.tokens} does not go with hidden spans"
        raise UsageError(message, "one latent would hold hidden and visible tokens: set it to 1")


def _check_ngram(config: Config, meta: Meta) -> None:
    """Check that counts of the training text fit into memory, and are of what the decoder learns.

    Raises:
        UsageError: they are not.
    """
    if not config.model.decoder.ngram:
        return
    hint = "set model.decoder.ngram=0"
    if meta.pairing == "pairs" and config.objective.decoder_lm.weight > 0:
        message = "model.decoder.ngram counts targets, and objective.decoder_lm reads the sources of pairs"
        raise UsageError(message, "set one of them to 0")
    for what, found, most in (
        ("training tokens", meta.splits["train"].tokens, NGRAM_TOKENS),
        ("tokens in the vocabulary", meta.vocab_size, NGRAM_VOCABULARY),
    ):
        if found > most:
            message = f"{config.data.name} has {found:,} {what}, model.decoder.ngram counts at most {most:,}"
            raise UsageError(message, hint)


def _check_tokenizer(config: Config, prepared: PreparedData) -> None:
    """Check that the data was prepared with the backbone's tokenizer.

    Raises:
        UsageError: it was not, or the backbone's cannot be read.
    """
    name = config.model.backbone
    if name is None:
        return
    if load_backbone_tokenizer(name).text.to_json() != prepared.tokenizer.to_json():
        message = f"{prepared.path} was not prepared with the tokenizer of {name}"
        raise UsageError(message, f"prepare it with --tokenizer {name}")


def _check_actions(config: Config, has_action: bool) -> None:
    """Check that there are actions where the model is conditioned on them.

    Raises:
        UsageError: the data has none.
    """
    if config.model.action.conditioning != "none" and not has_action:
        message = f"{config.data.name} has no actions, and this model is conditioned on one"
        raise UsageError(message, "train on transitions, or set model.action.conditioning=none")
