"""How the blocks of a model are run: compiled, and recomputed in the backward pass. Their numbers stay the same.

Both replace how a block is called, not the block, so parameters keep their names; sharding comes after either.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts, noop_context_fn

from mos.model.mos import MoS

_ATTENTION = (
    "torch_attn::_varlen_attn",  # what `mos.model.attention` packs for
    *(
        f"aten::_scaled_dot_product_{name}"
        for name in ("flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu")
    ),
)


def compile_blocks(model: MoS, backend: str = "inductor") -> None:
    """Compile every generation block and router block, whole graphs only.

    Sizes are symbols, since the context's length differs between any two batches: one graph serves all buckets, and
    another is made only where gradients are switched off or a size is 1.

    Args:
        model: not sharded yet.
        backend: of torch.compile.
    """
    blocks = [*model.blocks, *([] if model.router is None else model.router.blocks)]
    for block in blocks:
        block.compile(fullgraph=True, dynamic=True, backend=backend)


def recompute_blocks(model: MoS, *, whole: bool = False) -> None:
    """Activation checkpointing that keeps what is cheap to keep: attention's output, queries, keys, values, `out`.

    These are 5 of the about 19 widths of the stream that a block saves for its backward pass, and spare it the second
    attention and half of the products; norms, gates and the wide half of the feed-forward run again. Blocks draw no
    random numbers.

    Args:
        model: not sharded yet.
        whole: keep nothing but each block's inputs, for who gathers weights inside a block, where what is kept would
            not be found again.
    """
    contexts = noop_context_fn if whole else partial(create_selective_checkpoint_contexts, _policy)
    for block in model.blocks:
        block.forward = _recomputed(block.forward, contexts)


def _recomputed(forward: Callable[..., Tensor], contexts: Callable[[], Any]) -> Callable[..., Tensor]:
    def run(*args: Any) -> Tensor:  # a function of ours, since torch.compile does not enter a partial of torch's
        result: Tensor = checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
        return result

    return run


def _policy(_: Any, operator: Any, *args: Any, **__: Any) -> CheckpointPolicy:
    """Keep attention and the products that neither widen nor narrow the stream by more than two."""
    if operator is torch.ops.aten.mm.default:
        inner, outer = args[1].shape
        keep = inner <= 2 * outer and outer <= 2 * inner
    else:
        keep = operator.name() in _ATTENTION
    return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE
