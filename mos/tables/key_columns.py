"""Keys of `mos.states.keys` as columns: 32 bytes each, as four 64-bit words [keys, 4], made and read a batch at a time.

What a table holds as 64 hex digits is compared and joined in this form: a whole sha256, so nothing is left to chance.
The first word is the first 16 digits: keys are in the same order either way.
"""

import hashlib
from binascii import hexlify, unhexlify
from collections.abc import Iterable
from json.encoder import encode_basestring_ascii

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

HEX_DIGITS = 64


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


def from_hex(keys: pa.StringArray) -> Keys:
    """Keys that are written as 64 hex digits each.

    Raises:
        ValueError: one is null, or has another length or other characters.
    """
    if len(keys) == 0:
        return _words(b"")
    if keys.null_count or pc.any(pc.not_equal(pc.binary_length(keys), HEX_DIGITS)).as_py():
        raise ValueError(f"a key is not {HEX_DIGITS} hex digits")
    start = np.frombuffer(keys.buffers()[1], np.int32)[keys.offset]
    return _words(unhexlify(keys.buffers()[2].slice(start, len(keys) * HEX_DIGITS)))


def to_hex(keys: Keys) -> pa.StringArray:
    """Keys as 64 hex digits each."""
    digits = hexlify(keys.astype(">u8").tobytes())
    offsets = np.arange(len(keys) + 1, dtype=np.int64) * HEX_DIGITS
    text = pa.Array.from_buffers(pa.large_string(), len(keys), [None, pa.py_buffer(offsets), pa.py_buffer(digits)])
    return text.cast(pa.string())


def key_columns(prefix: str, keys: Keys) -> dict[str, NDArray[np.uint64]]:
    """The words of keys as columns `<prefix>0` to `<prefix>3`."""
    return {f"{prefix}{word}": np.ascontiguousarray(keys[:, word]) for word in range(4)}


def keys_of_columns(prefix: str, batch: pa.RecordBatch) -> Keys:
    """Keys from the columns of their words."""
    return np.stack([batch.column(f"{prefix}{word}").to_numpy() for word in range(4)], axis=1)


def _hashed(texts: Iterable[bytes]) -> Keys:
    return _words(b"".join([hashlib.sha256(text).digest() for text in texts]))


def _words(digests: bytes) -> Keys:
    return np.frombuffer(digests, ">u8").astype(np.uint64).reshape(-1, 4)


def _json(image: str | None) -> str:
    return "null" if image is None else encode_basestring_ascii(image)
