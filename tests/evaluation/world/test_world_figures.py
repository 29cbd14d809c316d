"""Figures of a world model on toy models whose distances and states are known."""

from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jepalm.data.prepared import Simulated
from jepalm.data.worlds import Home
from jepalm.evaluation.answers.questions import Question
from jepalm.evaluation.answers.tasks.shares import Answered
from jepalm.evaluation.answers.tasks.transitions import facts_of, score_transitions
from jepalm.evaluation.world.measure import candidate_rows, gap_rows
from jepalm.evaluation.world.negatives import Contrast, contrast_in, contrasts_in_log
from jepalm.evaluation.world.reading import ActionModel
from jepalm.evaluation.world.scores import RIDGE, Probe, auc, nearest_is_right
from jepalm.evaluation.world.walking import leads_to, rollout_rows
from jepalm.model.conditioning import Conditioning
from jepalm.model.layout import Layout

WORLD = Home(2, 1)
STATE = "sky dry, rug red, you hall, hall lit, barn shut dim, lamp barn"
OPENED = "sky fog, rug red, you hall, hall lit, barn open dim, lamp barn"
OPEN = "open the barn door"


def test_a_next_state_is_found_where_all_wrong_ones_are_farther():
    assert nearest_is_right([1, 2, 3], [[2, 3], [1, 9], [3]]).tolist() == [1, 0, 0]


def test_auc_is_the_share_of_pairs_in_order():
    assert auc([1, 3], [0, 2]) == 3 / 4
    assert auc([1], [1]) == 0.5
    assert np.isnan(auc([], [1]))


def test_a_probe_is_ridge_regression_onto_the_classes():
    draw = np.random.default_rng(0)
    rows, labels = draw.normal(3, 2, (30, 4)), [str(k % 3) for k in range(30)]
    x = (rows - rows.mean(0)) / rows.std(0)
    y = np.array([[label == one for one in "012"] for label in labels], float)
    tall = np.concatenate([x, np.sqrt(RIDGE * 30) * np.eye(4)])
    weights = np.linalg.lstsq(tall, np.concatenate([y - y.mean(0), np.zeros((4, 3))]), rcond=None)[0]
    assert Probe(rows, labels)(rows).tolist() == [str(k) for k in (x @ weights + y.mean(0)).argmax(1)]


def test_a_probe_of_collapsed_embeddings_says_the_majority():
    probe = Probe(np.ones((5, 3)), ["a", "b", "b", "b", "c"])
    assert probe.majority == "b"
    assert probe(np.ones((2, 3))).tolist() == ["b", "b"]


def test_facts_are_counted_by_kind_where_the_text_has_them():
    written = OPENED.replace("fog", "icy").replace("lamp barn", "lamp hall")
    answered = Answered([STATE, STATE], [OPENED, OPENED], [written, STATE])
    shares = {share.name: share for share in score_transitions(answered, WORLD.masked, facts_of(WORLD))}
    # you, hall light, barn door, barn light, lamp: five that actions change, of which one was changed
    assert shares["facts"].above.tolist() == [4, 4]
    assert shares["facts"].below.tolist() == [5, 5]
    assert shares["facts_changed"].above.tolist() == [1, 0]
    assert shares["facts_changed"].below.tolist() == [1, 1]
    assert shares["facts_still"].value == 1
    assert shares["facts_random"].value == 0
    assert shares["exact_match"].value == 0


def test_what_the_simulator_calls_wrong_no_action_or_state_of_the_transition_makes():
    state = WORLD.parse(STATE)
    found = contrast_in(WORLD, Question(STATE, OPENED, OPEN), Random(0))
    made = {WORLD.masked(WORLD.text(WORLD.effect(state, a) or state)) for a in WORLD.actions(state)}
    assert len(found.other_actions) == 2  # nothing happens, or the hall is dark
    assert {WORLD.masked(text) for text in found.other_actions} == made - {WORLD.masked(OPENED)}
    assert all(text.startswith("sky fog") and text != OPENED for text in found.wrong)
    assert WORLD.masked(WORLD.text(WORLD.effect(state, found.wrong_action) or state)) != WORLD.masked(OPENED)
    # one legal action away and then the door: dark and open; or open, which has no effect any more
    assert found.other_states == (OPENED.replace("hall lit", "hall dim"),)


def test_a_log_gives_what_else_happened():
    rows = [
        Question("s", "1", "a"),
        Question("s", "2", "b"),
        Question("t", "3", "a"),
        Question("u", "1", "a"),
    ]
    first, second, *_ = contrasts_in_log(rows, Random(0))
    assert first == Contrast("b", ("2",), ("3",))
    assert second == Contrast("a", ("1",), ())
    assert contrasts_in_log(rows[:1], Random(0)) == [Contrast("", (), ())]


def test_actions_lead_where_the_simulator_says_and_illegal_ones_nowhere():
    goal = WORLD.parse(OPENED.replace("you hall", "you barn"))
    start = WORLD.parse(STATE)
    assert leads_to(WORLD, start, [OPEN, OPEN, "go to the barn"], goal)
    assert not leads_to(WORLD, start, ["go to the barn", OPEN], goal)


