import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaModel

from mos.encoders.weights import (
    Checkpoint,
    digest_folder,
    digest_weights,
    first_line,
    freeze,
    load_frozen,
    locate,
    refuse_incomplete,
)
from mos.errors import UserError

COMMIT = "0" * 40


@pytest.mark.parametrize(
    ("path", "revision", "subfolder", "message"),
    [
        ("/nowhere/llama", None, None, "weights /nowhere/llama do not exist: name a folder"),
        ("./llama", COMMIT, None, "do not exist"),
        ("~/no such folder", None, None, "do not exist"),
        ("~nobodyhere/weights", None, None, "do not exist: there is no such user"),
        ("", None, None, "weights  do not exist"),
        ("llama", None, None, "do not exist"),
        ("owner/name/vae", COMMIT, None, "do not exist"),
        ("meta-llama/Llama-3.2-3B", None, None, "lacks its revision: set `revision` to a 40-digit commit"),
        ("{folder}", COMMIT, None, f"is a folder, so revision = '{COMMIT}' means nothing: remove it"),
        ("{folder}", None, "vae", "has no subfolder 'vae': correct `subfolder`"),
    ],
)
def test_a_wrong_path_is_one_clear_sentence(
    path: str, revision: str | None, subfolder: str | None, message: str, llama_folder: Path
) -> None:
    with pytest.raises(UserError, match=message):
        locate(path.replace("{folder}", str(llama_folder)), revision, subfolder)


def test_a_folder_is_found_from_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "name" / "vae").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    found = locate("owner/name", None, "vae")
    assert found == Checkpoint(str(tmp_path / "owner" / "name"), None, "vae")
    assert found.options() == {"pretrained_model_name_or_path": found.path, "subfolder": "vae"}


def test_a_hub_id_is_loaded_at_its_commit() -> None:
    whole, part = locate("owner/name", COMMIT), locate("owner/name", COMMIT, "vae")
    assert whole.options() == {"pretrained_model_name_or_path": "owner/name", "revision": COMMIT}
    assert part.options() == whole.options() | {"subfolder": "vae"}
    assert len({whole.identity, part.identity, locate("owner/name", "1" * 40).identity}) == 3


def write(folder: Path, **files: str) -> str:
    """The digest of a folder of files, whose names have `_` for their point."""
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return digest_folder(folder)


def test_a_folder_s_digest_covers_what_a_model_reads(tmp_path: Path) -> None:
    base = write(tmp_path / "base", config_json="{}", vocab_txt="a", model_safetensors="0")
    assert write(tmp_path / "same", vocab_txt="a", model_safetensors="0", config_json="{}") == base
    unread = {"README_md": "read me", "pytorch_bin": "pickle", "config_json": "{}", "vocab_txt": "a"}
    assert write(tmp_path / "unread", **unread, model_safetensors="0") == base
    for number, change in enumerate(
        [
            {"config_json": "{ }"},
            {"model_safetensors": "1"},
            {"chat_jinja": ""},
            {"config_json": "a", "vocab_txt": "{}"},
        ]
    ):
        files = {"config_json": "{}", "vocab_txt": "a", "model_safetensors": "0"} | change
        assert write(tmp_path / str(number), **files) != base
    assert write(tmp_path / "renamed", config_json="{}", vocabulary_txt="a", model_safetensors="0") != base


def test_an_identity_is_that_of_the_subfolder(tmp_path: Path) -> None:
    digest = write(tmp_path / "vae", config_json="{}")
    (tmp_path / "model_index.json").write_text("{}")
    assert locate(str(tmp_path), None, "vae").identity == digest == locate(str(tmp_path / "vae"), None).identity
    assert locate(str(tmp_path), None).identity != digest


def test_a_frozen_model_neither_learns_nor_drops(llama_folder: Path) -> None:
    loaded = load_frozen(LlamaModel, locate(str(llama_folder), None), torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    for model in (loaded, freeze(nn.Sequential(nn.Linear(2, 2), nn.Dropout()))):
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())


def test_missing_weights_are_refused_not_drawn_at_random(llama_folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(llama_folder, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    del weights["layers.1.mlp.up_proj.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 weights of LlamaModel \(first: layers.1.mlp.up_proj.weight\)"):
        load_frozen(LlamaModel, locate(str(broken), None), torch.float32)


def test_a_pickle_is_no_weights(llama_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama_folder, tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=f"LlamaModel cannot be loaded from {folder}"):
        load_frozen(LlamaModel, locate(str(folder), None), torch.float32)


def test_only_weights_that_no_tower_uses_may_be_missing() -> None:
    checkpoint = Checkpoint("/weights", None)
    refuse_incomplete("BertModel", checkpoint, ["pooler.dense.weight", "pooler.dense.bias"])
    with pytest.raises(UserError, match=r"/weights lacks 2 weights of BertModel \(first: a.weight\)"):
        refuse_incomplete("BertModel", checkpoint, {"encoder.pooler.weight", "pooler.dense.weight", "a.weight"})


def test_a_state_s_digest_covers_names_shapes_dtypes_and_values() -> None:
    weight = torch.arange(6, dtype=torch.float32).view(2, 3)
    base = digest_weights({"a": weight, "b": torch.tensor(1.0)})
    assert digest_weights({"b": torch.tensor(1.0), "a": weight.t().contiguous().t()}) == base
    others = [
        {"a": weight, "c": torch.tensor(1.0)},
        {"a": weight.view(3, 2), "b": torch.tensor(1.0)},
        {"a": weight.view(torch.int32), "b": torch.tensor(1.0)},
        {"a": weight.to(torch.bfloat16), "b": torch.tensor(1.0)},
        {"a": -weight, "b": torch.tensor(1.0)},
        {"a": weight},
    ]
    assert len({base, *map(digest_weights, others)}) == 1 + len(others)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError("\n no such file.\n  at line 3\n"), "no such file"),
        (ValueError(), "ValueError"),
        (KeyError(" "), "' '"),
    ],
)
def test_another_library_s_error_is_one_part_of_a_sentence(error: Exception, line: str) -> None:
    assert first_line(error) == line
