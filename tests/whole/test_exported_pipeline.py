"""What a training stage exports is a pipeline of diffusers that draws with the average of its weights."""

import json
from pathlib import Path

import numpy as np
import torch

from mos.model.exported import INDEX
from mos.model.mos import MoS
from mos.sampling.draw import load_for_drawing
from mos.sampling.noise import generators_of
from mos.sampling.pipeline import MoSPipeline
from mos.training.ema import Ema
from mos.training.engine import build_engine
from mos.training.export import write_export
from mos.training.stage import StageConfig
from tests.mos.sampling.tiny_export import TINY, random_model, told
from tests.mos.sampling.tiny_pipeline import tiny_pipeline
from tests.mos.training.gloo import process_group


def exported(folder: Path, model: MoS) -> Path:
    stage = StageConfig(resolution=16, steps=1, batch_size=1)
    with process_group(0, 1, folder / "group"):
        engine = build_engine(stage.engine, stage.optimizer, model, torch.device("cpu"), recompute=False)
        write_export(folder / "export", engine, Ema(engine.weights(), 0.9), told())
    return folder / "export"


def test_a_stage_s_export_is_a_pipeline_by_reference(tmp_path: Path) -> None:
    folder = exported(tmp_path, random_model(seed=5))
    index = json.loads((folder / INDEX).read_text())
    assert [index[name] for name in ("vae", "text_encoder", "tokenizer")] == [[None, None]] * 3
    settings = {"generator": generators_of([1]), "num_inference_steps": 2, "output_type": "np"}
    expected = tiny_pipeline(random_model(TINY, seed=5))("a ring", **settings).images
    for pipe in (MoSPipeline.from_pretrained(folder), load_for_drawing(folder)):
        settings["generator"] = generators_of([1])
        assert np.array_equal(pipe("a ring", **settings).images, expected)


def test_it_is_handed_on_in_one_folder(tmp_path: Path) -> None:
    pipe = MoSPipeline.from_pretrained(exported(tmp_path, random_model(seed=5)))
    pipe.save_pretrained(tmp_path / "whole")
    index = json.loads((tmp_path / "whole" / INDEX).read_text())
    assert index["text_encoder"] == ["transformers", "BertModel"]
    assert (index["tower"]["path"], index["run"]) == (None, told()["run"])
    settings = {"num_inference_steps": 2, "output_type": "np"}
    one, other = (
        loaded("a ring", generator=generators_of([1]), **settings).images
        for loaded in (pipe, load_for_drawing(tmp_path / "whole"))
    )
    assert np.array_equal(one, other)