class Toy:
    """Predicts what `step` says; a distance is the number of characters that differ."""

    kinds = ("embedding", "ce")

    def __init__(self, step):
        self.step = step

    def distances(self, states, actions, observed):
        rows = zip(states, actions, observed, strict=True)
        far = [sum(a != b for a, b in zip(self.step(s, act), text, strict=True)) for s, act, text in rows]
        return {kind: np.array(far, float) for kind in self.kinds}

    def roll(self, states, actions, feedback):
        found = []
        for step in actions:
            states = [self.step(state, action) for state, action in zip(states, step, strict=True)]
            found.append(states)
        return found


def truth(state, action):
    at = WORLD.parse(state)
    return WORLD.text(WORLD.effect(at, action) or at)


MODELS = {"model": Toy(truth), "baseline": Toy(lambda state, action: state)}


def test_gap_retrieval_and_surprise_are_those_of_the_distances():
    question = Question(STATE, OPENED.replace("fog", "dry"), OPEN)
    dark = question.gold.replace("hall lit", "hall dim")
    contrast = Contrast("switch off the light", (STATE,), (dark,))
    (gap, _) = gap_rows(MODELS, [question], [contrast], 0)
    # shut for open and dim for lit: four and three characters (shut/open differ in all, lit/dim in two)
    assert gap.values == {"model": 4 + 2, "baseline": 0}
    assert gap.controls["under its own action"] == 0
    rows = {row.name: row for row in candidate_rows(MODELS, [question], [contrast], 0, judged=True)}
    assert rows["retrieval/embedding"].values == {"model": 1, "baseline": 0}
    assert rows["retrieval/ce"].controls == {"chance": 1 / 3}
    assert rows["surprise/ce"].values == {"model": 1, "baseline": 0}
    assert "surprise/ce" not in {
        row.name for row in candidate_rows(MODELS, [question], [contrast], 0, judged=False)
    }


def test_rollouts_of_the_simulator_are_right_and_those_of_a_copy_are_the_control():
    asked = Simulated(world="home", size=2, objects=1, noise=1, distractors=1, pairs=100, seed=0)
    meta = SimpleNamespace(request=SimpleNamespace(simulated=asked, split=(90.0, 5.0, 5.0)))
    data, split = SimpleNamespace(meta=meta), SimpleNamespace(name="train")
    rows = rollout_rows(MODELS, True, data, split, 10, 0)
    assert [row.name for row in rows] == [
        f"rollout/{way}_{k}" for way in ("latent", "text") for k in range(1, 9)
    ]
    for row in rows:
        assert row.values["model"] == 1
        assert row.values["baseline"] == row.controls["the state at the start"] < 1


ONE_PLUS = {"model__action__conditioning": "both", "objective__generation__weight": 1.0}


@pytest.mark.parametrize("packing", [True, False])
def test_distances_of_a_batch_are_those_of_each_transition_alone(random_objective, packing):
    objective = random_objective(packing=packing, **ONE_PLUS).eval()
    hardware = SimpleNamespace(
        device=torch.device("cpu"), autocast=lambda: torch.autocast("cpu", enabled=False)
    )
    tokenizer = SimpleNamespace(encode=lambda text: [3 + int(one) for one in text])
    config = SimpleNamespace(model=objective.model.config)
    trained = SimpleNamespace(
        objective=objective,
        hardware=hardware,
        tokenizer=tokenizer,
        config=config,
        run=SimpleNamespace(name="toy"),
    )
    rows = [("01234", "1", "0123"), ("7", "22", "65"), ("12", "0", "1234567")]
    found = ActionModel(trained).distances(*map(list, zip(*rows, strict=True)))
    targets, predictions = ActionModel(trained).means(*map(list, zip(*rows, strict=True)))
    for place, row in enumerate(rows):
        state, action, observed = (torch.tensor([tokenizer.encode(text)]) for text in row)
        sources, acts, wanted = (
            Layout.of(torch.tensor([ids.shape[1]]), ids.shape[1], packed=False, ends_at_zero=zero)
            for ids, zero in ((state, True), (action, False), (observed, False))
        )
        encoder = objective.model.encoder
        with torch.no_grad():
            predicted = objective.model.predictor(
                wanted, encoder(state, sources), sources, Conditioning((encoder(action, acts), acts))
            ).embeddings[0]
            target = objective.normalise(encoder(observed, wanted), wanted)[0]
            logits = objective.model.decoder(predicted[None], wanted)[0]
        distance = float((predicted - target).square().sum(-1).mean())
        assert found["embedding"][place] == pytest.approx(distance, rel=1e-4)
        assert found["ce"][place] == pytest.approx(float(F.cross_entropy(logits, observed[0])), rel=1e-4)
        assert targets[place] == pytest.approx(target.mean(0).numpy(), rel=1e-3, abs=1e-5)
        assert predictions[place] == pytest.approx(predicted.mean(0).numpy(), rel=1e-3, abs=1e-5)
