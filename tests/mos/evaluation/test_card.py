import re

from mos.autoencoder.config import CodecConfig
from mos.evaluation.card import TrainedStage, codec_card, model_card
from mos.evaluation.config import EvaluateConfig
from mos.evaluation.scores import EditScores, Scores
from mos.sampling.export import Export, ExportConfig
from mos.shapes.checker import CategoryScore
from mos.shapes.edits import EditKind
from mos.shapes.scene import Category
from tests.mos.training.tiny import MODEL, tiny_model

FIGURES = {"psnr_db": 34.26, "psnr_db_worst": 27.0, "pictures": 256, "num_params": 412_345, "bytes": 1_700_000}


def test_the_card_of_a_codec_has_its_figures_and_says_how_to_use_it():
    config = CodecConfig(resolution=64, stride=8, latent_channels=8, steps=500, decoder_steps=70, batch_size=32)
    card = codec_card("codec", "2 CPU cores", config, FIGURES, 0.75)
    assert card.startswith("---\nlicense: ")
    text = " ".join(card.split())
    for part in ("8 x 8 px", "8 channels", "0.41M parameters", "1.62 MiB", "| 34.3 |", "| 27.0 |", "256 pictures"):
        assert part in text
    assert 'vae = { type = "shapes" }' in text
    assert "500 steps of 32 pictures for encoder and decoder, 70 for the decoder alone" in text
    assert "0.8 hours on 2 CPU cores" in text
    assert not re.search(r"{[{%]|None", card)


def test_the_card_of_a_model_has_scores_and_edits():
    export = Export(
        tiny_model(),
        ExportConfig.model_validate(
            {"model": MODEL, "tower": {"type": "minilm"}, "vae": {"type": "shapes"},
             "run": {"resolution": 64, "tower_id": "minilm-0"}}
        ),
    )  # fmt: skip
    single = CategoryScore(num=256, correct=0.5, count=1.0, shape=0.75, colour=None, position=None)
    scores = Scores({Category.SINGLE_OBJECT: single}, (), unseen=(40, 0.25))
    edits = EditScores({EditKind.MOVE: (64, 0.5)})
    stages = [TrainedStage("stage1", 64, 4000, 64, 1.5)]
    evaluate = EvaluateConfig(images_per_prompt=4)
    text = " ".join(model_card("shapes", "2 CPU cores", export, stages, scores, edits, evaluate).split())
    assert "A text-to-image and editing model" in text
    assert "4 pictures a prompt" in text
    assert "| single_object | 0.50 ± 0.06 | 0.75 | – | 256 |" in text
    assert "Of the 40 pictures" in text
    assert "0.25 ± 0.13 are right" in text
    assert "| move | 0.50 ± 0.12 | 64 |" in text
    alone = model_card("shapes", "2 CPU cores", export, stages, Scores(scores.categories, ()), None, EvaluateConfig())
    assert "Edits" not in alone
    assert "1 picture a prompt" in " ".join(alone.split())
    assert not re.search(r"{[{%]|None", text + alone)
