"""RMS norm of any width, and norm with rotary positions for queries and keys of [image | context]."""

from mos.kernels.rms_norm.plain import norm_rope, rms_norm

__all__ = ["norm_rope", "rms_norm"]
