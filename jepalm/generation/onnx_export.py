"""Encoder, predictor and decoder of a JEPALM as ONNX files, for programs without Python.

    encoder.onnx    ids (B, S), lengths (B)  ->  embeddings (B, S, D)
    predictor.onnx  embeddings (B, S, D), lengths (B), target_lengths (B)  ->  predicted (B, T', D')
    decoder.onnx    predicted (B, T', D'), target_lengths (B)  ->  logits (B, T, V)

B and S are free, T is `model.target_len`. The encoder of a model with a length head also gives
`target_lengths` (B); where actions are read it takes `action_ids` (B, A) and `action_lengths` (B) and gives
`action_embeddings` (B, A, D) for the predictor. A light decoder is one step, to be called for each position
in turn: its `predicted` (B, D') and the tokens before it, `previous` (B, m) with the nearest first, to
`logits` (B, V). A recurrent one reads the last token alone and its `state` (B, H), at first the encoder's,
and gives the `next_state`.

Each file is run with onnxruntime as soon as it is written, and compared with what the model itself computes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepalm.config import ModelConfig
from jepalm.data.batches import Batch, Tokens, pad_rows
from jepalm.data.tokenizer import SPECIALS
from jepalm.errors import JepalmError, UsageError
from jepalm.generation.loading import TrainedModel
from jepalm.model.conditioning import ActionView, Conditioning
from jepalm.model.decoder import LocalDecoder, RecurrentDecoder, TextDecoder
from jepalm.model.layout import Layout
from jepalm.objective.context import last_tokens
from jepalm.objective.jepalm import JepalmObjective

NEEDED = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-3
"""Largest difference to torch, over the largest magnitude or 1, with which a file is kept."""
N_TRACED, N_TEXTS = 3, 2
"""Random texts that a file is made with, and those that it is checked on, of other lengths."""


@dataclass(frozen=True)
class Checked:
    """A file that was compared with torch.

    Attributes:
        name: of the file.
        difference: the largest of all its outputs, absolute.
        n_texts: random texts of unequal length that were read.
    """

    name: str
    difference: float
    n_texts: int


def check_onnx(trained: TrainedModel) -> None:
    """Check that a model has the three parts, and that the packages are there.

    Raises:
        UsageError: it is a causal one, fills gaps, or decodes without embeddings or with counts; or a package
            is missing.
    """
    if trained.is_causal:
        message = f"{trained.run.name} is a causal model: it has no encoder, predictor and decoder"
        raise UsageError(message, "leave --onnx out")
    if trained.pairing == "spans":
        raise UsageError(f"{trained.run.name} fills gaps, which --onnx does not write", "leave --onnx out")
    if trained.config.model.decoder.embeddings != "predicted":
        raise UsageError(f"{trained.run.name} decodes without embeddings, as a control", "leave --onnx out")
    if trained.config.model.decoder.ngram:
        message = f"{trained.run.name} decodes with model.decoder.ngram, whose counts are no ONNX operation"
        raise UsageError(message, "leave --onnx out")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(f"--onnx needs {' and '.join(missing)}", "pip install 'jepalm[onnx]'")


def write_onnx(trained: TrainedModel, folder: Path) -> list[Checked]:
    """Write the three files into a folder and compare each with torch.

    Args:
        trained: a JEPALM on a CPU in float32, with plain attention and without packing.
        folder: to write into.

    Returns:
        each file with its largest difference.

    Raises:
        JepalmError: a file does not compute what the model computes.
    """
    objective = trained.jepalm
    assert not objective.packing
    with torch.no_grad():
        examples = [_Example.of(objective, n_texts) for n_texts in (N_TRACED, N_TEXTS)]
        found = []
        for make in (_encoder, _predictor, _decoder):
            part = make(objective, *examples)
            part.write(folder)
            difference, scale = part.compare(folder)
            if not difference <= TOLERANCE * max(1.0, scale):
                message = f"{part.file} differs from torch by {difference:.1e}"
                raise JepalmError(message, "leave --onnx out, and report it")
            found.append(Checked(part.file, difference, N_TEXTS))
    return found


@dataclass(frozen=True)
class _Part:
    """A file: what computes it, what it is traced and checked with, and what has to come out.

    Attributes:
        file: its name.
        module: takes the inputs in their order and returns a tuple.
        inputs: by name.
        free: by name, what the axes that are not fixed are called.
        outputs: names.
        expected: of each run of the file, its inputs and the right outputs with a mask of what counts.
    """

    file: str
    module: nn.Module
    inputs: dict[str, Tensor]
    free: dict[str, dict[int, str]]
    outputs: Sequence[str]
    expected: Sequence[tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]]

    def write(self, folder: Path) -> None:
        """Write the file, weights inside."""
        names = {name for axes in self.free.values() for name in axes.values()}
        dims = {name: torch.export.Dim(name) for name in sorted(names)}
        shapes = tuple(
            {axis: dims[dim] for axis, dim in self.free.get(name, {}).items()} for name in self.inputs
        )
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with warnings.catch_warnings(action="ignore"):  # of the exporter, about its own parts
            torch.onnx.export(
                self.module.eval(),
                tuple(self.inputs.values()),
                folder / self.file,
                dynamo=True,
                external_data=False,
                dynamic_shapes=(shapes,),
                input_names=list(self.inputs),
                output_names=list(self.outputs),
                verbose=False,
            )

    def compare(self, folder: Path) -> tuple[float, float]:
        """The largest difference of an output to what torch computes, and the largest magnitude."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(folder / self.file, options, ["CPUExecutionProvider"])
        difference = scale = 0.0
        state: Any = None
        for inputs, right in self.expected:
            fed = {name: value.contiguous().numpy() for name, value in inputs.items()}
            if state is not None:
                fed["state"] = state
            found = dict(zip(self.outputs, session.run(list(self.outputs), fed), strict=True))
            state = found.get("next_state")
            for name, (value, counts) in right.items():
                ours, theirs = value.double().numpy(), np.asarray(found[name], np.float64)
                held = np.broadcast_to(counts.numpy(), ours.shape)
                wrong = np.abs(ours - theirs)[held].max(initial=0.0)
                difference = float(np.maximum(difference, wrong))  # not-a-number stays
                scale = max(scale, float(np.abs(ours)[held].max(initial=0.0)))
        return difference, scale


