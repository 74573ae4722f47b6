"""Prompts in; pictures, how they came about and what the router chose out."""

import io

import pyarrow as pa

from mos.sampling.config import SamplerConfig
from mos.sampling.draw import load_for_drawing
from mos.sampling.pictures import to_png
from mos.sampling.traced import draw_traced


class TraceRouter:
    """Draws a picture for each row and keeps every denoising step of it.

    Reads   prompt, seed
    Writes  image: PNG bytes; noisy, predicted: PNG bytes of each step; trace: npz of `mos.sampling.trace.RouterTrace`
    """

    def __init__(self, export: str, sampler: SamplerConfig, device: str) -> None:
        """Load the model of an export folder onto a torch device."""
        self._pipeline = load_for_drawing(export, device=device)
        self._sampler = sampler

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Draw the pictures of a batch one by one."""
        columns: dict[str, list] = {"image": [], "noisy": [], "predicted": [], "trace": []}
        for row in batch.to_pylist():
            picture = draw_traced(self._pipeline, row["prompt"], self._sampler, seed=row["seed"])
            trace = io.BytesIO()
            picture.trace.save(trace)
            columns["image"].append(to_png(picture.image))
            columns["noisy"].append([to_png(image) for image in picture.noisy])
            columns["predicted"].append([to_png(image) for image in picture.predicted])
            columns["trace"].append(trace.getvalue())
        for name, values in columns.items():
            batch = batch.append_column(name, pa.array(values))
        return batch
