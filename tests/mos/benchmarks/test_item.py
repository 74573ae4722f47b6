from PIL import Image

from mos.benchmarks.item import Grid, Item, compose


def test_files_are_all_that_a_scorer_reads() -> None:
    item = Item("f:1", "a", ("p0.png", "p1.png"), Grid("g.png", 2), {"t.jsonl": "{}"}, prepared=("s.png",))
    assert item.files == ("p0.png", "p1.png", "g.png", "t.jsonl", "s.png")
    assert Item("f:1", "a", ("p0.png",)).files == ("p0.png",)


def test_pictures_lie_in_reading_order() -> None:
    pictures = [Image.new("RGB", (2, 3), (number, 0, 0)) for number in (1, 2, 3, 4, 5)]
    grid = compose(pictures, columns=3)
    assert grid.size == (6, 6)
    assert [grid.getpixel((2 * column, 3 * line))[0] for line in (0, 1) for column in (0, 1, 2)] == [1, 2, 3, 4, 5, 0]
