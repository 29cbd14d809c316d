"""A trained model: texts, embeddings and scores."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from jepalm.config import Config, HardwareConfig, from_mapping
from jepalm.data.pairs.records import BadRowError
from jepalm.data.pairs.rows import Row, as_mapping
from jepalm.errors import UsageError, nearest
from jepalm.evaluation.distances import TokenPairs, distances, view_distances
from jepalm.generation import embeddings
from jepalm.generation.infill import fill, read_gaps
from jepalm.generation.loading import TrainedModel, load_folder
from jepalm.generation.prompts import check_alphabet, read_action, read_prompts
from jepalm.generation.refine import Order, Refining
from jepalm.generation.writer import TEXTS_AT_ONCE, Prompt
from jepalm.generation.writers import WritingOptions, default_temperature, writer_for
from jepalm.hardware import choose_hardware

Score = Literal["nll", "distance"]
"""`nll`: nats a token. `distance`: of embeddings."""


def load(
    path: str | os.PathLike[str],
    *,
    checkpoint: str | int | None = None,
    device: str | torch.device = "auto",
    precision: str = "auto",
) -> Model:
    """Load a trained model.

    Args:
        path: a run's folder, such as `runs/latest`, or one that `jepalm export` wrote.
        checkpoint: of a run: `last`, `best`, or a step. When None the last, or the best of one that ended
            early.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        precision: `auto`, `fp32` or `bf16`.

    Raises:
        UsageError: there is no such model, checkpoint or device.
        JepalmError: it is damaged.
    """
    which = None if checkpoint is None else str(checkpoint)
    return Model(load_folder(Path(path), which, _hardware(device, precision)), precision)


class Model:
    """A trained model of any family: a JEPALM, a world model, a causal one, a Hugging Face backbone."""

    def __init__(self, trained: TrainedModel, precision: str = "auto") -> None:
        self._trained, self._precision = trained, precision

    def __repr__(self) -> str:
        """Name, family, step and device in one line."""
        model = self.config.model
        kind: str = model.family if model.backbone is None else "backbone"
        if kind == "jepalm":
            kind += f" with a {model.decoder.kind} decoder"
        return f"<jepalm.Model {self.name}: {kind}, step {self.step:,}, on {self.device}>"

    @property
    def name(self) -> str:
        """Name of the run or the folder."""
        return self._trained.run.name

    @property
    def path(self) -> Path:
        """The run's folder, or the exported one."""
        return self._trained.run.path

    @property
    def step(self) -> int:
        """Training steps behind the weights."""
        return self._trained.checkpoint.step

    @property
    def config(self) -> Config:
        """All settings that it was trained with."""
        return self._trained.config

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._trained.hardware.device

    @property
    def reads_actions(self) -> bool:
        """Whether every source comes with an action: a world model."""
        return self._trained.reads_actions

    @property
    def usual_score(self) -> Score:
        """What `score` gives by itself.

        `nll` where the model is trained on the likelihood of text, token after token: causal models, and
        JEPALMs with a light decoder. `distance` where a parallel decoder writes every token independently.
        """
        model = self.config.model
        return "nll" if model.family == "causal" or model.decoder.autoregressive else "distance"

    def to(self, device: str | torch.device) -> Model:
        """Move to another device; returns itself.

        Raises:
            UsageError: it is not here.
        """
        trained, hardware = self._trained, choose_hardware(_hardware(device, self._precision))
        trained.objective.to(hardware.device)
        trained.objective.packing = hardware.packing
        self._trained = replace(trained, hardware=hardware)
        return self

    def generate(
        self,
        prompts: Sequence[str],
        *,
        actions: Sequence[str] | None = None,
        length: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        passages: int = 1,
        length_candidates: int = 1,
        beams: int = 1,
        refine: int = 1,
        order: Order = "random",
        seed: int = 0,
        batch_size: int = TEXTS_AT_ONCE,
    ) -> list[str]:
        """Write a text after each prompt, as `jepalm generate` does.

        A prompt that is longer than a source is read from its end. For several texts of one prompt give it
        several times and a temperature. A model of hidden spans fills the gaps of its prompts, an underscore
        a token, and returns the whole texts.

        Args:
            prompts: the sources.
            actions: on each, for a model that reads actions.
            length: tokens to write; of a model of windows in as many passages as it takes.
            temperature: 0 takes the most likely tokens. By default 0; 1 of a model with noise, and 0.8 of a
                light decoder whose texts have no right end.
            top_k: of a model that writes token by token: draw from this many most likely tokens.
            top_p: the same: draw from the tokens that hold this probability.
            passages: to write, each the next one's source.
            length_candidates: likeliest lengths to try where the model chooses one.
            beams: texts among which a light decoder searches the likeliest, at temperature 0.
            refine: passes a passage, of a model that can refine.
            order: what these decide first.
            seed: of the draws.
            batch_size: texts that are written at once.

        Raises:
            UsageError: a prompt cannot be read, or something is asked that the model cannot do.
        """
        texts, trained = _texts(prompts, "prompts"), self._trained
        if not texts:
            return []
        drawn = default_temperature(trained, temperature, 1)
        if trained.pairing == "spans":
            searched = beams if beams > 1 else None
            _alone({"actions": actions, "length": length, "top_k": top_k, "top_p": top_p, "beams": searched})
            gaps = [read_gaps(trained, text) for text in texts]
            return [fill(trained, one, temperature=drawn, seed=seed)[0][0].text for one in gaps]
        options = WritingOptions(
            temperature=drawn,
            length=length,
            passages=passages,
            top_k=top_k,
            top_p=top_p,
            length_candidates=length_candidates,
            beams=beams,
            refining=Refining(refine, order) if refine > 1 else None,
            batch_size=batch_size,
        )
        made = writer_for(trained, options).write(self._prompts(texts, actions), seed=seed)
        return [trained.tokenizer.decode(ids) for ids in made.ids]

    def encode(self, texts: Sequence[str], *, batch_size: int = TEXTS_AT_ONCE) -> list[Tensor]:
        """The embeddings of texts as sources, (T, D) each, float32 on the CPU.

        A JEPALM's encoder gives one for each token. A causal model gives the states of its last layer.

        Args:
            texts: sources, read as `generate` reads them.
            batch_size: texts that are read at once.

        Raises:
            UsageError: a text cannot be read.
        """
        given = _texts(texts, "texts")
        prompts = [Prompt(ids) for ids in self._sources(given)] if given else []
        return embeddings.encode(self._trained, prompts, batch_size)

    def predict_embeddings(
        self,
        texts: Sequence[str],
        *,
        actions: Sequence[str] | None = None,
        length: int | None = None,
        batch_size: int = TEXTS_AT_ONCE,
    ) -> list[Tensor]:
        """The predicted embeddings of what follows each text, (T', D') each, float32 on the CPU.

        T' is the predicted length where the model has a length head, else its longest target; D' is
        `model.dim`, or `model.latent.dim`. A causal model with latent prediction (LLM-JEPA) predicts one
        embedding of the other view, (1, D).

        Args:
            texts: sources.
            actions: on each, for a model that reads actions.
            length: tokens of every target.
            batch_size: texts that are read at once.

        Raises:
            UsageError: a text cannot be read, or the model predicts no embeddings.
        """
        given = _texts(texts, "texts")
        if not given:
            return []
        return embeddings.predict(self._trained, self._prompts(given, actions), length, batch_size)

    def score(self, pairs: Iterable[Row], *, kind: Score | None = None) -> list[float]:
        """How well each target goes with its source; lower is better.

        `nll`, nats a token of the target, its end not counted. Of a causal model and of a light decoder it
        is the exact likelihood of the text; of a parallel decoder that of independent tokens, given the
        length.

        `distance`, of predicted to target embeddings: the objective's own, mean over positions. Of a causal
        model with latent prediction it is the distance of the two views.

        Args:
            pairs: (source, target), (source, target, action), or mappings with these keys. Of a target the
                first `model.target_len` tokens count.
            kind: `usual_score` when None.

        Raises:
            UsageError: a pair is none, or the model has no such score.
        """
        kind, trained = kind or self.usual_score, self._trained
        if kind not in get_args(Score):
            raise UsageError(
                f"unknown score {kind}", nearest(str(kind), get_args(Score)) or "nll or distance"
            )
        if trained.pairing == "spans":
            raise UsageError(f"{self.name} fills gaps and scores no pairs", "take a model of pairs or text")
        rows = list(pairs)
        if not rows:
            return []
        read = self._pairs(rows)
        if kind == "nll" or not trained.is_causal:
            return distances(trained, read)["ce" if kind == "nll" else "embedding"].tolist()
        if "latent" not in trained.causal.all_terms:
            message = f"{self.name} has no distance: it was trained without latent prediction"
            raise UsageError(message, 'take kind="nll"')
        return view_distances(trained, read).tolist()

    def _sources(self, texts: list[str]) -> list[list[int]]:
        """Token ids of sources in the form of the training data."""
        trained = self._trained
        if trained.pairing != "spans":
            return [one.ids for one in read_prompts(trained, texts)]
        for text in texts:
            check_alphabet(trained, text)
        return [trained.tokenizer.encode(text)[-trained.config.model.source_len :] for text in texts]

    def _prompts(self, texts: list[str], actions: Sequence[str] | None) -> list[Prompt]:
        """Sources with their actions."""
        sources = self._sources(texts)
        if actions is None:
            read_action(self._trained, None)  # an error where there has to be one
            return [Prompt(source) for source in sources]
        acts = _texts(actions, "actions")
        if len(acts) != len(sources):
            raise UsageError(f"{len(sources)} texts and {len(acts)} actions", "give an action for each text")
        pairs = zip(sources, acts, strict=True)
        return [Prompt(source, read_action(self._trained, action)) for source, action in pairs]

    def _pairs(self, rows: list[Row]) -> TokenPairs:
        """Token ids of pairs in the form of the training data."""
        found: dict[str, list[str]] = {"source": [], "target": [], "action": []}
        for number, row in enumerate(rows, 1):
            try:
                tree = as_mapping(row)
            except BadRowError as error:
                raise UsageError(f"pair {number} {error.message}", "give (source, target)") from None
            for key in ("source", "target", *(["action"] if self.reads_actions else [])):
                text = tree.get(key)
                if not isinstance(text, str) or not text:
                    raise UsageError(f"pair {number} has no {key}", "give a text that is not empty")
                found[key].append(text)
        prompts = self._prompts(found["source"], found["action"] if self.reads_actions else None)
        ends = "\n" if self._trained.pairing == "lines" else ""
        targets = []
        for text in found["target"]:
            check_alphabet(self._trained, text)
            whole = self._trained.tokenizer.encode(text.removesuffix(ends) + ends)
            targets.append(whole[: self.config.model.target_len])
        acts = [prompt.action for prompt in prompts if prompt.action is not None]
        return TokenPairs([prompt.source for prompt in prompts], targets, acts or None)


def _hardware(device: str | torch.device, precision: str) -> HardwareConfig:
    return from_mapping({"hardware": {"device": str(device), "precision": precision}}).hardware


def _texts(texts: Any, what: str) -> list[str]:
    """A list of texts.

    Raises:
        UsageError: it is one text, or holds something else.
    """
    if isinstance(texts, str):
        raise UsageError(f"{what} is one text", "give a list of texts")
    found = list(texts)
    for number, text in enumerate(found, 1):
        if not isinstance(text, str):
            raise UsageError(f"{what}: number {number} is not a text", "give a list of texts")
    return found


def _alone(given: dict[str, object]) -> None:
    """Check that nothing is asked that filling gaps does not do."""
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"{name} does nothing for a model that fills gaps", f"leave {name} out")