class _Forward(nn.Module):
    """A module of a function over the parameters of a model."""

    def __init__(self, model: nn.Module, function: Any) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What the function makes of its inputs."""
        return tuple(self.function(*inputs))


@dataclass(frozen=True)
class _Example:
    """Random texts of unequal length and what the model makes of them.

    Attributes:
        source: texts to read.
        action: on each, where the model reads actions.
        target: texts that the decoder is checked with.
        embeddings: (B, S, D) of the sources.
        layout: of the sources.
        act: of the actions.
        places: positions of the targets, `model.target_len` wide.
        predicted: (B, T', D') embeddings of the targets.
    """

    source: Tokens
    action: Tokens | None
    target: Tokens
    embeddings: Tensor
    layout: Layout
    act: ActionView | None
    places: Layout
    predicted: Tensor

    @classmethod
    def of(cls, objective: JepalmObjective, n_texts: int) -> _Example:
        """Draw texts for a model and read them; `N_TRACED` texts are as long as may be, others shorter."""
        config, draw = objective.model.config, torch.Generator().manual_seed(n_texts)
        conditioned = config.action.conditioning != "none"

        def texts(longest: int) -> Tokens:
            most = longest if n_texts == N_TRACED else max(1, longest - 1)
            sizes = torch.linspace(most, 1, n_texts).long().tolist()
            first = len(SPECIALS)
            rows = [torch.randint(first, objective.vocab_size, (n,), generator=draw).tolist() for n in sizes]
            return pad_rows(rows, torch.device("cpu"))

        source, target = texts(config.source_len), texts(config.target_len)
        missing = config.target_len - target.ids.shape[1]
        target = Tokens(F.pad(target.ids, (0, missing)), target.lengths)
        action = texts(config.longest_action) if conditioned else None
        embeddings, layout = objective.encode_source(source)
        act = objective.encode_action(action)
        places = objective.layout(target)
        predicted = objective.predict(embeddings, layout, places, Conditioning(act))
        return cls(source, action, target, embeddings, layout, act, places, predicted)


def _encoder(objective: JepalmObjective, traced: _Example, seen: _Example) -> _Part:
    """Sources and actions to embeddings, lengths of the targets and a decoder's first state."""
    model, config = objective.model, objective.model.config
    recurrent = model.decoder if isinstance(model.decoder, RecurrentDecoder) else None

    def encode(ids: Tensor, lengths: Tensor, *action: Tensor) -> list[Tensor]:
        layout = objective.lay_out_sources(lengths, ids.shape[1])
        embeddings = model.encoder(ids, layout)  # (B, S, D)
        made, act = [embeddings], None
        if action:
            of_action = Layout.of(action[1], action[0].shape[1], packed=False)
            act = (model.action or model.encoder)(action[0], of_action), of_action
            made.append(act[0])
        if model.length is not None:
            likely = objective.likely_lengths(embeddings, layout, 1, act)
            assert likely is not None
            made.append(likely[:, 0])
        if recurrent is not None:
            made.append(first_state(recurrent, config, Tokens(ids, lengths), layout.last(embeddings)))
        return made

    def inputs_of(texts: _Example) -> dict[str, Tensor]:
        inputs = {"ids": texts.source.ids, "lengths": texts.source.lengths}
        if texts.action is None:
            return inputs
        return inputs | {"action_ids": texts.action.ids, "action_lengths": texts.action.lengths}

    everywhere = torch.ones(1, dtype=torch.bool)
    right = {"embeddings": (seen.embeddings, seen.layout.mask[..., None])}
    if seen.act is not None:
        right["action_embeddings"] = seen.act[0], seen.act[1].mask[..., None]
    likely = objective.likely_lengths(seen.embeddings, seen.layout, 1, seen.act)
    if likely is not None:
        right["target_lengths"] = likely[:, 0], everywhere
    if recurrent is not None:
        last = seen.layout.last(seen.embeddings)
        right["state"] = first_state(recurrent, config, seen.source, last), everywhere
    free = {
        "ids": {0: "batch", **_axis(1, "source", config.source_len)},
        "lengths": {0: "batch"},
        "action_ids": {0: "batch", **_axis(1, "action", config.longest_action)},
        "action_lengths": {0: "batch"},
    }
    checks = [(inputs_of(seen), right)]
    return _Part("encoder.onnx", _Forward(model, encode), inputs_of(traced), free, list(right), checks)


