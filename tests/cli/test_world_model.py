"""Transitions from data to plan, as a user types it; and what is refused, in one line."""

import itertools
import json

import pytest

TINY = (
    "--batch-size=4",
    "--steps=4",
    "model.dim=16",
    "model.n_heads=2",
    "training.steps_per_epoch=2",
    "training.validate_every=2",
    "training.validation_batches=1",
    "hardware.threads=1",
)
SWITCHES = "flip a", "flip b", "wait"
STATE = "sky dry, rug red, you hall, hall lit, barn open dim, lamp barn"


def switched(state, action):
    """Two switches: what an action makes of `a0 b1`."""
    parts = state.split()
    return " ".join(
        part[0] + str(1 - int(part[1])) if action == f"flip {part[0]}" else part for part in parts
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory, jepalm_command):
    """Runs of transitions: of the home world, of two switches learned by heart, and causal ones."""
    folder = tmp_path_factory.mktemp("worlds")
    states = [f"a{a} b{b}" for a, b in itertools.product((0, 1), repeat=2)]
    rows = [
        {"source": state, "action": action, "target": switched(state, action)}
        for state, action in itertools.product(states, SWITCHES)
    ]
    (folder / "switches.jsonl").write_text("".join(json.dumps(row) + "\n" for row in 5 * rows))
    (folder / "actions.txt").write_text("".join(f"{action}\n" for action in (*SWITCHES, "wait", "")))
    plain = ({"source": f"add {n}", "target": str(n)} for n in range(30))
    (folder / "plain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in plain))
    made = ["prepare", "transitions", "--world=home", "--size=2", "--objects=1", "--pairs=200"]
    learned = [
        "model.source_len=8",
        "model.target_len=8",
        "--steps=250",
        "--batch-size=12",
        "optimizer.lr=1e-2",
    ]
    for command in (
        made,
        ["prepare", "pairs", "switches.jsonl", "--alphabet=data"],
        ["prepare", "pairs", "plain.jsonl"],
        ["train", "--preset=transitions", "--name=home", *TINY, "model.action.encoder=own"],
        ["train", "--preset=transitions-ar", "--name=ar", *TINY, "model.causal.n_layers=1"],
        ["train", "--preset=transitions", "--name=switches", "--data=switches", *TINY, *learned,
         "training.validate_every=250", "optimizer.warmup_steps=10"],
        ["train", "--preset=nano", "--name=plain", "--data=plain", *TINY],
    ):  # fmt: skip
        code, _, err = jepalm_command(*command, cwd=folder)
        assert code == 0, f"{command}: {err}"
    return folder


def run_of(work, name):
    return next(
        path for path in (work / "runs").iterdir() if path.name.endswith(name) and not path.is_symlink()
    )


def shown(jepalm_command, work, *command):
    code, out, err = jepalm_command(*command, "--json", cwd=work)
    assert code == 0, err
    return json.loads(out)


def refused(jepalm_command, work, *command):
    code, out, err = jepalm_command(*command, cwd=work)
    assert code == 2, out
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(("state", "action"), list(itertools.product(("a0 b1", "a1 b1"), SWITCHES)))
def test_a_learned_world_writes_what_an_action_makes_of_a_state(jepalm_command, work, state, action):
    run = run_of(work, "switches")
    row = shown(jepalm_command, work, "generate", state, "--action", action, "--run", run)
    assert (row["texts"], row["nfe"], row["action"]) == ([switched(state, action)], 1, action)


@pytest.mark.parametrize("rollout", ["latent", "text"])
@pytest.mark.parametrize("search", ["exhaustive", "cem"])
def test_a_plan_in_a_learned_world_is_the_shortest_one(jepalm_command, work, search, rollout):
    plan = shown(
        jepalm_command, work, "plan", "--run", run_of(work, "switches"), "--state=a0 b1", "--goal=a1 b0",
        "--actions=actions.txt", "--horizon=2", f"--search={search}", f"--rollout={rollout}", "--budget=300",
    )  # fmt: skip
    assert sorted(plan["actions"]) == ["flip a", "flip b"]
    state = "a0 b1"
    for action, predicted in zip(plan["actions"], plan["states"], strict=True):
        state = switched(state, action)
        assert predicted == state
    assert plan["choices"] == 3
    assert len(plan["distances"]) == 3
    assert plan["distances"][-1] < 0.1 * plan["distances"][0]
    assert plan["complete"] == (search == "exhaustive")
    assert plan["verified"] is None


def test_where_the_start_is_the_goal_there_is_nothing_to_do(jepalm_command, work):
    command = ["plan", "--run", run_of(work, "switches"), "--actions=actions.txt"]
    code, out, err = jepalm_command(*command, "--state=a0 b1", "--goal=a0 b1", cwd=work)
    assert code == 0, err
    assert "none: no action leads nearer to the goal than the start" in out


def test_a_plan_is_run_in_the_simulator_that_the_data_came_from(jepalm_command, work):
    from jepalm.data.worlds import Home

    goal = STATE.replace("hall lit", "hall dim")
    command = [
        "plan",
        "--run",
        run_of(work, "home"),
        "--state",
        STATE,
        "--goal",
        goal,
        "--verify",
        "--budget=200",
    ]
    plan = shown(jepalm_command, work, *command)
    world = Home(2, 1)
    state = world.parse(STATE)
    assert plan["choices"] == len(world.actions(state))
    legal, states = [], []
    for action in plan["actions"]:
        after = world.effect(state, action)
        legal.append(after is not None)
        state = after or state
        states.append(world.text(state))
    assert plan["verified"] == {
        "world": "home",
        "reached": world.reached(state, world.parse(goal)),
        "states": states,
        "legal": legal,
        "predicted_right": [
            world.masked(true) == world.masked(conditioning)
            for true, conditioning in zip(states, plan["states"], strict=True)
        ],
    }
    code, out, _ = jepalm_command(*command, "--budget=200", cwd=work)
    assert code == 0
    assert "verified  goal " in out


def test_a_causal_model_reads_the_action_behind_the_state(jepalm_command, work):
    run = run_of(work, "ar")
    row = shown(jepalm_command, work, "generate", STATE, "--action=switch off the light", "--run", run)
    assert row["nfe"] >= 1
    assert "predicts what an action makes" in refused(jepalm_command, work, "generate", STATE, "--run", run)
    err = refused(jepalm_command, work, "plan", "--run", run, "--state", STATE, "--goal", STATE)
    assert "without embeddings to plan in" in err


PLAN = ("plan", "--state=a0 b1", "--goal=a1 b1", "--run", "switches")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("generate", STATE, "--run", "home"), "what an action makes of a state (give one with --action"),
        (("generate", STATE, "--run", "home", "--action="), "the action is empty"),
        (("generate", STATE, "--run", "home", "--action=go", "--passages=2"), "not go with --passages"),
        (("generate", "add 3", "--run", "plain", "--action=now"), "was trained without actions"),
        ((*PLAN[:-1], "plain", "--actions=actions.txt"), "was trained without actions"),
        (PLAN, "was not drawn from a world"),
        ((*PLAN, "--actions=actions.txt", "--verify"), "was not drawn from a world"),
        ((*PLAN, "--actions=none.txt"), "no such file: none.txt"),
        ((*PLAN, "--actions=actions.txt", "--goal="), "is empty"),
        ((*PLAN, "--actions=actions.txt", "--state=a0 b1 a0 b1"), "more than the 8 tokens"),
        (("plan", "--state=here", "--goal", STATE, "--run", "home"), "no state of the home world"),
        (("plan", "--goal=here", "--state", STATE, "--run", "home", "--verify"), "no state of the home"),
        (("train", "--preset=transitions", "--data=plain"), "plain has no actions, and this model is"),
        (
            ("train", "--preset=transitions-ar", "model.causal.context_len=192"),
            "+ model.action_len 32 + 2 for the ends between is more than model.causal.context_len 192",
        ),
    ],
)
def test_what_lacks_an_action_or_a_world_is_refused(jepalm_command, work, command, message):
    runs = {name: run_of(work, name) for name in ("home", "plain", "switches")}
    command = [runs.get(argument, argument) for argument in command]
    assert message in refused(jepalm_command, work, *command)


