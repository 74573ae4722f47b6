"""The bytes of one context's hidden states, as a row of a states table holds them.

A payload is planes, one after the other, each beginning at a multiple of 64 bytes and holding row token * layers +
layer at that many times its row's length (mos.states.packed says what is in a row):

| format | planes |
|---|---|
| bf16 | low bytes; high bytes (sign and most of the exponent), compressed by zstd: exact, about 0.70 of raw bf16 |
| int8, int4 | codes; scales; massive values |

Dimension key
    ctx    tokens of one context
    layer  hidden states the table holds per token, or all m + 1 of the tower where it says so
    dim    width of the tower
"""

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import pyarrow as pa
import torch
from jaxtyping import BFloat16, UInt8
from torch import Tensor

from mos.fingerprint import fingerprint
from mos.states.calibration import Calibration
from mos.states.packed import GROUP, NO_SCALE, FormatName, PackedStates
from mos.states.quantise import dequantise, quantise

CODEC_VERSION = 1
"""Raise it when the bytes or the meaning of a payload change: every table of older payloads is then left aside."""
ALIGNMENT = 64
"""Bytes; a cache line, and what the widest vector loads ask for."""
ZSTD_LEVEL = 1
"""Higher levels gave larger high-byte planes here, not smaller ones: their matches cost more than they save."""


