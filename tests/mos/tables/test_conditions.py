"""Filters as the conditions that all hold."""

import re

import lance
import pyarrow as pa
import pytest

from mos.tables.conditions import conditions, names


@pytest.mark.parametrize(
    ("sql", "parts"),
    [
        ("", []),
        ("a > 1", ["a > 1"]),
        ("a > 1 AND b < 2 and c = 3", ["a > 1", "b < 2", "c = 3"]),
        ("(a > 1 AND b < 2) AND NOT c", ["(a > 1 AND b < 2)", "NOT c"]),
        ("caption = 'this AND that' AND b < 2", ["caption = 'this AND that'", "b < 2"]),
        ("caption = 'it''s (so' AND b < 2", ["caption = 'it''s (so'", "b < 2"]),
        ("a > 1 AND b < 2 OR c = 3", ["a > 1 AND b < 2 OR c = 3"]),
        ("a > 1 AND (b < 2 OR c = 3)", ["a > 1", "(b < 2 OR c = 3)"]),
        ("a BETWEEN 1 AND 2 AND b < 2", ["a BETWEEN 1 AND 2 AND b < 2"]),
        ("(a BETWEEN 1 AND 2) AND b < 2", ["(a BETWEEN 1 AND 2)", "b < 2"]),
        ("CASE WHEN a AND b THEN c END AND b", ["CASE WHEN a AND b THEN c END AND b"]),
        ("ANDROID = 1 AND `or` = 2", ["ANDROID = 1", "`or` = 2"]),
    ],
)
def test_a_filter_comes_apart_at_its_outermost_ands(sql: str, parts: list[str]):
    assert conditions(sql) == parts


def test_a_name_is_a_whole_word_outside_of_text():
    column = re.compile("loss_stage[1-4]")
    assert names("loss_stage1 < 1 OR `loss_stage2` > 2", column) == {"loss_stage1", "loss_stage2"}
    assert names("caption = 'loss_stage1' AND my_loss_stage1 < 1 AND loss_stage12 < 1", column) == set()


@pytest.mark.parametrize(
    "sql",
    [
        "a > 3 AND b < 40 AND (c IS NULL OR c > 1)",
        "NOT a > 3 AND (b BETWEEN 10 AND 60) AND c IN (1, 2)",
        "a BETWEEN 2 AND 7 AND b > 20",
        "a > 3 OR b < 20 AND c > 1",
    ],
)
def test_the_conditions_together_keep_what_the_filter_keeps(tmp_path, sql: str):
    rows = [{"a": n % 10, "b": n, "c": None if n % 7 == 0 else n % 4} for n in range(100)]
    table = lance.write_dataset(pa.Table.from_pylist(rows), tmp_path / "t.lance")
    kept = table.to_table(filter=sql)["b"].to_pylist()
    each = [set(table.to_table(filter=part)["b"].to_pylist()) for part in conditions(sql)]
    assert kept == sorted(set.intersection(*each))
    assert 0 < len(kept) < 100
