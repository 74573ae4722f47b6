"""The bytes of one context's hidden states: ragged, row-addressed `[token][layer][dim]`, little endian.

Dimension key
    ctx    tokens of one context
    layer  m + 1 states of the tower, index 0 the embedding
    dim    width of the tower
"""

from typing import Literal, Protocol

import torch
from jaxtyping import BFloat16
from torch import Tensor

FormatName = Literal["bf16", "int8"]


class StateFormat(Protocol):
    """How states become bytes; the one place that knows."""

    name: FormatName
    """Stored as `format` in the table's schema metadata."""

    def pack(self, states: BFloat16[Tensor, "ctx layer dim"]) -> bytes:
        """Bytes of one context."""
        ...

    def unpack(self, payload: bytes, num_tokens: int) -> BFloat16[Tensor, "ctx layer dim"]:
        """States of one context.

        Raises:
            ValueError: the payload is not of `num_tokens` tokens of this format.
        """
        ...


def state_format(name: FormatName, num_states: int, dim: int) -> StateFormat:
    """The format of a table: `num_states` (m + 1) states of width `dim` per token."""
    match name:
        case "bf16":
            return Bf16Format(num_states, dim)
        case "int8":
            return Int8Format(num_states, dim)


class Bf16Format:
    """The states as they are: 2 bytes a value, exact."""

    name: FormatName = "bf16"

    def __init__(self, num_states: int, dim: int) -> None:
        self._shape = (num_states, dim)

    def pack(self, states: BFloat16[Tensor, "ctx layer dim"]) -> bytes:
        """Bytes of one context."""
        _check_states(states, self._shape)
        return states.contiguous().view(torch.uint8).numpy().tobytes()

    def unpack(self, payload: bytes, num_tokens: int) -> BFloat16[Tensor, "ctx layer dim"]:
        """States of one context, in memory of their own."""
        num_states, dim = self._shape
        _check_payload(payload, num_tokens, 2 * num_states * dim)
        return torch.frombuffer(bytearray(payload), dtype=torch.bfloat16).view(num_tokens, num_states, dim)


class Int8Format:
    """One byte a value and one float32 scale per token and layer, in front of its row: half the size, lossy."""

    name: FormatName = "int8"

    def __init__(self, num_states: int, dim: int) -> None:
        self._shape = (num_states, dim)

    def pack(self, states: BFloat16[Tensor, "ctx layer dim"]) -> bytes:
        """Bytes of one context."""
        _check_states(states, self._shape)
        values = states.float()
        scale = values.abs().amax(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / 127
        codes = (values / scale).round().to(torch.int8)
        return torch.cat([scale.view(torch.int8), codes], dim=-1).numpy().tobytes()

    def unpack(self, payload: bytes, num_tokens: int) -> BFloat16[Tensor, "ctx layer dim"]:
        """States of one context: relative error of a value at most 1/254 of its row's largest."""
        num_states, dim = self._shape
        _check_payload(payload, num_tokens, num_states * (dim + 4))
        rows = torch.frombuffer(bytearray(payload), dtype=torch.int8).view(num_tokens, num_states, dim + 4)
        scale = rows[..., :4].contiguous().view(torch.float32)
        return (rows[..., 4:].float() * scale).bfloat16()


def _check_states(states: Tensor, shape: tuple[int, int]) -> None:
    if states.dtype != torch.bfloat16 or tuple(states.shape[1:]) != shape:
        raise ValueError(f"states are {states.dtype} {tuple(states.shape)}, the table holds bf16 [ctx, {shape}]")


def _check_payload(payload: bytes, num_tokens: int, bytes_per_token: int) -> None:
    if len(payload) != num_tokens * bytes_per_token:
        raise ValueError(f"a payload of {len(payload)} bytes is not {num_tokens} tokens of {bytes_per_token} bytes")
