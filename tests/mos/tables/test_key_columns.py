import numpy as np
import pyarrow as pa
import pytest

from mos.states.keys import context_key, latent_key
from mos.tables.key_columns import (
    add_words,
    context_keys,
    from_hex,
    hex_columns,
    key_columns,
    keys_of_columns,
    latent_keys,
    to_hex,
)

TEXTS = ["", "a red circle", 'quoted " and \\ and /', "déjà vu", "图", "😀", "tab\t nul\x00 \u2028 \x7f", "a" * 5000]
IMAGES = [None, "ab" * 32, None, "0" * 64, None, None, "f" * 64, None]


def test_columns_hold_the_keys_of_each_row():
    keys = to_hex(context_keys(pa.array(TEXTS), pa.array(IMAGES)))
    assert keys.to_pylist() == [context_key(text, image) for text, image in zip(TEXTS, IMAGES, strict=True)]
    images, buckets = ["ab" * 32, "0" * 64], ["32x32", "24x40"]
    keys = to_hex(latent_keys(pa.array(images), 'wan "é"', pa.array(buckets)))
    assert keys.to_pylist() == [
        latent_key(image, 'wan "é"', bucket) for image, bucket in zip(images, buckets, strict=True)
    ]


@pytest.mark.parametrize("count", [0, 1, 9])
def test_hex_and_back(count):
    texts = pa.array([context_key(str(number)) for number in range(count + 3)])
    for part in (texts.slice(0, count), texts.slice(3), texts.slice(2, count)):
        keys = from_hex(part)
        assert keys.shape == (len(part), 4)
        assert to_hex(keys).equals(part)
        assert np.array_equal(keys_of_columns("k", pa.record_batch(key_columns("k", keys))), keys)
        in_order = np.lexsort(keys.T[::-1])
        assert part.take(in_order).to_pylist() == sorted(part.to_pylist())


@pytest.mark.parametrize("keys", [["ab"], ["ab" * 32, None], ["zz" * 32]])
def test_what_is_no_key_is_refused(keys):
    with pytest.raises(ValueError, match="digit"):
        from_hex(pa.array(keys))


@pytest.mark.parametrize("words", [1, 4])
def test_hashes_of_any_words_may_be_null(words):
    digits = 16 * words
    texts = [None, "f" * digits, "0" * (digits - 1) + "7", None]
    columns = hex_columns("h", pa.array(texts, pa.string()), words)
    assert list(columns) == [f"h{word}" for word in range(words)]
    assert columns["h0"].to_pylist()[:2] == [None, 2**64 - 1]
    assert columns[f"h{words - 1}"].to_pylist()[2:] == [7, None]
    held = pa.record_batch({name: column.drop_null() for name, column in columns.items()})
    assert to_hex(keys_of_columns("h", held, words)).to_pylist() == texts[1:3]


def test_a_sum_of_keys_is_that_of_any_order_and_grouping():
    keys = from_hex(pa.array([f"{number:064x}" for number in (2**256 - 1, 2**64 + 5, 3)]))
    words = [[int(word) for word in key] for key in keys]
    summed = [[sum(column) for column in zip(*words[:2], strict=True)], words[2]]
    assert add_words(words) == add_words(reversed(words)) == add_words(summed) == 2**64 + 7
    assert add_words([[None] * 4]) == add_words([]) == 0
