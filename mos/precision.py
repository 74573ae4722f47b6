"""Which dtype a device multiplies matrices in fast: asked of torch, in this one place, wherever a config says `auto`.

bfloat16 halves memory and multiplies the speed on GPUs and on CPUs that have instructions for it. On any other CPU
torch converts every number in scalar code: 1.3 GFLOP/s against 63 in float32 on one core limited to AVX2.
"""

from typing import Literal

import torch

DtypeName = Literal["bfloat16", "float32"]
Precision = Literal["auto", "bfloat16", "float32"]
"""A dtype, or the one that the device is fast in."""


def resolve_dtype(precision: Precision, device: str) -> DtypeName:
    """The dtype that a setting comes to on a device (`cpu`, `cuda`, `mps`; an index is ignored)."""
    return fast_dtype(device) if precision == "auto" else precision


def fast_dtype(device: str) -> DtypeName:
    """The dtype that a device multiplies matrices in fastest, of those that the model trains in.

    For `cuda` without a GPU in this machine, which is how a driver sees its cluster, the answer is that for any GPU
    since Ampere.
    """
    match device.partition(":")[0]:
        case "cuda":
            slow = torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False)
        case "mps":
            slow = not (torch.backends.mps.is_available() and torch.backends.mps.is_macos_or_newer(14, 0))
        case _:
            slow = not _cpu_multiplies_bfloat16()
    return "float32" if slow else "bfloat16"


def torch_dtype(name: DtypeName) -> torch.dtype:
    """The torch dtype of a configured name."""
    match name:
        case "bfloat16":
            return torch.bfloat16
        case "float32":
            return torch.float32


def instruction_sets() -> tuple[str, ...]:
    """Instruction sets of this CPU, widest vectors first, then its instructions for bfloat16; as torch uses them.

    `ATEN_CPU_CAPABILITY=avx2` and `ONEDNN_MAX_CPU_ISA=AVX2` make any x86 CPU one without AVX-512.
    """
    return (torch.backends.cpu.get_cpu_capability(), *(_x86_bfloat16() if _cpu_multiplies_bfloat16() else ()))


def _cpu_multiplies_bfloat16() -> bool:
    """True if the CPU has the instructions, and torch and oneDNN are not told to leave them alone."""
    return (
        bool(_x86_bfloat16())
        and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def _x86_bfloat16() -> tuple[str, ...]:
    """The instructions of this CPU that multiply bfloat16."""
    has = {"AVX512_BF16": torch.cpu._is_avx512_bf16_supported(), "AMX": torch.cpu._is_amx_tile_supported()}
    return tuple(name for name, present in has.items() if present)
