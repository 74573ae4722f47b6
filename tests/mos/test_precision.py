"""The dtype of a device follows what it computes with, also where torch is told to leave instructions alone."""

import json
import os
import subprocess
import sys

import pytest
import torch

from mos.precision import fast_dtype, instruction_sets, resolve_dtype

LOOK = "import json; from mos.precision import *; print(json.dumps([fast_dtype('cpu'), instruction_sets()]))"


def seen_with(**variables: str) -> tuple[str, list[str]]:
    """What a process with these environment variables answers."""
    command = [sys.executable, "-c", LOOK]
    result = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=True)
    return tuple(json.loads(result.stdout))


@pytest.mark.parametrize("limit", [{"ATEN_CPU_CAPABILITY": "avx2"}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}], ids=str)
def test_a_cpu_without_bfloat16_instructions_computes_in_float32(limit):
    dtype, sets = seen_with(**limit)
    assert dtype == "float32"
    assert not {"AVX512_BF16", "AMX"} & set(sets)


def test_this_cpu_gets_bfloat16_exactly_where_it_multiplies_it():
    has = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    wide = "AVX512" in torch.backends.cpu.get_cpu_capability() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert fast_dtype("cpu") == ("bfloat16" if has and wide else "float32")
    assert instruction_sets()[0] == torch.backends.cpu.get_cpu_capability()


def test_a_driver_without_a_gpu_plans_bfloat16_for_its_cluster():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert fast_dtype("cuda") == fast_dtype("cuda:3") == "bfloat16"


def test_a_named_dtype_is_taken_as_it_is():
    assert resolve_dtype("bfloat16", "cpu") == "bfloat16"
    assert resolve_dtype("float32", "cuda") == "float32"
    assert resolve_dtype("auto", "cpu") == fast_dtype("cpu")
