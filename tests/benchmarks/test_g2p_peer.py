"""The comparison with DeepPhonemizer: what it makes of answers and seconds, without the peer."""

import importlib.util
from pathlib import Path

from jepalm.evaluation.answers.questions import Question

FILE = Path(__file__).parents[2] / "benchmarks" / "g2p_peer" / "compare.py"
SPEC = importlib.util.spec_from_file_location("g2p_compare", FILE)
compare = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(compare)


def test_errors_are_of_all_words_and_speed_is_the_median_of_cpu_seconds():
    questions = [Question(f"w{k}", "A B") for k in range(100)]

    def answers(text, seconds):
        return lambda words: ([text] * len(words), (9.0, seconds * len(words)))

    models = {"right": answers("A B", 0.001), "wrong": answers("A", 0.002)}
    facts = {name: {"parameters": 2_000_000} for name in models}
    right, wrong = compare.measure(models, facts, questions, frozenset({"w1s"}))
    assert (right["word_error"], right["phoneme_error"]) == (0, 0)
    assert (wrong["word_error"], wrong["phoneme_error"], wrong["inflected"]) == (1, 0.5, 0.01)
    assert [round(one["latency_ms"], 6) for one in (right, wrong)] == [1, 2]
    assert [round(one["words_per_s_64"]) for one in (right, wrong)] == [1000, 500]
    table = compare.table([right, wrong], len(questions))
    assert "| wrong | 2.00 | 100.0 % | 50.00 % |" in table
