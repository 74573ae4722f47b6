"""The published sizes (paper section 3.5 and 4.1) and the demo's, by name.

Depth and width of the towers' hidden states are those of the named public checkpoints; widths of the generation
towers are ours, chosen to meet the published parameter counts.
"""

from mos.model.fusion import RoutedFusion
from mos.model.mos import ModelConfig
from mos.model.router import RouterConfig

FULL_SIZE_ROUTER = RoutedFusion(router=RouterConfig(dim=1920, num_heads=15, ffn_dim=4864))
"""About 100M parameters, the lightweight router of both published models."""

DEMO = ModelConfig(
    latent_channels=8,
    patch=2,
    state_dim=384,
    state_layers=6,
    dim=128,
    num_blocks=6,
    num_heads=4,
    ffn_dim=352,
    fusion=RoutedFusion(router=RouterConfig(dim=48, num_heads=3, ffn_dim=128)),
)
"""MiniLM (6 x 384) and a tower that two CPU cores train in minutes; 16 px a token."""

ABLATION = ModelConfig(
    latent_channels=48,
    patch=2,
    state_dim=3072,
    state_layers=28,
    dim=1792,
    num_blocks=22,
    num_heads=14,
    ffn_dim=4864,
    fusion=FULL_SIZE_ROUTER,
)
"""Llama-3.2-3B (28 x 3072) and a 1B generation tower."""

MOS_S = ModelConfig(
    latent_channels=48,
    patch=2,
    state_dim=4096,
    state_layers=32,
    dim=2560,
    num_blocks=32,
    num_heads=20,
    ffn_dim=7168,
    fusion=FULL_SIZE_ROUTER,
)
"""PLM-8B (32 x 4096) and a 3B generation tower."""

MOS_L = ModelConfig(
    latent_channels=48,
    patch=2,
    state_dim=5120,
    state_layers=48,
    dim=3072,
    num_blocks=38,
    num_heads=24,
    ffn_dim=8448,
    fusion=FULL_SIZE_ROUTER,
)
"""InternVL-14B (48 x 5120) and a 5B generation tower."""
