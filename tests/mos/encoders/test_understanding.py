import json
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from mos.encoders.understanding import (
    InternVLConfig,
    LlamaConfig,
    MiniLMConfig,
    PerceptionLMConfig,
    checkpoint_of,
    tower_id,
)
from tests.towers import save_llama

HUB = {"path": "owner/name", "revision": "a" * 40, "dtype": "float32"}


def test_id_follows_contents_and_settings_but_not_the_place(llama_folder: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(llama_folder, tmp_path / "moved")
    settings = {"path": str(moved), "dtype": "float32"}
    identity = tower_id(LlamaConfig(path=str(llama_folder), dtype="float32"))
    assert tower_id(LlamaConfig(**settings)) == identity
    for change in (
        {"dtype": "bfloat16"},
        {"max_tokens": 7},
        {"template": "a {text}"},
        {"pass_rows": 4},
        {"pass_step": 4},
    ):
        assert tower_id(LlamaConfig(**settings | change)) != identity
    tokenizer = moved / "tokenizer.json"
    tokenizer.write_text(json.dumps(json.loads(tokenizer.read_text()), indent=1))
    assert tower_id(LlamaConfig(**settings)) != identity
    assert tower_id(LlamaConfig(path=str(save_llama(tmp_path / "other", seed=1)), dtype="float32")) != identity


def test_another_commit_of_a_hub_repository_is_another_tower() -> None:
    ids = {
        tower_id(kind(**HUB | change))
        for kind in (LlamaConfig, InternVLConfig, PerceptionLMConfig)
        for change in ({}, {"revision": "b" * 40}, {"path": "owner/other"})
    }
    assert len(ids) == 9
    assert tower_id(LlamaConfig(**HUB)) == tower_id(LlamaConfig(**HUB))


def test_an_id_is_the_family_and_twelve_hex_digits() -> None:
    family, digits = tower_id(PerceptionLMConfig(**HUB)).split("-")
    assert family == "perceptionlm"
    assert len(digits) == 12
    assert int(digits, 16) >= 0


def test_an_arithmetic_left_open_names_no_states() -> None:
    with pytest.raises(ValueError, match=r"dtype = 'auto' names no states: .* for a device first"):
        tower_id(MiniLMConfig(dtype="auto"))


def test_minilm_comes_with_its_package_unless_a_folder_is_named(llama_folder: Path) -> None:
    packaged = Path(checkpoint_of(MiniLMConfig()).path)
    assert (packaged / "model.safetensors").is_file()
    assert checkpoint_of(MiniLMConfig(path=str(llama_folder))).path == str(llama_folder)


@pytest.mark.parametrize(
    ("kind", "template", "missing"),
    [
        (LlamaConfig, "a photo", "{text}"),
        (LlamaConfig, "{text} {text}", "{text}"),
        (InternVLConfig, "{text}", "{image}"),
        (InternVLConfig, "{image}{image}{text}", "{image}"),
        (PerceptionLMConfig, "{image}", "{text}"),
    ],
)
def test_a_template_without_its_places_is_refused(kind: type[LlamaConfig], template: str, missing: str) -> None:
    with pytest.raises(ValidationError, match=rf"a template holds \{missing} exactly once"):
        kind(path="x/y", template=template)


@pytest.mark.parametrize("kind", [LlamaConfig, InternVLConfig, PerceptionLMConfig])
def test_the_template_of_a_family_has_its_places(kind: type[LlamaConfig]) -> None:
    assert kind(path="x/y", template=kind(path="x/y").template) == kind(path="x/y")


@pytest.mark.parametrize("revision", ["main", "A" * 40, "a" * 39, "a" * 41])
def test_a_revision_is_a_whole_commit(revision: str) -> None:
    with pytest.raises(ValidationError, match="revision"):
        LlamaConfig(path="owner/name", revision=revision)


def test_padding_stays_within_the_positions_of_bert() -> None:
    assert MiniLMConfig(max_tokens=504, pass_step=128).pass_step == 128
    with pytest.raises(ValidationError, match="max_tokens = 504 in steps of pass_step = 100 are 600 positions"):
        MiniLMConfig(max_tokens=504, pass_step=100)
