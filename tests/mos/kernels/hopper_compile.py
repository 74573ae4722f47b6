"""Compiles every kernel for sm_90, which needs no GPU: the interpreter accepts programs that the compiler does not.

python -m tests.mos.kernels.hopper_compile
"""

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mos.kernels.mix_states import triton as mix
from mos.kernels.rms_norm import triton as norm
from mos.kernels.swiglu import triton as gate

HOPPER = GPUTarget("cuda", 90, 32)
CODES = {"bf16": "*bf16", "int8": "*i8", "int4": "*u8"}
POINTERS = {
    "scales": "*u8",
    "channels": "*i32",
    "index": "*i64",
    "grads": "*fp32",
    "angles": "*fp32",
    "partial": "*fp32",
}
BF16_POINTERS = ("massive", "mean", "std", "out", "grad", "x", "weight", "gate_up")


def compile_kernel(kernel, constants, types=None):
    """To machine code, for the argument types of a bf16 model."""
    types = POINTERS | dict.fromkeys(BF16_POINTERS, "*bf16") | {"eps": "fp32"} | (types or {})
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names}
    return triton.compile(ASTSource(fn=kernel, signature=signature, constexprs=constants), target=HOPPER)


def main():
    """Compile; the first kernel that does not is the error."""
    for format, group in (("bf16", 1), ("int8", 64), ("int4", 32)):
        types = {"codes": CODES[format], "weights": "*fp32"}
        common = {"FORMAT": format, "GROUP": group, "MASSIVE": 0 if format == "bf16" else 2, "K": 2}
        tile = common | {"BLOCKS": 32, "LAYERS": 32, "CHANNELS": 128, "DOT": tl.bfloat16}
        compile_kernel(mix._mix_all, tile | {"TOKENS": mix.TOKENS[format]}, types)
        compile_kernel(mix._mix_all_backward, tile, types)
        compile_kernel(mix._mix_one, common | {"CHANNELS": 1024}, types)
    for kernel in (norm._norm_kernel, norm._norm_backward_kernel):
        compile_kernel(kernel, {"ROWS": 1, "WIDTH": 4096})
    for kernel in (norm._rope_kernel, norm._rope_backward_kernel):
        compile_kernel(kernel, {"PAIRS": 64, "HEADS": 32, "WIDTH": 64})
    for kernel in (gate._kernel, gate._backward_kernel):
        compile_kernel(kernel, {"WIDTH": 1024})
    print("all kernels compile")


if __name__ == "__main__":
    main()
