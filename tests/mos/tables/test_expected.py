from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mos.states.keys import context_key
from mos.tables.expected import NamedKeys, SortedKeys
from mos.tables.key_columns import from_hex, to_hex

KEYS = sorted(context_key(str(number)) for number in range(100))


def sorted_keys(folder: Path, keys: list[str], batch: int = 7) -> SortedKeys:
    columns = from_hex(pa.array(keys, pa.string()))
    return SortedKeys(folder, (columns[start : start + batch] for start in range(0, len(keys), batch)))


@pytest.mark.parametrize("num", [0, 1, 8, 9, 100])
def test_each_key_comes_once(tmp_path: Path, num: int) -> None:
    expected = sorted_keys(tmp_path, KEYS[:num])
    for part in np.array_split(np.random.default_rng(num).permutation(num), 3):
        left = len(expected)
        expected.take([KEYS[place] for place in part])
        assert len(expected) == left - len(part)
    assert len(expected) == 0


@pytest.mark.parametrize("in_files", [True, False])
def test_a_key_that_comes_twice_or_was_never_asked_for_is_named(tmp_path: Path, in_files: bool) -> None:
    if in_files:
        expected = sorted_keys(tmp_path, KEYS[:9])
    else:
        expected = NamedKeys()
        expected.name(KEYS[:9])
    expected.take(KEYS[3:5])
    for key in (KEYS[4], KEYS[50], context_key("other")):
        with pytest.raises(RuntimeError, match=f"key {key} came twice or was never asked for"):
            expected.take([key])
    assert len(expected) == 7


def test_keys_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    words = np.array([[1, 0, 0, 5], [1, 0, 2, 0], [1, 0, 2, 3], [1, 7, 0, 0], [2, 0, 0, 0]], np.uint64)
    expected = SortedKeys(tmp_path, iter([words]))
    keys = to_hex(words).to_pylist()
    expected.take([keys[2], keys[0]])
    with pytest.raises(RuntimeError, match="came twice"):
        expected.take([keys[2]])
    with pytest.raises(RuntimeError, match="never asked"):
        expected.take(to_hex(np.array([[1, 0, 1, 0]], np.uint64)).to_pylist())
    expected.take([keys[1], keys[3], keys[4]])
    assert len(expected) == 0