def _predictor(objective: JepalmObjective, traced: _Example, seen: _Example) -> _Part:
    """Source embeddings to predicted embeddings of targets of given lengths."""
    model, config = objective.model, objective.model.config

    def predict(embeddings: Tensor, lengths: Tensor, target_lengths: Tensor, *action: Tensor) -> list[Tensor]:
        layout = objective.lay_out_sources(lengths, embeddings.shape[1])
        target = objective.embedding_layout(Layout.of(target_lengths, config.target_len, packed=False))
        act = None
        if action:
            act = action[0], Layout.of(action[1], action[0].shape[1], packed=False)
        return [model.predictor(target, embeddings, layout, Conditioning(act)).embeddings]

    def inputs_of(texts: _Example) -> dict[str, Tensor]:
        inputs = {
            "embeddings": texts.embeddings,
            "lengths": texts.source.lengths,
            "target_lengths": texts.target.lengths,
        }
        if texts.action is None or texts.act is None:
            return inputs
        return inputs | {"action_embeddings": texts.act[0], "action_lengths": texts.action.lengths}

    free = {
        "embeddings": {0: "batch", **_axis(1, "source", config.source_len)},
        "lengths": {0: "batch"},
        "target_lengths": {0: "batch"},
        "action_embeddings": {0: "batch", **_axis(1, "action", config.longest_action)},
        "action_lengths": {0: "batch"},
    }
    held = objective.embedding_layout(seen.places).mask[..., None]
    checks = [(inputs_of(seen), {"predicted": (seen.predicted, held)})]
    return _Part("predictor.onnx", _Forward(model, predict), inputs_of(traced), free, ["predicted"], checks)


