"""Settings that do not go with a light decoder: one clear line each."""

import pytest

from jepalm.config import resolve
from jepalm.errors import UsageError

LIGHT = ("model.decoder.kind=local", "objective.length.kind=none")


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (["model.decoder.kind=local"], "model.decoder.kind=local needs objective.length.kind=none"),
        ([*LIGHT, "model.latent.tokens=4"], "model.latent does nothing with model.decoder.kind=local"),
        ([*LIGHT, "objective.kl.weight=0.1"], "model.decoder.kind=local needs objective.kl.weight=0"),
        ([*LIGHT, "model.predictor.unmasked=true"], "model.predictor.unmasked does not go with"),
        (
            [*LIGHT, "model.predictor.intermediate_logits=true"],
            "model.predictor.intermediate_logits does not go with model.decoder.kind=local",
        ),
        (
            [*LIGHT, "objective.coupling.teacher=some"],
            "model.decoder.kind=local needs objective.coupling.teacher=null",
        ),
        (
            [*LIGHT, "model.source_len=6", "model.decoder.context=8"],
            "model.decoder.context 8 is longer than model.source_len 6",
        ),
        (["model.decoder.context=4"], "model.decoder.context does nothing with model.decoder.kind=parallel"),
        ([*LIGHT, "model.decoder.context=17"], "model.decoder.context=17"),
        (["model.decoder.kind=light"], "model.decoder.kind='light'"),
        (["optimizer.muon_lr=0.1"], "optimizer.muon_lr does nothing with optimizer.kind=adamw"),
        (["training.patience=0"], "training.patience=0"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(settings: list[str], line: str):
    with pytest.raises(UsageError) as caught:
        resolve("nano", overrides=settings)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
