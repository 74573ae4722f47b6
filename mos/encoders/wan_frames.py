"""The Wan 2.2 VAE on single frames: what diffusers' AutoencoderKLWan makes of one, in less work and in strips of rows.

Its convolutions are causal in time: before the first frame they see zeros, so of a kernel only the slice of the newest
frame counts, and the convolution is one of a picture. Its norms are over channels alone, so a block gives the same
rows whether it sees the whole frame or a strip with as many neighbouring rows as its convolutions reach. The middle
blocks, which attend from every cell to every other, run whole: they work at the resolution of the latents.

Dimension key
    batch           frames
    height, width   px
    h, w            grid of the latents: height / 16
    c, d, x, y      channels and grid of a block's input and output
"""

import copy
from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

Block = Callable[[Tensor], Tensor]


class FrameConv(nn.Module):
    """A causal 3D convolution of the first frame: the 2D convolution by the newest slice of its kernel."""

    def __init__(self, causal: Any, *, shared: bool = False) -> None:
        """Take a convolution's weights: the newest slice of the kernel, or, shared, the kernel itself."""
        super().__init__()
        left, right, top, bottom = causal._padding[:4]
        if (left, top) != (right, bottom) or tuple(causal.stride) != (1, 1, 1):
            raise ValueError(f"a convolution of padding {causal._padding} and stride {causal.stride} is not known")
        self.padding = (top, left)
        newest = causal.weight[:, :, -1:].detach().clone()
        self.weight = causal.weight if shared else nn.Parameter(newest, requires_grad=False)
        self.bias = causal.bias if shared else nn.Parameter(causal.bias.detach(), requires_grad=False)

    def forward(self, frames: Float[Tensor, "batch c 1 y x"]) -> Float[Tensor, "batch d 1 y x"]:
        """Of the same height and width."""
        newest = self.weight[:, :, -1]
        return nn.functional.conv2d(frames[:, :, 0], newest, self.bias, padding=self.padding)[:, :, None]


class WanFrames:
    """Encoder and decoder of an AutoencoderKLWan, which is taken over: it takes no videos any more.

    Shared, it stays as it is, and both work with one set of weights, wherever and in whatever dtype they are.
    """

    def __init__(self, vae: Any, *, shared: bool = False) -> None:
        weights = {id(weight): weight for weight in vae.parameters()} if shared else {}
        self.vae = copy.deepcopy(vae, weights) if shared else vae
        _use_frame_convolutions(self.vae, shared=shared)

    def encode(
        self, frames: Float[Tensor, "batch 3 height width"], rows: int | None = None
    ) -> Float[Tensor, "batch 48 h w"]:
        """Posterior means.

        Args:
            frames: values in [-1, 1].
            rows: pixels of height that a block sees at a time, beside its neighbours; a multiple of the stride of 16.
                None: all.
        """
        from diffusers.models.autoencoders.autoencoder_kl_wan import patchify

        encoder, height = self.vae.encoder, frames.shape[-2]
        rows = rows or height
        first, *others = encoder.down_blocks
        x = patchify(frames[:, :, None], self.vae.config.patch_size)
        x = in_strips(lambda strip: first(encoder.conv_in(strip)), x, rows * x.shape[-2] // height, _reach(first) + 2)
        for block in others:
            x = in_strips(block, x, rows * x.shape[-2] // height, _reach(block))
        x = encoder.conv_out(encoder.nonlinearity(encoder.norm_out(encoder.mid_block(x))))
        return self.vae.quant_conv(x)[:, :, 0].chunk(2, dim=1)[0]

    def decode(
        self, latents: Float[Tensor, "batch 48 h w"], rows: int | None = None
    ) -> Float[Tensor, "batch 3 height width"]:
        """Frames of values around [-1, 1], not clipped; `rows` as for `encode`."""
        from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

        decoder, height = self.vae.decoder, latents.shape[-2] * self.vae.config.scale_factor_spatial
        rows = rows or height
        *others, fine, finest = decoder.up_blocks

        def finish(strip: Tensor) -> Tensor:  # together, since what is between them is the largest there is
            strip = finest(fine(strip, first_chunk=True), first_chunk=True)
            return decoder.conv_out(decoder.nonlinearity(decoder.norm_out(strip)))

        x = decoder.mid_block(decoder.conv_in(self.vae.post_quant_conv(latents[:, :, None])))
        for block in others:
            x = in_strips(_first_chunk(block), x, rows * x.shape[-2] // height, _reach(block))
        x = in_strips(finish, x, rows * x.shape[-2] // height, _reach(fine) + _reach(finest) // 2 + 1)
        return unpatchify(x, self.vae.config.patch_size)[:, :, 0]


def in_strips(block: Block, frames: Float[Tensor, "*batch y x"], rows: int, reach: int) -> Float[Tensor, "*batch y x"]:
    """A block on strips of `rows` rows, each seen with `reach` rows above and below where there are any, joined again.

    Args:
        block: changes the number of rows by a factor, and lets each row of its output depend on rows within `reach`.
        frames: its input.
        rows: of a strip; a multiple of 2, as `reach` is, where the block halves the number of rows.
        reach: rows.
    """
    height = frames.shape[-2]
    if rows >= height:
        return block(frames)
    joined: Tensor | None = None
    for first in range(0, height, rows):
        last = min(first + rows, height)
        top, bottom = min(reach, first), min(reach, height - last)
        seen = last - first + top + bottom
        part = block(frames[..., first - top : last + bottom, :])
        made = part.shape[-2]
        if joined is None:
            joined = part.new_empty(*part.shape[:-2], height * made // seen, part.shape[-1])
        kept = part.narrow(-2, top * made // seen, (last - first) * made // seen)
        joined.narrow(-2, first * made // seen, kept.shape[-2]).copy_(kept)
    assert joined is not None
    return joined


def _first_chunk(block: Any) -> Block:
    return lambda strip: block(strip, first_chunk=True)


def _reach(block: Any) -> int:
    """Rows of a block's input, on either side, that a row of its output depends on: a multiple of 2."""
    return 2 * len(block.resnets) + 2


def _use_frame_convolutions(module: nn.Module, *, shared: bool) -> None:
    """Put a `FrameConv` in the place of every causal convolution, and drop those over time alone: no first frame
    passes them.
    """
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanResample

    if isinstance(module, WanResample) and hasattr(module, "time_conv"):
        del module.time_conv
    for name, child in list(module.named_children()):
        if isinstance(child, WanCausalConv3d):
            setattr(module, name, FrameConv(child, shared=shared))
        else:
            _use_frame_convolutions(child, shared=shared)
