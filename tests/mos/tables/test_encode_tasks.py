import pytest

from mos.tables.encode_tasks import cut_pieces, num_pieces


def test_pieces_are_enough_for_the_actors_and_small_enough_for_a_fragment() -> None:
    assert [num_pieces(rows, 100, 2) for rows in (1, 2, 100, 101, 201, 1000)] == [1, 2, 2, 2, 3, 10]


@pytest.mark.parametrize(("rows", "num", "sizes"), [(1, 1, [1]), (7, 3, [3, 2, 2]), (6, 3, [2, 2, 2]), (2, 2, [1, 1])])
def test_pieces_are_runs_of_rows_of_about_one_length(rows: int, num: int, sizes: list[int]) -> None:
    pieces = list(cut_pieces(rows, num))
    assert [len(piece) for piece in pieces] == sizes
    assert [row for piece in pieces for row in piece] == list(range(rows))
