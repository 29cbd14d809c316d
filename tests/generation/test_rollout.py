"""Rollouts are repeated single steps, whatever is fed back."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from jepalm.data.batches import Tokens, pad_rows
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import UsageError
from jepalm.generation import one_pass as one_shot
from jepalm.generation import token_by_token as autoregressive
from jepalm.generation.worlds.plan import LatentDynamics, TextDynamics, distances_to, foreseen
from jepalm.generation.worlds.rollout import (
    LatentStates,
    decode_states,
    encode_states,
    latent_rollout,
    next_latent,
    rollout,
    target_states,
)
from jepalm.model.conditioning import Conditioning
from jepalm.model.layout import Layout
from jepalm.objective.causal import CausalObjective
from jepalm.objective.views import prompt_of

CPU = torch.device("cpu")
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


def same(one: Tokens, other: Tokens) -> bool:
    return one.lengths.tolist() == other.lengths.tolist() and one.ids.tolist() == other.ids.tolist()


@FORMS
def test_the_first_state_of_either_rollout_is_the_one_that_is_generated(
    world: Any, states: Tokens, actions: list[Tokens], packing: bool
):
    objective = world(packing=packing)
    written = one_shot.generate(objective, states, action=actions[0])
    for feedback in ("latent", "text"):
        (found,) = rollout(objective, states, actions[:1], feedback)
        assert same(found, Tokens(written.ids, written.lengths))


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
    conditioning = states
    latent = encode_states(objective, states)
    by_text, by_latent = (rollout(objective, states, actions, feedback) for feedback in ("text", "latent"))
    for step, action in enumerate(actions):
        (conditioning,) = rollout(objective, conditioning, [action], "text")
        latent = next_latent(objective, latent, action)
        assert same(conditioning, by_text[step])
        assert same(decode_states(objective, latent), by_latent[step])


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
    found = rollout(objective, states, actions)
    read = prompt_of([states, actions[0]])
    assert read.ids[1].tolist()[:5] == [9, 3, TextTokenizer.END, 5, TextTokenizer.END]
    assert read.lengths.tolist() == [8, 5, 11]
    rows = autoregressive.generate(objective, read, length=12, end=TextTokenizer.END).rows
    assert found[0].ids.tolist() == pad_rows([row or [TextTokenizer.UNK] for row in rows], CPU).ids.tolist()
    (again,) = rollout(objective, found[1], actions[2:])
    assert same(again, found[2])
    with pytest.raises(UsageError, match="no embeddings to feed back"):
        rollout(objective, states, actions, "latent")


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
    counted = torch.tensor([False, True])  # the first place does not count; one beyond these does
    assert distances_to(objective, states, goal, counted) == [0.0, 3.0, 0.5]


def test_places_that_do_not_count_tell_no_states_apart(world: Any, states: Tokens, actions: list[Tokens]):
    objective = world()
    goal = target_states(objective, Tokens(states.ids[:1], states.lengths[:1]))
    plain = TextDynamics(objective, actions[0], goal)
    made = TextDynamics(objective, actions[0], goal, torch.tensor([False]))
    assert made.texts(states) == plain.names(states)
    assert made.names(states) == [(-1, *row[1:]) for row in plain.names(states)]


def test_a_place_counts_where_some_action_makes_its_text_sure(
    world: Any, states: Tokens, actions: list[Tokens], monkeypatch: pytest.MonkeyPatch
):
    objective, start = world(), Tokens(states.ids[:1], states.lengths[:1])
    sure = torch.zeros(len(actions[0].lengths), 12, objective.model.decoder.vocabulary.out_features)
    sure[-1, 1, 3] = 20.0  # after the last action alone, at the second place alone

    def decode(embeddings: torch.Tensor, layout: Any) -> torch.Tensor:
        return sure[:, : embeddings.shape[1]]

    monkeypatch.setattr(objective.model.decoder, "forward", decode)
    found = foreseen(objective, start, actions[0])
    assert found is not None
    assert found.tolist() == [place == 1 for place in range(len(found))]
    sure.zero_()
    assert foreseen(objective, start, actions[0]) is None


@pytest.mark.parametrize("feedback", ["latent", "text"])
def test_planning_follows_states_as_a_rollout_does_in_any_order(
    world: Any, states: Tokens, actions: list[Tokens], feedback: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("jepalm.generation.worlds.plan.STATES_AT_ONCE", 2)
    objective = world(packing=True)
    goal = target_states(objective, Tokens(states.ids[:1], states.lengths[:1]))
    choices = actions[2]
    rows, chosen = torch.tensor([2, 0, 1, 2, 0]), torch.tensor([1, 1, 2, 0, 0])
    made: Any
    if feedback == "latent":
        made, start = LatentDynamics(objective, choices, goal), encode_states(objective, states)
    else:
        made, start = TextDynamics(objective, choices, goal), states
    followed = made.follow(start, rows, chosen)
    (expected,) = rollout(
        objective,
        Tokens(states.ids[rows], states.lengths[rows]),
        [Tokens(choices.ids[chosen], choices.lengths[chosen])],
        feedback,
    )
    texts = [tuple(row[:n]) for row, n in zip(expected.ids.tolist(), expected.lengths.tolist(), strict=True)]
    assert made.names(followed) == texts
    assert made.names(made.keep(followed, torch.tensor([3, 1]))) == [texts[3], texts[1]]
    assert made.distances(start)[0] < 1e-4 if feedback == "latent" else made.distances(start)[0] == 0
    assert len(made.distances(followed)) == 5
