"""Figures of variants become verdicts, a table and a figure."""

import json
from dataclasses import replace

from mos.ablation.config import AblateConfig
from mos.ablation.results import CaseFigures, comparisons_figure, judge, markdown
from mos.evaluation.theme import DARK, LIGHT, figure_png

CONFIG = AblateConfig.model_validate(
    {
        "variants": {"mos": [], "fixed": ["model.fusion={type='self_attention'}"]},
        "samplers": {"guided": {"guidance": 3.0}, "plain": {"guidance": 1.0}},
        "comparisons": [
            {"claim": "routing helps", "source": "table 3", "better": "mos", "worse": "fixed"},
            {"claim": "guidance helps", "source": "figure 13", "better": "mos:guided", "worse": "mos:plain"},
        ],
    }
)


def cases(scores: bool = True) -> list[CaseFigures]:
    found = []
    for seed, noise in enumerate((0.0, 0.01, 0.02)):
        for variant, loss, right in (("mos", 0.2, 0.5), ("fixed", 0.3 + noise / 10, 0.4)):
            shown = {"guided": right + noise, "plain": right - 0.2} if scores else {}
            far = dict.fromkeys(shown, 10 * loss)
            found.append(CaseFigures(variant, seed, loss + noise, shown, far, 1_000_000, 60.0))
    return found


def test_the_preferred_variant_is_judged_by_lower_loss_and_higher_score():
    routing, guidance = judge(CONFIG, cases())
    assert routing.loss is not None
    assert routing.score is not None
    assert routing.loss.direction(better_is_lower=True) == "agrees"
    assert routing.score.direction(better_is_lower=False) == "agrees"
    assert routing.distance is not None
    assert routing.distance.direction(better_is_lower=True) == "agrees"
    assert guidance.loss is None
    assert guidance.score is not None
    assert round(guidance.score.mean, 3) == 0.21
    told = json.loads(json.dumps([routing.as_dict(), guidance.as_dict()]))
    assert told[0]["loss"]["direction"] == "agrees"
    assert told[1]["loss"] is None


def test_tables_name_every_variant_and_comparison():
    text = markdown(CONFIG, cases(), judge(CONFIG, cases()))
    assert "| mos | 1.00M | 0.2100 ± 0.0100 | 0.510 ± 0.010, 2.00 ± 0.00 | 0.300 ± 0.000, 2.00 ± 0.00 |" in text
    assert "| routing helps | table 3 | mos | fixed | -0.1010 ± 0.0025 | 0.000 | agrees |" in text
    assert "| guidance helps | figure 13 | mos:guided | mos:plain |  |  |  | +0.210" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {6, 14}


def test_a_variant_that_was_not_drawn_by_a_sampler_has_an_empty_field():
    settings = CONFIG.model_dump() | {"samplers": {"guided": {}}, "further_samplers": {"plain": {}}}
    config = AblateConfig.model_validate(settings)
    found = [
        case if case.variant == "mos" else replace(case, scores={"guided": case.scores["guided"]}) for case in cases()
    ]
    text = markdown(config, found, judge(config, found))
    assert "0.410 ± 0.010, 3.01 ± 0.01 |  |" in text
    assert "| mos:guided | mos:plain |" in text


def test_without_pictures_losses_alone_are_told():
    verdicts = judge(CONFIG, cases(scores=False))
    assert verdicts[0].score is None
    assert verdicts[1].score is None
    assert "| variant | parameters | held-out loss |" in markdown(CONFIG, cases(scores=False), verdicts)


def test_the_figure_is_drawn_in_both_themes():
    for theme in (LIGHT, DARK):
        png = figure_png(lambda theme: comparisons_figure(judge(CONFIG, cases()), theme), theme)
        assert png.startswith(b"\x89PNG")
        assert len(png) > 5000
