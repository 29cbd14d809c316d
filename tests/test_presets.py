from typing import Any

import pytest
import torch
import yaml

from jepalm.config import Config, differences, dump, from_mapping, load_preset, preset_names, resolve

ENCODING, PREDICTING = ("encoder", "decoder", "local"), ("predictor", "length")
CHANGES: dict[str, dict[str, Any]] = {
    "no-length": {"objective.length.kind": "none"},
    "length-classification": {"objective.length.kind": "classification"},
    "uncertainty": {"objective.weighting": "uncertainty"},
    "ema-weights": {"objective.weighting": "ema"},
    "ema-target": {"objective.targets.encoder": "ema"},
    "vicreg": {"objective.regularizer.kind": "vicreg"},
    "sigreg": {"objective.regularizer.kind": "sigreg", "objective.regularizer.weight": 0.05},
    "generation": {"objective.generation.weight": 1.0},
    "noisy-autoencoder": {
        "objective.autoencoder.token_dropout": 0.15,
        "objective.autoencoder.latent_dropout": 0.15,
        "objective.kl.weight": 0.001,
    },
    "two-phase": {
        "training.phases": (
            {
                "name": "autoencoder",
                "share": 1,
                "train": ENCODING,
                "terms": ("reconstruction", "local", "kl", "regularizer"),
            },
            {
                "name": "predictor",
                "share": 4,
                "train": PREDICTING,
                "terms": ("embedding", "generation", "length"),
            },
        )
    },
    "deep-predictor": {
        "model.predictor.n_layers": 8,
        "model.predictor.dim": 512,
        "model.predictor.n_heads": 8,
    },
    "deeper-predictor": {
        "model.predictor.n_layers": 12,
        "model.predictor.dim": 512,
        "model.predictor.n_heads": 8,
    },
}


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_resolves_and_reads_back_the_same(name: str) -> None:
    config = resolve(name)
    assert config.preset == name
    assert from_mapping(yaml.safe_load(dump(config))) == config


def given(value: Any) -> Any:
    """A setting, of a phase what is not empty."""
    if not isinstance(value, tuple):
        return value
    return tuple({key: item for key, item in phase.items() if item is not None} for phase in value)


@pytest.mark.parametrize("name", CHANGES)
def test_a_variation_changes_one_thing_of_the_reference(name: str) -> None:
    preset = f"shakespeare-{name}"
    changed = differences(resolve("shakespeare"), resolve(preset))
    assert changed.pop("preset") == ("shakespeare", preset)
    assert {key: given(after) for key, (_, after) in changed.items()} == CHANGES[name]


def test_latents_are_the_noisy_autoencoder_with_four_tokens_each() -> None:
    changed = differences(resolve("shakespeare-noisy-autoencoder"), resolve("shakespeare-latents"))
    assert changed.pop("preset")
    assert {key: after for key, (_, after) in changed.items()} == {
        "model.latent.tokens": 4,
        "objective.kl.weight": 0.00025,
    }


NL_RX: dict[str, dict[str, Any]] = {
    "llm-jepa": {"objective.latent.weight": 1.0},
    "llm-jepa-dropout": {
        "objective.latent.weight": 1.0,
        "objective.latent.dropout": 0.5,
        "objective.latent.rescale": True,
    },
    "llm-jepa-dropout-75": {
        "objective.latent.weight": 1.0,
        "objective.latent.dropout": 0.75,
        "objective.latent.rescale": True,
    },
    "stp": {"objective.tube.weight": 0.02},
}


@pytest.mark.parametrize("name", NL_RX)
def test_a_latent_variation_changes_nothing_but_its_term(name: str) -> None:
    changed = differences(resolve("nl-rx-ar"), resolve(f"nl-rx-{name}"))
    assert changed.pop("preset")
    assert {key: after for key, (_, after) in changed.items()} == NL_RX[name]


def test_the_best_recipe_is_the_noisy_autoencoder_with_the_generation_term() -> None:
    changed = differences(resolve("shakespeare-noisy-autoencoder"), resolve("shakespeare-next"))
    assert changed.pop("preset")
    assert {key: after for key, (_, after) in changed.items()} == CHANGES["generation"]


def test_a_resolved_preset_has_no_base() -> None:
    assert "base" not in load_preset("shakespeare-vicreg")


def test_overrides_go_on_top_of_a_variation() -> None:
    config = resolve("shakespeare-vicreg", overrides=["objective.regularizer.weight=0.1"])
    assert (config.objective.regularizer.kind, config.objective.regularizer.weight) == ("vicreg", 0.1)


def test_the_defaults_are_the_reference_but_for_intervals() -> None:
    changed = differences(resolve("shakespeare"), Config()).keys()
    assert changed == {"training.steps_per_epoch", "training.log_every", "training.validate_every"}


def test_the_latent_world_model_differs_from_transitions_in_what_is_learned() -> None:
    changed = differences(resolve("transitions"), resolve("transitions-latent"))
    assert changed.keys() == {
        "preset",
        "objective.embedding.weight",
        "objective.generation.weight",
        "objective.regularizer.kind",
        "training.phases",
    }
    jepa, probe = resolve("transitions-latent").training.phases
    assert "decoder" not in (jepa.train or ())
    assert (probe.train, probe.terms) == (("decoder",), ("reconstruction",))


def test_the_baseline_of_transitions_is_of_nearly_equal_size_and_reads_the_same() -> None:
    from jepalm.hardware import Hardware
    from jepalm.objective import build_objective

    own, causal = resolve("transitions"), resolve("transitions-ar")
    cpu = Hardware(torch.device("cpu"), "fp32", 1, False, "auto", False, "cpu")
    sizes = [
        sum(build_objective(c.model, c.objective, 100, cpu).model.parameters_by_part().values())
        for c in (own, causal)
    ]
    assert abs(sizes[1] / sizes[0] - 1) < 0.1
    for key in ("source_len", "target_len", "action_len"):
        assert getattr(own.model, key) == getattr(causal.model, key)
    assert own.training == causal.training
    rate = {name: getattr(own.optimizer, name) for name in ("lr", "warmup_steps")}  # each model has its own
    assert own.optimizer == causal.optimizer.model_copy(update=rate)