def _decoder(objective: JepalmObjective, traced: _Example, seen: _Example) -> _Part:
    """Embeddings to logits: of all positions, or of one by a light decoder's step."""
    decoder, config = objective.model.decoder, objective.model.config
    held = seen.places.mask[..., None]  # (B, T, 1)
    if isinstance(decoder, TextDecoder):

        def decode(predicted: Tensor, target_lengths: Tensor) -> list[Tensor]:
            return [decoder(predicted, Layout.of(target_lengths, config.target_len, packed=False))]

        def inputs_of(texts: _Example) -> dict[str, Tensor]:
            return {"predicted": texts.predicted, "target_lengths": texts.target.lengths}

        checks = [(inputs_of(seen), {"logits": (objective.decode(seen.predicted, seen.places), held)})]
        free = {"predicted": {0: "batch"}, "target_lengths": {0: "batch"}}
        whole = _Forward(decoder, decode)
        return _Part("decoder.onnx", whole, inputs_of(traced), free, ["logits"], checks)

    pairs = Batch(seen.source, seen.target, seen.action, N_TEXTS, int(seen.target.lengths.sum()))
    context = objective.decoder_context(pairs, seen.embeddings, seen.layout)
    logits = objective.decode(seen.predicted, seen.places, context)  # (B, T, V) of all positions at once
    recurrent = decoder if isinstance(decoder, RecurrentDecoder) else None
    m = 1 if recurrent is not None else config.decoder.n_previous
    steps = []
    for place in range(config.target_len):
        inputs = {"predicted": seen.predicted[:, place], "previous": context.previous[:, place, :m]}  # (B, m)
        steps.append((inputs, {"logits": (logits[:, place], held[:, place])}))
    first = {"predicted": traced.predicted[:, 0], "previous": traced.source.ids[:, :1].expand(-1, m)}
    outputs = ["logits"]
    if recurrent is not None:
        steps[0][0]["state"] = first_state(recurrent, config, seen.source, context.source)  # (B, H)
        last = traced.layout.last(traced.embeddings)
        first["state"] = first_state(recurrent, config, traced.source, last)
        outputs.append("next_state")
    elif not m:
        for inputs in (first, *(inputs for inputs, _ in steps)):
            del inputs["previous"]
    free = {name: {0: "batch"} for name in first}
    return _Part("decoder.onnx", _Forward(decoder, step_of(decoder)), first, free, outputs, steps)


def step_of(decoder: LocalDecoder | RecurrentDecoder) -> Any:
    """One position of a light decoder as a function of tensors; see the file's inputs and outputs."""
    if isinstance(decoder, LocalDecoder):

        def local_step(predicted: Tensor, *previous: Tensor) -> list[Tensor]:
            h = decoder.embedding(predicted)  # (B, H)
            for k, table in enumerate(decoder.tokens):
                h = h + table(previous[0][:, k])
            return [decoder.logits(h)]

        return local_step

    def recurrent_step(predicted: Tensor, previous: Tensor, state: Tensor) -> list[Tensor]:
        x = decoder.embedding(predicted) + decoder.tokens(previous[:, 0])  # (B, H)
        state = next_state(decoder, x, state)
        return [decoder.vocabulary(state), state]

    return recurrent_step


def first_state(decoder: RecurrentDecoder, config: ModelConfig, source: Tokens, last: Tensor) -> Tensor:
    """The state (B, H) before the first position, which knows the source's last embedding (B, D).

    Of a decoder that reads several tokens it has read those before the source's last one.
    """
    state = decoder.start_state(last)  # (B, H)
    before = last_tokens(source, config.decoder.n_previous)  # (B, m), the last first
    for k in range(config.decoder.n_previous - 1, 0, -1):
        state = next_state(decoder, decoder.tokens(before[:, k]), state)
    return state


def next_state(decoder: RecurrentDecoder, x: Tensor, state: Tensor) -> Tensor:
    """The state (B, H) after one more input (B, H) of the GRU (arXiv 1406.1078)."""
    weight, recurrent, bias, recurrent_bias = decoder.gru.parameters()
    read = F.linear(x, weight, bias).chunk(3, -1)  # reset, update, candidate: three of (B, H)
    held = F.linear(state, recurrent, recurrent_bias).chunk(3, -1)
    reset, update = ((a + b).sigmoid() for a, b in zip(read[:2], held[:2], strict=True))
    candidate = torch.tanh(read[2] + reset * held[2])
    return candidate + update * (state - candidate)


def _axis(axis: int, name: str, longest: int) -> dict[int, str]:
    """A free axis; one that is never longer than 1 is fixed."""
    return {axis: name} if longest > 1 else {}
