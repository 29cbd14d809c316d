"""The shipped recipes: how many, what each changes, and that what each says of itself is true."""

from typing import Any

import pytest
import torch
import yaml

from jepalm.config import (
    Config,
    differences,
    dump,
    from_mapping,
    load_preset,
    preset_facts,
    preset_names,
    resolve,
)
from jepalm.hardware import Hardware
from jepalm.objective import build_objective

VOCABULARY = {
    "shakespeare": 100,
    "shakespeare-windows": 100,
    "shakespeare-spans": 101,
    "nl-rx": 512,
    "cmudict": 328,
    "home": 358,
    "openwebtext": 16384,
}
"""Tokens of the data as its `jepalm prepare` command makes it."""


def changed(name: str, base: str) -> dict[str, Any]:
    """What a preset changes in another but its name."""
    found = differences(resolve(base), resolve(name))
    return {key: after for key, (_, after) in found.items() if key != "preset"}


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_resolves_and_reads_back_the_same(name: str):
    config = resolve(name)
    assert config.preset == name
    assert from_mapping(yaml.safe_load(dump(config))) == config
    assert not {"base", "about"} & load_preset(name).keys()


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_says_in_one_line_who_wants_it_and_how_large_its_model_is(name: str):
    facts, config = preset_facts(name), resolve(name)
    assert 0 < len(facts.purpose) <= 105
    if config.model.backbone is not None:
        assert facts.parameters is None
        return
    meta = Hardware(torch.device("meta"), "fp32", 1, False, "auto", False, "meta")
    with meta.device:
        built = build_objective(config.model, config.objective, VOCABULARY[config.data.name], meta)
    assert facts.parameters == sum(built.parameters_by_part().values())


def test_there_are_few_presets():
    assert len(preset_names()) <= 24


def test_the_best_recipe_is_the_reference_with_noise_and_the_generation_term():
    assert changed("shakespeare-next", "shakespeare") == {
        "objective.generation.weight": 1.0,
        "objective.autoencoder.token_dropout": 0.15,
        "objective.autoencoder.latent_dropout": 0.15,
        "objective.kl.weight": 0.001,
    }


def test_two_phases_change_nothing_but_the_phases():
    phases = changed("shakespeare-two-phase", "shakespeare").pop("training.phases")
    assert [{key: item for key, item in phase.items() if item is not None} for phase in phases] == [
        {
            "name": "autoencoder",
            "share": 1,
            "train": ("encoder", "decoder", "local"),
            "terms": ("reconstruction", "local", "kl", "regularizer"),
        },
        {
            "name": "predictor",
            "share": 4,
            "train": ("predictor", "length"),
            "terms": ("embedding", "generation", "length"),
        },
    ]


def test_llm_jepa_is_the_baseline_with_its_latent_term():
    assert changed("nl-rx-llm-jepa", "nl-rx-ar") == {"objective.latent.weight": 1.0}


def test_both_models_of_pronunciations_are_of_nearly_equal_size_and_learn_from_the_same_pairs():
    own, causal = resolve("g2p"), resolve("g2p-ar")
    sizes = [preset_facts(config.preset).parameters or 0 for config in (own, causal)]
    assert abs(sizes[1] / sizes[0] - 1) < 0.1
    assert own.data == causal.data
    assert (own.model.source_len, own.model.target_len) == (causal.model.source_len, causal.model.target_len)


def test_overrides_go_on_top_of_a_preset_with_a_base():
    config = resolve("shakespeare-next", overrides=["objective.kl.weight=0.1"])
    assert (config.objective.generation.weight, config.objective.kl.weight) == (1.0, 0.1)


def test_the_defaults_are_the_reference_but_for_intervals():
    found = differences(resolve("shakespeare"), Config()).keys()
    assert found == {"training.steps_per_epoch", "training.log_every", "training.validate_every"}


def test_the_latent_world_model_differs_from_transitions_in_what_is_learned():
    assert changed("transitions-latent", "transitions").keys() == {
        "objective.embedding.weight",
        "objective.generation.weight",
        "objective.regularizer.kind",
        "training.phases",
    }
    jepa, probe = resolve("transitions-latent").training.phases
    assert "decoder" not in (jepa.train or ())
    assert (probe.train, probe.terms) == (("decoder",), ("reconstruction",))


def test_the_baseline_of_transitions_is_of_nearly_equal_size_and_reads_the_same():
    own, causal = resolve("transitions"), resolve("transitions-ar")
    sizes = [preset_facts(config.preset).parameters or 0 for config in (own, causal)]
    assert abs(sizes[1] / sizes[0] - 1) < 0.1
    for key in ("source_len", "target_len", "action_len"):
        assert getattr(own.model, key) == getattr(causal.model, key)
    assert own.training == causal.training
    rate = {name: getattr(own.optimizer, name) for name in ("lr", "warmup_steps")}  # each model has its own
    assert own.optimizer == causal.optimizer.model_copy(update=rate)
