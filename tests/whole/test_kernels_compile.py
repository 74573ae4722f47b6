import os
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_every_kernel_compiles_for_hopper(clone, tmp_path):
    pytest.importorskip("triton")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.mos.kernels.hopper_compile"]
    result = subprocess.run(
        command, cwd=clone, env=environment | {"TRITON_CACHE_DIR": str(tmp_path)}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "all kernels compile" in result.stdout
