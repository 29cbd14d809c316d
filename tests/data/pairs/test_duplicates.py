"""Equal pairs in several splits."""

import numpy as np

from jepalm.data.pairs.duplicates import RowKeys, grouped_splits, repeated_pairs, splits_of_rows
from jepalm.data.prepared import Request

ASKED = Request(pairing="pairs", tokenizer="char", split=(60.0, 20.0, 20.0))
KEYS = RowKeys.of([1, 2, 3, 4, 5, 1, 2, 3, 4, 5], range(1, 11))
PLACES = splits_of_rows([("train", 6), ("validation", 8), ("test", 10)], 10)


def test_repeated_pairs_are_counted_by_split():
    assert repeated_pairs(PLACES, KEYS) == {"validation": 2, "test": 2}


def test_grouped_rows_stand_in_one_split_of_the_asked_size():
    places, gone = grouped_splits(PLACES, KEYS, ASKED, {})
    assert places.tolist() == [0, 0, 0, 1, 2] * 2
    assert gone == 0


def test_what_a_given_split_holds_is_left_out_of_train():
    places, gone = grouped_splits(PLACES, KEYS, ASKED, {"validation": 2, "test": 2})
    assert np.flatnonzero(places == -1).tolist() == [1, 2, 3, 4]
    assert gone == 4
