"""Keys of `mos.states.keys` as columns: 32 bytes each, as four 64-bit words [keys, 4], made and read a batch at a time.

What a table holds as 64 hex digits is compared and joined in this form: a whole sha256, so nothing is left to chance.
The first word is the first 16 digits: keys are in the same order either way.
"""

import hashlib
from binascii import hexlify, unhexlify
from collections.abc import Iterable, Sequence
from json.encoder import encode_basestring_ascii

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

WORDS = 4
"""Of a sha256."""
DIGITS_PER_WORD = 16
NUM_KEYS = 2**256


def context_keys(texts: pa.StringArray, images: pa.StringArray) -> Keys:
    """`mos.states.keys.context_key` of each text and the hash of its image, null where it has none."""
    pairs = zip(texts.to_pylist(), images.to_pylist(), strict=True)
    return _hashed(
        f'{{"image":{_json(image)},"text":{encode_basestring_ascii(text)}}}'.encode("ascii") for text, image in pairs
    )


def latent_keys(images: pa.StringArray, codec_id: str, buckets: pa.StringArray) -> Keys:
    """`mos.states.keys.latent_key` of each image, by its hash, in its bucket."""
    between = f'","codec":{encode_basestring_ascii(codec_id)},"image":"'
    pairs = zip(images.to_pylist(), buckets.to_pylist(), strict=True)
    return _hashed(f'{{"bucket":"{bucket}{between}{image}"}}'.encode("ascii") for image, bucket in pairs)


def from_hex(keys: pa.StringArray, words: int = WORDS) -> Keys:
    """Keys that are written as 64 hex digits each, or hashes of so many words [keys, words].

    Raises:
        ValueError: one is null, or has another length or other characters.
    """
    digits = words * DIGITS_PER_WORD
    if len(keys) == 0:
        return _words(b"", words)
    if keys.null_count or pc.any(pc.not_equal(pc.binary_length(keys), digits)).as_py():
        raise ValueError(f"a key is not {digits} hex digits")
    start = np.frombuffer(keys.buffers()[1], np.int32)[keys.offset]
    return _words(unhexlify(keys.buffers()[2].slice(start, len(keys) * digits)), words)


def to_hex(keys: Keys) -> pa.StringArray:
    """Keys as 64 hex digits each, or 16 for each word that they have."""
    digits = hexlify(keys.astype(">u8").tobytes())
    offsets = np.arange(len(keys) + 1, dtype=np.int64) * keys.shape[1] * DIGITS_PER_WORD
    text = pa.Array.from_buffers(pa.large_string(), len(keys), [None, pa.py_buffer(offsets), pa.py_buffer(digits)])
    return text.cast(pa.string())


def key_columns(prefix: str, keys: Keys) -> dict[str, NDArray[np.uint64]]:
    """The words of keys as columns `<prefix>0` to `<prefix>3`."""
    return {f"{prefix}{word}": np.ascontiguousarray(keys[:, word]) for word in range(keys.shape[1])}


def key_columns_at(prefix: str, rows: pa.UInt64Array, keys: Keys, length: int) -> dict[str, pa.UInt64Array]:
    """Columns of keys that stand at some rows, null at the others."""
    places, lacking = rows.to_numpy(), np.ones(length, bool)
    lacking[places] = False
    columns = {}
    for name, words in key_columns(prefix, keys).items():
        spread = np.zeros(length, np.uint64)
        spread[places] = words
        columns[name] = pa.array(spread, mask=lacking)
    return columns


def hex_columns(prefix: str, keys: pa.StringArray, words: int = WORDS) -> dict[str, pa.UInt64Array]:
    """Columns of keys that are written as hex digits, null where they are null."""
    return key_columns_at(prefix, pc.indices_nonzero(keys.is_valid()), from_hex(keys.drop_null(), words), len(keys))


def keys_of_columns(prefix: str, batch: pa.RecordBatch, words: int = WORDS) -> Keys:
    """Keys from the columns of their words."""
    return np.stack([batch.column(f"{prefix}{word}").to_numpy() for word in range(words)], axis=1)


def add_words(sums: Iterable[Sequence[int | None]]) -> int:
    """The sum of keys modulo NUM_KEYS, from sums over each of their four words; nulls are sums of nothing.

    It names a set of keys, whatever their order and however they came together: they are sha256 sums, so two sets of
    one size are as unlikely to have the same total by chance as two texts are to have the same sum.
    """
    total = sum(int(part or 0) << 64 * (WORDS - 1 - word) for row in sums for word, part in enumerate(row))
    return total % NUM_KEYS


def _hashed(texts: Iterable[bytes]) -> Keys:
    return _words(b"".join([hashlib.sha256(text).digest() for text in texts]))


def _words(digests: bytes, words: int = WORDS) -> Keys:
    return np.frombuffer(digests, ">u8").astype(np.uint64).reshape(-1, words)


def _json(image: str | None) -> str:
    return "null" if image is None else encode_basestring_ascii(image)
