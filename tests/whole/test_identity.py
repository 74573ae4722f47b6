"""Every part of what decides a row is in its identity: change one, and nothing that was encoded before is reused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mos.config import StrictConfig
from mos.encoders import pixel_codec, understanding
from mos.encoders.understanding import LlamaConfig, tower_id
from mos.states import payload
from mos.tables.lance import TableVersion, latest_version
from pipelines.run.config import RunConfig, load_run
from tests.kills import encode_without_ray, make_run
from tests.towers import save_llama

NUM_SAMPLES = 3
CONTEXTS = NUM_SAMPLES + 1
Tables = tuple[TableVersion, TableVersion]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("identity") / "run", NUM_SAMPLES)


@pytest.fixture(scope="module")
def base(path: Path) -> Tables:
    return encode_without_ray(load_run(path), 4)


def with_tower(run: Path, **changes: object) -> RunConfig:
    return with_encode(run, tower=load_run(run).encode.tower.model_copy(update=changes))


def with_encode(path: Path, **changes: StrictConfig | tuple) -> RunConfig:
    config = load_run(path)
    return config.model_copy(update={"encode": config.encode.model_copy(update=changes)})


def with_checkpoint(path: Path, name: str, change: Callable[[Path], None], seed: int = 0) -> RunConfig:
    folder = save_llama(path.parent / name, seed=seed)
    change(folder)
    return with_tower(path, path=str(folder))


def edit(folder: Path, file: str, old: str, new: str) -> None:
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))


STATES: dict[str, Callable[[Path], RunConfig]] = {
    "weights": lambda path: with_checkpoint(path, "weights", lambda _: None, seed=1),
    "tokenizer": lambda path: with_checkpoint(
        path, "tokenizer", lambda folder: edit(folder, "tokenizer.json", '"circle"', '"cube"')
    ),
    "the checkpoint's config": lambda path: with_checkpoint(
        path, "config", lambda folder: edit(folder, "config.json", '"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05')
    ),
    "template": lambda path: with_tower(path, template="a photo of {text}"),
    "length": lambda path: with_tower(path, max_tokens=3),
    "dtype": lambda path: with_tower(path, dtype="bfloat16"),
    "layers": lambda path: with_encode(path, layers=(0, 2)),
}


@pytest.mark.parametrize("part", STATES)
def test_states_of_another_tower_are_another_table(path: Path, base: Tables, part: str) -> None:
    states, latents = encode_without_ray(STATES[part](path), 4)
    assert states.uri != base[0].uri
    assert states.rows == CONTEXTS
    assert latents == base[1]
    assert latest_version(base[0].uri) == base[0]


@pytest.mark.parametrize("module", [understanding, payload])
def test_states_of_another_code_version_are_another_table(
    path: Path, base: Tables, module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CODE_VERSION" if module is understanding else "CODEC_VERSION", 99)
    states, _ = encode_without_ray(load_run(path), 4)
    assert states.uri != base[0].uri
    assert states.rows == CONTEXTS


def test_latents_of_another_codec_or_code_version_are_another_table(
    path: Path, base: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_run(path)
    changed = with_encode(path, vae=config.encode.vae.model_copy(update={"stride": 4}))
    _, coarse = encode_without_ray(changed, 4)
    monkeypatch.setattr(pixel_codec, "CODE_VERSION", 99)
    states, newer = encode_without_ray(config, 4)
    assert len({base[1].uri, coarse.uri, newer.uri}) == 3
    assert coarse.rows == newer.rows == base[1].rows
    assert states == base[0]


def test_a_pinned_revision_is_part_of_the_tower() -> None:
    first, second = (LlamaConfig(path="owner/name", revision=digit * 40, dtype="bfloat16") for digit in "ab")
    assert tower_id(first) != tower_id(second)


def test_nothing_is_encoded_again_where_nothing_changed(path: Path, base: Tables) -> None:
    assert encode_without_ray(load_run(path), 4) == base
    moved = with_checkpoint(path, "elsewhere", lambda _: None)
    assert encode_without_ray(moved, 4) == base