@dataclass(frozen=True)
class StateCodec:
    """Byte format of a table's states; the one place that knows it."""

    format: FormatName
    layers: tuple[int, ...]
    """Hidden states of the tower that the table holds, ascending: 0 is the embedding, m the last."""
    dim: int
    calibration: Calibration | None = None
    """Of the layers held; None for `bf16` alone."""

    @property
    def identity(self) -> str:
        """12 hex digits over everything but the tower that decides a row's bytes."""
        calibration = None if self.calibration is None else self.calibration.digest
        return fingerprint(
            codec=CODEC_VERSION, format=self.format, layers=self.layers, dim=self.dim, calibration=calibration
        )[:12]

    def quantise(self, states: BFloat16[Tensor, "ctx layer dim"]) -> PackedStates:
        """All m + 1 states of one context, as the table holds them, on the device of the states."""
        held = states if len(self.layers) == states.shape[1] else states[:, list(self.layers)]
        calibration = None if self.calibration is None else self.calibration.to(held.device)
        return quantise(held, calibration, self.format)

    def pack(self, states: PackedStates) -> bytes:
        """Bytes of one context.

        Raises:
            ValueError: the states are not of this format, number of layers and width, or one of them is not finite.
        """
        if (states.format, states.num_layers, states.dim) != (self.format, len(self.layers), self.dim):
            raise ValueError(
                f"states are {states.format} of {states.num_layers} layers x {states.dim}, "
                f"the table holds {self.format} of {len(self.layers)} x {self.dim}"
            )
        if not states.is_finite():
            raise ValueError("states have values that are not finite")
        if self.format == "bf16":
            return _join(_split_bytes(states.codes))
        assert states.scales is not None, "quantised states have scales"
        assert states.massive is not None, "quantised states have massive values"
        return _join([_raw(states.codes), _raw(states.scales), _raw(states.massive)])

    def unpack(self, payload: bytes | bytearray | memoryview, num_tokens: int) -> PackedStates:
        """States of one context; they share the payload's memory where it is writable and the format quantised.

        Raises:
            ValueError: the payload is not of `num_tokens` tokens of this table.
        """
        writable = bytearray(payload) if memoryview(payload).readonly else payload
        data = torch.frombuffer(writable, dtype=torch.uint8) if len(payload) else torch.empty(0, dtype=torch.uint8)
        offsets = torch.tensor([0, num_tokens])
        rows = (num_tokens, len(self.layers))
        if self.format == "bf16":
            return PackedStates("bf16", offsets, _join_bytes(data, (*rows, self.dim)))
        ends = self._plane_ends(num_tokens)
        if len(data) != ends[-1]:
            raise ValueError(f"a payload of {len(data)} bytes is not {num_tokens} tokens of {ends[-1]} bytes in all")
        starts = [0, *(_aligned(end) for end in ends[:-1])]
        codes, scales, massive = (data[start:end] for start, end in zip(starts, ends, strict=True))
        signed = codes.view(torch.int8) if self.format == "int8" else codes
        return PackedStates(
            self.format,
            offsets,
            signed.view(*rows, -1),
            scales.view(*rows, -1),
            massive.view(torch.bfloat16).view(*rows, self._num_massive),
            self.calibration,
        )

    def unknown(self, num_tokens: int) -> PackedStates:
        """Stand-in for a context whose payload cannot be unpacked: states that are not finite."""
        rows, offsets = (num_tokens, len(self.layers)), torch.tensor([0, num_tokens])
        if self.format == "bf16":
            return PackedStates("bf16", offsets, torch.full((*rows, self.dim), torch.nan, dtype=torch.bfloat16))
        width, dtype = (self.dim, torch.int8) if self.format == "int8" else (self.dim // 2, torch.uint8)
        scales = torch.full((*rows, math.ceil(self.dim / GROUP[self.format])), NO_SCALE, dtype=torch.uint8)
        massive = torch.full((*rows, self._num_massive), torch.nan, dtype=torch.bfloat16)
        codes = torch.zeros((*rows, width), dtype=dtype)
        return PackedStates(self.format, offsets, codes, scales, massive, self.calibration)

    def decode(self, payload: bytes | bytearray | memoryview, num_tokens: int) -> BFloat16[Tensor, "ctx layer dim"]:
        """The states that a payload stands for."""
        return dequantise(self.unpack(payload, num_tokens))

    def metadata(self) -> dict[str, str]:
        """The codec as schema metadata of its table; `from_metadata` reads it back."""
        held = {
            "format": self.format,
            "layers": ",".join(map(str, self.layers)),
            "dim": str(self.dim),
            "codec_version": str(CODEC_VERSION),
        }
        if self.calibration is None:
            return held
        blob = base64.b64encode(self.calibration.to_bytes()).decode()
        return held | {"calibration": blob, "calibration_sha256": self.calibration.digest}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> Self:
        """The codec of a table.

        Raises:
            ValueError: the table is of another version of the code, or its calibration is not finite or does not
                have its own sha256.
        """
        if metadata.get("codec_version") != str(CODEC_VERSION):
            raise ValueError(f"payloads of version {metadata.get('codec_version')}, this code reads {CODEC_VERSION}")
        calibration = None
        if "calibration" in metadata:
            blob = base64.b64decode(metadata["calibration"])
            if hashlib.sha256(blob).hexdigest() != metadata["calibration_sha256"]:
                raise ValueError("the table's calibration does not have the sha256 it was written with")
            calibration = Calibration.from_bytes(blob)
            if not calibration.is_finite():
                raise ValueError("the table's calibration is not finite")
        layers = tuple(int(layer) for layer in metadata["layers"].split(","))
        return cls(metadata["format"], layers, int(metadata["dim"]), calibration)  # type: ignore[arg-type]

    @property
    def _num_massive(self) -> int:
        return 0 if self.calibration is None else self.calibration.massive.shape[1]

    def _plane_ends(self, num_tokens: int) -> list[int]:
        """Ends of codes, scales and massive values."""
        num_rows = num_tokens * len(self.layers)
        codes = self.dim if self.format == "int8" else self.dim // 2
        ends = [0]
        for row_bytes in (codes, math.ceil(self.dim / GROUP[self.format]), 2 * self._num_massive):
            ends.append(_aligned(ends[-1]) + num_rows * row_bytes)
        return ends[1:]


def _aligned(position: int) -> int:
    return position + -position % ALIGNMENT


def _raw(plane: Tensor) -> bytes:
    return plane.contiguous().cpu().view(torch.uint8).numpy().tobytes()


def _join(planes: Sequence[bytes]) -> bytes:
    parts: list[bytes] = []
    for plane in planes:
        position = sum(map(len, parts))
        parts += [bytes(_aligned(position) - position), plane]
    return b"".join(parts)


def _split_bytes(states: BFloat16[Tensor, "ctx layer dim"]) -> list[bytes]:
    """Low bytes as they are; high bytes, which have half their entropy, compressed."""
    both = states.contiguous().cpu().view(torch.uint8).unflatten(-1, (-1, 2)).numpy()
    high = pa.Codec("zstd", compression_level=ZSTD_LEVEL).compress(both[..., 1].tobytes(), asbytes=True)
    return [both[..., 0].tobytes(), high]


def _join_bytes(data: UInt8[Tensor, " byte"], shape: tuple[int, int, int]) -> BFloat16[Tensor, "ctx layer dim"]:
    num_values = math.prod(shape)
    try:
        compressed = data[_aligned(num_values) :].numpy()
        high = pa.Codec("zstd").decompress(compressed, num_values, asbytes=True) if num_values else b""
        both = torch.empty(*shape, 2, dtype=torch.uint8)
        both[..., 0] = data[:num_values].view(shape)
        both[..., 1] = torch.frombuffer(bytearray(high), dtype=torch.uint8).view(shape)
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"a payload of {len(data)} bytes is not bf16 states of {shape}: {error}") from error
    return both.view(torch.bfloat16)[..., 0]
