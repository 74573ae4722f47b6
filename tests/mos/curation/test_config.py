import pytest
from pydantic import ValidationError

from mos.curation.config import CurateConfig
from mos.images.buckets import Bucket

PHOTOS = {"type": "folder", "name": "photos", "path": "photos"}
CLIP = {"path": "clip", "head": "head.safetensors"}


def config(**settings) -> CurateConfig:
    return CurateConfig(**{"sources": [PHOTOS], "resolutions": [32], "token_px": 8, **settings})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"sources": []}, "sources"),
        ({"sources": [PHOTOS, PHOTOS | {"path": "others"}]}, r"two sources share a name in \['photos', 'photos'\]"),
        ({"sources": [PHOTOS | {"name": "a photo"}]}, "sources.0.folder.name"),
        ({"sources": [PHOTOS | {"type": "zip"}]}, "'zip' found using 'type' does not match any of the expected tags"),
        ({"resolutions": []}, "resolutions"),
        ({"resolutions": [32, 48, 32]}, r"a resolution stands twice in \[32, 48, 32\]"),
        ({"resolutions": [32, 36]}, "resolution 36 is no multiple of token_px 8"),
        ({"bucket_aspect": 0.9}, "bucket_aspect"),
        ({"max_upscale": 0.9}, "max_upscale"),
        ({"duplicates": {"near_bits": 17}}, "near_bits"),
        ({"alignment": CLIP}, "head"),
        ({"aesthetic": {"path": "clip"}}, "head"),
    ],
)
def test_an_impossible_config_is_refused_by_the_name_of_the_field(settings, sentence):
    with pytest.raises(ValidationError, match=sentence):
        config(**settings)


def test_each_resolution_has_the_buckets_of_its_own_square():
    assert config(resolutions=[32, 16]).buckets() == {
        32: (Bucket(40, 24), Bucket(32, 32), Bucket(24, 40)),
        16: (Bucket(16, 16),),
    }
    assert config(bucket_aspect=1.5).buckets() == {32: (Bucket(32, 32),)}


@pytest.mark.parametrize(
    "settings",
    [
        {"resolutions": [32, 64]},
        {"token_px": 4},
        {"bucket_aspect": 3.0},
        {"max_upscale": 2.0},
        {"image": {"min_side_px": 8}},
        {"caption": {"min_chars": 2}},
        {"shard": {"max_members": 5}},
        {"duplicates": {"near_bits": 0}},
        {"aesthetic": CLIP},
        {"alignment": {"path": "clip"}},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_finished_shards_are_read_again_where_an_item_would_be_judged_otherwise(settings):
    assert config(**settings).settings_id() != config().settings_id()


@pytest.mark.parametrize("change", [{"path": "other"}, {"head": "other.safetensors"}])
def test_another_model_judges_otherwise(change):
    assert config(aesthetic=CLIP | change).settings_id() != config(aesthetic=CLIP).settings_id()


@pytest.mark.parametrize(
    "settings",
    [
        {"sources": [PHOTOS | {"path": "elsewhere"}]},
        {"files_per_unit": 1},
        {"fragment_mb": 1},
        {"aesthetic": CLIP | {"actors": {"num": 4, "gpus": 0.5}, "batch_size": 1}},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_where_items_come_from_and_how_fast_decides_no_verdict(settings):
    usual = {"aesthetic": CLIP} if "aesthetic" in settings else {}
    assert config(**settings).settings_id() == config(**usual).settings_id()
