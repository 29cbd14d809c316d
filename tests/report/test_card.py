"""The model card of a run whose files say what they may."""

import pytest
from synthetic_run import evaluation, healthy_rows, summary_of

from jepalm.report.render.card import ExportFacts, model_card

FACTS = ExportFacts("my-model", 1000, 10_100_000, "fp32", "char")
DATA = {
    "name": "/somewhere/of/mine/lines",
    "corpus": "lines",
    "licence": "public domain",
    "source": "a text",
    "pairing": "lines",
    "splits": {"train": {"pairs": 35_999, "tokens": 1_000_000}, "test": {"pairs": 1_999, "tokens": 9}},
}


def card_of(make_run, facts=FACTS, **manifest):
    return model_card(summary_of(make_run(healthy_rows(1500), **manifest)), facts)


def test_the_figures_are_those_of_the_exported_step(make_run):
    card = card_of(make_run)
    assert "On held-out pairs (validation) at step 1,000, as the run logged it" in card
    assert "| generation\\_ce | 2.60 |" in card


def test_an_evaluation_of_another_step_says_so(make_run):
    card = card_of(make_run, evaluations={"validation": evaluation(), "test": evaluation("test", step=1000)})
    assert card.count("**Measured at step 500; these weights are of step 1,000.**") == 1
    assert "| CE on predicted embeddings, nats/token<br>training unigram 3.33 | 4.61 |" in card


def test_data_is_named_with_its_licence_and_without_its_folder(make_run):
    card = card_of(make_run, data=DATA)
    assert "| licence | public domain |" in card
    assert "| splits | train 35,999 pairs · test 1,999 pairs |" in card
    assert "somewhere" not in card


def test_what_an_older_run_does_not_say_is_said_to_be_missing(make_run):
    assert "| licence | not stated in the run's files |" in card_of(make_run)


def test_what_was_not_measured_is_said_to_be_missing(make_run):
    assert "Not measured on held-out prompts beside controls" in card_of(make_run)


def test_the_rules_warnings_are_its_limits(make_run):
    limits = card_of(make_run).split("## Limits")[1]
    assert "- It reads the last 64 tokens of a source" in limits
    assert "\n- ! " in limits


def test_the_files_without_python_stand_with_their_differences(make_run):
    facts = ExportFacts("my-model", 1000, 7, "fp32", "char", onnx=[("encoder.onnx", 2e-7)])
    card = card_of(make_run, facts)
    assert "- onnx\n" in card
    assert "| <code>encoder.onnx</code> | 2.0e-07 |" in card


@pytest.mark.parametrize(("name", "line"), [("a/b", "base_model: a/b"), ("b", "pipeline_tag: text")])
def test_a_backbone_of_the_hub_is_named_as_base(make_run, name, line):
    facts = ExportFacts("my-model", 1000, 7, "fp32", "bpe:280", backbone=name)
    card = card_of(make_run, facts)
    assert line in card
    assert f"The weights are derived from {name}, whose licence holds, too." in card


def test_text_from_outside_stays_text(make_run):
    card = card_of(make_run, data={**DATA, "corpus": "<script>|`x`"})
    assert "<script>" not in card
    assert "\\|\\`x\\`" in card