def test_training_says_that_a_model_does_not_read_the_actions_of_its_data(jepalm_command, work):
    code, out, _ = jepalm_command("train", "--preset=nano", "--data=switches", "--dry-run", *TINY, cwd=work)
    assert code == 0
    assert "its actions are not read: model.action.conditioning is none" in out


def test_samples_show_the_action_below_the_state(work):
    rows = [
        json.loads(line) for line in (run_of(work, "switches") / "samples.jsonl").read_text().splitlines()
    ]
    state, action = rows[0]["source"].split("\n> ")
    assert rows[0]["target"] == switched(state, action)


def test_a_world_model_is_evaluated_beside_the_baseline(jepalm_command, work):
    from jepalm.evaluation.metrics import METRICS

    beside = ["evaluate", run_of(work, "home"), "--baseline", run_of(work, "ar"), "--split=compositional"]
    found = shown(jepalm_command, work, *beside, "--prompts=4")
    rows = {row["name"]: row for row in found["rows"]}
    assert all(METRICS[name].of_pairs for name in rows)
    expected = ["task/exact_match", "task/facts_changed", "writing/answers_per_s", "probe/predicted_changing"]
    expected += ["world/effective_rank", "rollout/latent_8", "rollout/text_8"]
    expected += ["plan/latent_1", "plan/text_1"]
    assert set(expected) <= set(rows)
    assert "state as it was" in rows["task/exact_match"]["controls"]
    assert rows["plan/text_1"]["controls"]["breadth-first search in the simulator"] == 1
    for name in ("task/exact_match", "rollout/latent_8", "action/gap_ce", "retrieval/ce", "surprise/ce"):
        assert rows[name]["baseline"] is not None
    assert rows["action/gap_embedding"]["baseline"] is None
    speed = rows["writing/answers_per_s"]
    assert speed["controls"]["times the baseline's"] == pytest.approx(speed["model"] / speed["baseline"])
    assert "sampled text" in found["left_out"]
    code, out, _ = jepalm_command("report", run_of(work, "home"), cwd=work)
    assert code == 0
    assert "surprise at impossible next states" in out


def test_a_model_that_reads_actions_is_evaluated_by_its_next_states(jepalm_command, work):
    found = shown(jepalm_command, work, "evaluate", run_of(work, "switches"), "--split=train")
    rows = {row["name"]: row for row in found["rows"]}
    assert found["task"] == "text"
    assert rows["task/exact_match"]["model"] == 1  # what it plans with, it has learned
    assert rows["task/exact_match"]["controls"]["most frequent answer"] < 1
    groups = {row["name"].partition("/")[0] for row in found["rows"]}
    assert groups - {"action"} == {"task", "writing", "retrieval", "world"}
