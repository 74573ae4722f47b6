from mos.encoders.batches import PassShape, pad_tokens, plan_passes


def test_a_pass_has_one_length_and_always_as_many_rows() -> None:
    lengths = [3, 9, 8, 1, 16, 2, 5]
    passes = plan_passes(lengths, [None] * 7, PassShape(rows=4, step=8))
    assert [(one.length, one.indices) for one in passes] == [(16, [1, 4]), (8, [0, 2, 3, 5]), (8, [6])]
    assert all(len(one.rows) == 4 for one in passes)
    assert passes[0].rows == [1, 4, 1, 1]


def test_company_does_not_decide_a_padded_length() -> None:
    shape = PassShape(rows=2, step=4)
    (alone,) = plan_passes([5], [True], shape)
    for neighbours in ([1, 2, 3], [8, 20], [5, 5, 5]):
        passes = plan_passes([5, *neighbours], [True] * (1 + len(neighbours)), shape)
        (own,) = (one for one in passes if 0 in one.indices)
        assert own.length == alone.length == 8


def test_kinds_do_not_meet() -> None:
    passes = plan_passes([4, 4, 4], [True, False, True], PassShape(rows=4, step=4))
    assert sorted(one.indices for one in passes) == [[0, 2], [1]]


def test_padding_is_on_the_right_and_masked() -> None:
    ids, mask = pad_tokens([[5, 6], [7]], 4, pad_id=9)
    assert ids.tolist() == [[5, 6, 9, 9], [7, 9, 9, 9]]
    assert mask.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]
