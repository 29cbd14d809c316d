from jepalm.report.analysis.numbers import change, count, percent, visible


def test_a_share_that_rounds_to_nothing_is_not_called_nothing():
    assert (percent(0.0001), percent(0), percent(0.575)) == ("< 0.1 %", "0.0 %", "57.5 %")


def test_change_carries_its_sign():
    assert (change(-0.253), change(0.1)) == ("-25.3 %", "+10.0 %")


def test_counts_carry_units():
    assert (count(10_120_000), count(512)) == ("10.1 M", "512")


def test_whitespace_becomes_visible():
    assert visible("a b\n\t\x00") == "a·b⏎⇥␀"
