"""The dtype policy of training: fp32 master weights, configurable dtypes for compute and gradient reduction.

The paper's policy (Appendix A): generation tower and router are gathered in bf16 and their gradients reduced in
fp32. The frozen understanding tower (bf16) and VAE (fp32) never enter the training step: their outputs are read
from tables. Inputs enter the model in fp32 and meet the compute dtype at the first weight, so that a timestep is
embedded before it is rounded: bf16 tells apart no more than 128 timesteps in [0.5, 1].
"""

from mos.config import StrictConfig
from mos.precision import DtypeName, Precision


class PrecisionConfig(StrictConfig):
    """Dtypes of one training step; master weights, moments and EMA are always float32."""

    compute: Precision = "auto"
    """Dtype that weights are gathered in and that matrix products run in. `auto`: bfloat16 on GPUs and on CPUs with
    AVX-512-BF16 or AMX, float32 elsewhere (`mos.precision`)."""
    reduce: DtypeName = "float32"
    """Dtype of gradient reduction across ranks."""
