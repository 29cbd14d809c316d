"""Rollouts are repeated single steps, whatever is fed back."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from jepalm.data.batches import Tokens, pad_rows
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import UsageError
from jepalm.generation import one_pass, token_by_token
from jepalm.generation.roll import PassageWriter
from jepalm.generation.token_by_token import CausalWriter
from jepalm.generation.worlds.plan import LatentDynamics, TextDynamics, distances_to, predictable_positions
from jepalm.generation.worlds.rollout import (
    LatentStates,
    decode_states,
    encode_states,
    latent_rollout,
    next_latent,
    target_states,
    text_rollout,
)
from jepalm.hardware import Hardware
from jepalm.model.conditioning import Conditioning
from jepalm.model.layout import Layout
from jepalm.objective.causal import CausalObjective
from jepalm.objective.views import prompt_of

CPU = torch.device("cpu")
HARDWARE = Hardware(CPU, "fp32", 1, False, "auto", False, "")
FORMS = pytest.mark.parametrize("packing", [True, False])
TRANSITIONS = {
    "model__action__conditioning": "both",
    "model__source_positions": "aligned",
    "objective__length__relative": True,
    "objective__length__kind": "classification",
}


@pytest.fixture
def world(random_objective: Any) -> Any:
    return lambda **changed: random_objective(**(TRANSITIONS | changed)).eval()


@pytest.fixture
def states() -> Tokens:
    return pad_rows([[5, 6, 7, 8], [9, 3], [4, 4, 4, 4, 4, 4]], CPU)


@pytest.fixture
def actions() -> list[Tokens]:
    return [
        pad_rows(rows, CPU)
        for rows in ([[3, 4], [5], [6, 7, 8]], [[9], [9, 9], [8]], [[10, 3, 4], [7, 6], [5, 5]])
    ]


def rows(texts: Tokens) -> list[list[int]]:
    return [row[:n] for row, n in zip(texts.ids.tolist(), texts.lengths.tolist(), strict=True)]


def writer(objective: Any) -> PassageWriter:
    return PassageWriter("tiny", objective, HARDWARE)


def rollout(objective: Any, states: Tokens, actions: list[Tokens], feedback: str) -> list[Any]:
    """Token ids of the states after each action."""
    if feedback == "latent":
        latent = latent_rollout(objective, encode_states(objective, states), actions)
        return [rows(decode_states(objective, after)) for after in latent]
    longest = objective.model.config.source_len
    return text_rollout(writer(objective), rows(states), list(map(rows, actions)), longest)


def same(one: Tokens, other: Tokens) -> bool:
    return one.lengths.tolist() == other.lengths.tolist() and one.ids.tolist() == other.ids.tolist()


@FORMS
def test_the_first_state_of_either_rollout_is_the_one_that_is_generated(
    world: Any, states: Tokens, actions: list[Tokens], packing: bool
):
    objective = world(packing=packing)
    written = one_pass.generate(objective, states, action=actions[0])
    for feedback in ("latent", "text"):
        (found,) = rollout(objective, states, actions[:1], feedback)
        assert found == written.rows()


@FORMS
def test_a_latent_rollout_is_the_predictor_applied_to_its_own_normalised_output(
    world: Any, states: Tokens, actions: list[Tokens], packing: bool
):
    """Each text alone and without padding, with the predictor called by hand."""
    objective = world(packing=packing).double()
    model = objective.model
    rolled = latent_rollout(objective, encode_states(objective, states), actions)
    for row in range(3):

        def alone(tokens: Tokens, row: int = row) -> tuple[torch.Tensor, Layout]:
            n = int(tokens.lengths[row])
            return tokens.ids[row : row + 1, :n], Layout.of(torch.tensor([n]), n, packed=False)

        with torch.no_grad():
            source = model.encoder(*alone(states))
            for after, action in zip(rolled, actions, strict=True):
                n = int(after.lengths[row])
                target = Layout.of(torch.tensor([n]), n, packed=False)
                ids, places = alone(action)
                layout = Layout.of(torch.tensor([source.shape[1]]), source.shape[1], packed=False)
                conditioning = Conditioning((model.encoder(ids, places), places))
                source = model.predictor(target, source, layout, conditioning).embeddings
                torch.testing.assert_close(after.embeddings[row, :n], source[0], atol=1e-9, rtol=1e-9)
                assert not after.embeddings[row, n:].any()
                source = F.layer_norm(source, (16,))


def test_a_rollout_of_three_steps_is_three_rollouts_of_one(world: Any, states: Tokens, actions: list[Tokens]):
    objective = world(packing=True)
    text: Any = states
    latent = encode_states(objective, states)
    by_text, by_latent = (rollout(objective, states, actions, feedback) for feedback in ("text", "latent"))
    for step, action in enumerate(actions):
        (text,) = rollout(objective, text, [action], "text")
        latent = next_latent(objective, latent, action)
        assert text == by_text[step]
        assert rows(decode_states(objective, latent)) == by_latent[step]
        text = pad_rows(text, CPU)


def test_a_causal_model_writes_each_state_behind_the_one_before_and_its_action(
    tiny_config: Any, states: Tokens, actions: list[Tokens]
):
    config = tiny_config(
        model__family="causal",
        model__causal__n_layers=1,
        model__encoder="{}",
        model__predictor="{}",
        model__decoder="{}",
    )
    torch.manual_seed(3)
    objective = CausalObjective(config.model, config.objective, 11).eval()
    torch.nn.init.normal_(objective.model.tokens.weight)
    causal, steps = CausalWriter("tiny", objective, HARDWARE, 12, TextTokenizer.END), list(map(rows, actions))
    found = text_rollout(causal, rows(states), steps, 12)
    read = prompt_of([states, actions[0]])
    assert read.ids[1].tolist()[:5] == [9, 3, TextTokenizer.END, 5, TextTokenizer.END]
    assert read.lengths.tolist() == [8, 5, 11]
    written = token_by_token.generate(objective, read, length=12, end=TextTokenizer.END).rows
    assert found[0] == [row or [TextTokenizer.UNK] for row in written]
    assert text_rollout(causal, found[1], steps[2:], 12) == found[2:]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model__latent__tokens": 2, "model__source_positions": "before"}, "predicts latents"),
        ({"objective__targets__normalisation": "instance"}, "normalised by instance, and reads others"),
        ({"model__source_len": 8}, "states of up to 12 tokens and reads 8"),
    ],
)
def test_embeddings_that_cannot_stand_for_a_source_are_not_fed_back(
    world: Any, states: Tokens, actions: list[Tokens], changed: dict[str, Any], message: str
):
    objective = world(**changed)
    with pytest.raises(UsageError, match=message):
        rollout(objective, states, actions, "latent")
    assert len(rollout(objective, states, actions, "text")) == 3


def test_a_distance_is_the_mean_over_positions_and_what_one_state_lacks_is_zero(world: Any):
    objective = world()
    goal = LatentStates(torch.tensor([[[1.0, 2.0], [0.0, 1.0]]]), torch.tensor([2]))
    same_length = [[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]]  # 4 + 0 over 2
    longer = [[[1.0, 2.0], [0.0, 1.0], [3.0, 0.0]]]  # 0 + 0 + 9 over 3
    shorter = [[[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]]]  # 0 + 1 over 2
    states = LatentStates(torch.tensor(same_length + longer + shorter), torch.tensor([2, 3, 1]))
    assert distances_to(objective, states, goal) == [2.0, 3.0, 0.5]
    compared = torch.tensor([False, True])  # all beyond these are too
    assert distances_to(objective, states, goal, compared) == [0.0, 3.0, 0.5]


def test_positions_that_are_not_compared_tell_no_states_apart(
    world: Any, states: Tokens, actions: list[Tokens]
):
    objective = world()
    goal = target_states(objective, Tokens(states.ids[:1], states.lengths[:1]))
    texts, choices = rows(states), rows(actions[0])
    plain = TextDynamics(objective, writer(objective), choices, goal)
    made = TextDynamics(objective, writer(objective), choices, goal, torch.tensor([False]))
    assert plain.names(texts) == list(map(tuple, texts))
    assert made.names(texts) == [(-1, *row[1:]) for row in texts]


def test_a_position_is_predictable_where_some_action_makes_its_text_certain(
    world: Any, states: Tokens, actions: list[Tokens], monkeypatch: pytest.MonkeyPatch
):
    objective, start = world(), Tokens(states.ids[:1], states.lengths[:1])
    logits = torch.zeros(len(actions[0].lengths), 12, objective.model.decoder.vocabulary.out_features)
    logits[-1, 1, 3] = 20.0  # after the last action alone, at the second place alone

    def decode(embeddings: torch.Tensor, layout: Any) -> torch.Tensor:
        return logits[:, : embeddings.shape[1]]

    monkeypatch.setattr(objective.model.decoder, "forward", decode)
    found = predictable_positions(objective, start, actions[0])
    assert found is not None
    assert found.tolist() == [place == 1 for place in range(len(found))]
    logits.zero_()
    assert predictable_positions(objective, start, actions[0]) is None


@pytest.mark.parametrize("feedback", ["latent", "text"])
def test_planning_follows_states_as_a_rollout_does_in_any_order(
    world: Any, states: Tokens, actions: list[Tokens], feedback: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("jepalm.generation.worlds.plan.STATES_AT_ONCE", 2)
    objective = world(packing=True)
    goal = target_states(objective, Tokens(states.ids[:1], states.lengths[:1]))
    choices = actions[2]
    places, chosen = torch.tensor([2, 0, 1, 2, 0]), torch.tensor([1, 1, 2, 0, 0])
    made: Any
    if feedback == "latent":
        made, start = LatentDynamics(objective, choices, goal), encode_states(objective, states)
    else:
        made, start = TextDynamics(objective, writer(objective), rows(choices), goal), rows(states)
    followed = made.follow(start, places, chosen)
    (expected,) = rollout(
        objective,
        Tokens(states.ids[places], states.lengths[places]),
        [Tokens(choices.ids[chosen], choices.lengths[chosen])],
        feedback,
    )
    texts = list(map(tuple, expected))
    assert made.names(followed) == texts
    assert made.names(made.keep(followed, torch.tensor([3, 1]))) == [texts[3], texts[1]]
    assert made.distances(start)[0] < 1e-4 if feedback == "latent" else made.distances(start)[0] == 0
    assert len(made.distances(followed)) == 5
