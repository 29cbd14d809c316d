"""The registry of evaluation metrics: every name once, ranges of positions, unknown names."""

from jepalm.evaluation.metrics import METRICS, Metric, find_metric
from jepalm.evaluation.rows import MetricRow


def test_every_metric_is_found_under_its_own_name_and_said_for_people():
    assert all(find_metric(name) is metric and metric.name == name for name, metric in METRICS.items())
    assert all(metric.label and "{" not in metric.label for metric in METRICS.values())
    titles = [(metric.group, metric.label, metric.unit) for metric in METRICS.values()]
    assert len({*titles}) == len(titles)


def test_a_range_of_positions_is_a_metric_whatever_its_ends():
    assert find_metric("scorer/positions_1_1") == Metric(
        "scorer/positions_1_1", "NLL at position 1", "nats/token", None, "real"
    )
    assert find_metric("scorer/positions_9_12").label == "NLL at positions 9-12"


def test_an_unknown_name_is_no_metric_and_stands_for_itself_in_a_table():
    assert [find_metric(name) for name in ("text/jsd_5", "scorer/positions_1", "r2")] == [None] * 3
    row = MetricRow("scorer/mine", {"model": 1.0})
    assert (row.label, row.unit) == ("scorer/mine", "")
