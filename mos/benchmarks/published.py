"""Figures that others report, from the tables of the paper (arXiv 2511.12207) or the benchmark's own page."""

from collections.abc import Mapping
from dataclasses import dataclass

CLIP = "CLIP"
"""Column of the cosine of picture and prompt, times 100."""


@dataclass(frozen=True)
class Table:
    """A published table; columns are named as `Scores` of the benchmark names its categories."""

    source: str
    """Which table it is."""
    columns: tuple[str, ...]
    """Categories; the overall score follows them."""
    rows: Mapping[str, tuple[float | None, ...]]
    """Model -> its figures, the overall one last; None where its source has none."""
    overall: str = "overall"
    """What the last of them is called."""


GENEVAL = Table(
    "MoS, Table 6",
    ("single_object", "two_object", "counting", "colors", "position", "color_attr"),
    {
        "SD3 Medium, 2B": (0.98, 0.74, 0.63, 0.67, 0.34, 0.36, 0.62),
        "FLUX.1 [Dev], 12B": (0.98, 0.81, 0.74, 0.79, 0.22, 0.45, 0.66),
        "SANA-1.5, 4.8B": (0.99, 0.93, 0.86, 0.84, 0.59, 0.65, 0.81),
        "Qwen-Image, 20B": (0.99, 0.92, 0.89, 0.88, 0.76, 0.77, 0.87),
        "Bagel, 14B": (0.98, 0.95, 0.84, 0.95, 0.78, 0.77, 0.88),
        "MoS-S, 3B": (1.00, 0.95, 0.83, 0.89, 0.86, 0.81, 0.89),
        "MoS-L, 5B": (1.00, 0.97, 0.82, 0.91, 0.88, 0.80, 0.90),
    },
)
DPG = Table(
    "MoS, Table 7",
    ("global", "entity", "attribute", "relation", "other"),
    {
        "SDXL, 6.6B": (83.27, 82.43, 80.91, 86.76, 80.41, 74.65),
        "FLUX.1 [Dev], 12B": (74.35, 90.00, 88.96, 90.87, 88.33, 83.84),
        "SD3 Medium, 2B": (87.90, 91.01, 88.83, 80.70, 88.68, 84.08),
        "Qwen-Image, 20B": (91.32, 91.56, 92.02, 94.31, 92.73, 88.32),
        "MoS-S, 3B": (89.29, 92.17, 92.09, 89.38, 90.18, 86.33),
        "MoS-L, 5B": (91.74, 90.59, 91.29, 93.30, 91.69, 87.01),
    },
)
WISE = Table(
    "MoS, Table 8",
    ("culture", "time", "space", "biology", "physics", "chemistry"),
    {
        "SDXL, 6.6B": (0.43, 0.48, 0.47, 0.44, 0.45, 0.27, 0.43),
        "FLUX.1 [Dev], 12B": (0.48, 0.58, 0.62, 0.42, 0.51, 0.35, 0.50),
        "Bagel, 14B": (0.44, 0.55, 0.68, 0.44, 0.60, 0.39, 0.52),
        "Qwen-Image, 20B": (0.62, 0.63, 0.77, 0.57, 0.75, 0.40, 0.62),
        "MoS-S, 3B": (0.40, 0.50, 0.65, 0.43, 0.63, 0.37, 0.47),
        "MoS-L, 5B": (0.47, 0.56, 0.74, 0.49, 0.64, 0.44, 0.54),
    },
)
ONEIG = Table(
    "MoS, Table 9",
    ("alignment", "text", "reasoning", "style", "diversity"),
    {
        "SANA-1.5, 4.8B": (0.77, 0.07, 0.22, 0.40, 0.22, 0.33),
        "Bagel, 14B": (0.77, 0.24, 0.17, 0.37, 0.25, 0.36),
        "FLUX.1 [Dev], 12B": (0.79, 0.52, 0.25, 0.37, 0.24, 0.43),
        "Qwen-Image, 20B": (0.88, 0.89, 0.31, 0.42, 0.20, 0.54),
        "MoS-S, 3B": (0.82, 0.82, 0.26, 0.38, 0.20, 0.50),
        "MoS-L, 5B": (0.85, 0.87, 0.26, 0.41, 0.19, 0.52),
    },
)
IMGEDIT = Table(
    "MoS, Table 10",
    ("add", "adjust", "extract", "replace", "remove", "background", "style", "compose", "action"),
    {
        "Instruct-Pix2Pix, 0.86B": (2.45, 1.83, 1.44, 2.01, 1.50, 1.44, 3.55, 1.20, 1.46, 1.88),
        "Step1X-Edit, 12B": (3.88, 3.14, 1.76, 3.40, 2.41, 3.16, 4.63, 2.64, 2.52, 3.06),
        "Bagel, 14B": (3.56, 3.31, 1.70, 3.30, 2.62, 3.24, 4.49, 2.38, 4.17, 3.20),
        "Qwen-Image, 20B": (4.38, 4.16, 3.43, 4.66, 4.14, 4.38, 4.81, 3.82, 4.69, 4.27),
        "MoS-S, 3B": (4.40, 4.02, 2.39, 4.80, 4.60, 4.52, 4.68, 3.80, 4.31, 4.17),
        "MoS-L, 5B": (4.63, 4.47, 2.04, 4.85, 4.73, 4.85, 4.71, 4.16, 4.52, 4.33),
    },
)
GEDIT = Table(
    "MoS, Table 11",
    ("semantics", "quality"),
    {
        "Instruct-Pix2Pix, 0.86B": (3.58, 5.49, 3.68),
        "Bagel, 14B": (7.36, 6.83, 6.52),
        "Step1X-Edit, 12B": (7.66, 7.35, 6.97),
        "Qwen-Image, 20B": (8.00, 7.86, 7.56),
        "MoS-S, 3B": (8.00, 7.34, 7.41),
        "MoS-L, 5B": (8.54, 7.64, 7.86),
    },
)
MJHQ = Table(
    "card of MJHQ-30K; MoS, Tables 1 and 3, whose ablations are of models of 1 B",
    (CLIP,),
    {
        "SDXL-1-0-refiner": (None, 9.55),
        "playground-v2-1024px-aesthetic": (None, 7.07),
        "MoS ablation, hand-crafted routing": (22.04, 21.51),
        "MoS ablation, learned routing": (22.91, 17.77),
    },
    overall="FID",
)
