import pytest
from synthetic_run import evaluation, healthy_rows, summary_of, train_row

from jepalm.config import Config
from jepalm.report.comparison import compare, unique_names


def compared(*folders):
    return compare([summary_of(folder) for folder in folders])


def config(**training):
    tree = Config().model_dump()
    tree["training"] |= training
    return tree


def test_only_settings_that_differ_are_listed(make_run):
    other = {**config(seed=3), "brand_new": 1}
    comparison = compared(make_run([], name="a"), make_run([], name="b", config=other))
    assert comparison.differences == {"training.seed": ["0", "3"], "brand_new": ["–", "1"]}
    assert not comparison.repeated


def losses(make_run, *runs):
    """A run for each (loss, seed, further training settings)."""
    return [
        make_run([train_row(25, **{"train/loss": loss})], name=f"r{k}", config=config(seed=seed, **more))
        for k, (loss, seed, more) in enumerate(runs)
    ]


def test_runs_that_differ_in_seed_get_mean_and_deviation(make_run):
    comparison = compared(*losses(make_run, (1.0, 0, {}), (3.0, 1, {})))
    assert comparison.repeated
    loss = next(row for row in comparison.metrics if row.label == "loss (train, last row)")
    assert (loss.texts, loss.over_seeds_texts) == (["1.00", "3.00"], ["2.00 ± 1.41"])


def test_recipes_with_seeds_stand_beside_each_other_and_each_run_is_kept(make_run):
    other = {"steps": 9}
    runs = losses(
        make_run, (1.0, 0, {}), (8.0, 0, other), (3.0, 1, {}), (8.0, 1, other), (5.0, 0, {"keep": 9})
    )
    comparison = compared(*runs)
    assert [(group.name, group.members) for group in comparison.groups] == [
        ("shakespeare steps=null (2 seeds)", [0, 2]),
        ("shakespeare steps=9 (2 seeds)", [1, 3]),
        ("r4", [4]),
    ]
    loss = next(row for row in comparison.metrics if row.label == "loss (train, last row)")
    assert loss.over_seeds_texts == ["2.00 ± 1.41", "8.00 ± 0", "5.00"]
    assert loss.values == [1.0, 8.0, 3.0, 8.0, 5.0]
    assert comparison.group_differences["training.seed"] == ["0, 1", "0, 1", "0"]
    over = comparison.as_json()["over_seeds"][loss.label]
    assert over[0] == {"mean": 2.0, "sd": 2**0.5, "n": 2}
    assert comparison.as_json()["groups"][1] == {
        "name": "shakespeare steps=9 (2 seeds)",
        "n": 2,
        "runs": ["r1", "r3"],
    }


def test_a_metric_that_a_seed_lacks_says_over_how_many_it_is(make_run):
    runs = losses(make_run, (1.0, 0, {}), (3.0, 1, {}))
    runs.append(make_run([], name="empty", config=config(seed=2)))
    loss = next(row for row in compared(*runs).metrics if row.label == "loss (train, last row)")
    assert loss.over_seeds_texts == ["2.00 ± 1.41 (n = 2)"]


def test_the_same_seed_twice_is_no_repetition(make_run):
    assert not compared(*losses(make_run, (1.0, 0, {}), (3.0, 0, {}))).repeated


@pytest.mark.parametrize(("prompts", "measured"), [(999, [4.61, 4.61]), (10, None)])
def test_evaluations_are_compared_when_measured_alike(make_run, prompts, measured):
    runs = [
        make_run([], name=name, evaluations={"validation": evaluation(n_prompts=n)})
        for name, n in (("a", 999), ("b", prompts))
    ]
    rows = {row.label: row.values for row in compared(*runs).metrics}
    assert rows.get("CE on predicted embeddings, nats/token (evaluated, validation)") == measured


def test_a_run_without_a_metric_has_a_dash(make_run):
    comparison = compared(make_run(healthy_rows(500), name="a"), make_run([], name="b"))
    share = next(row for row in comparison.metrics if row.label.startswith("share of embedding"))
    assert share.texts[1] == "–"
    assert share.values[0] == pytest.approx(0.58, abs=0.05)


def test_runs_of_one_name_are_told_apart():
    assert unique_names(["a", "b", "a"]) == ["a", "b", "a (2)"]
