"""Where frozen weights come from: a checkpoint named by a config in, a complete model and an identity out.

Only safetensors are read, no repository code is run, hub repositories are pinned to a commit.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mos.errors import UserError

LOADED_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt")
"""Files of a checkpoint folder that can change what a model computes: weights, configs, tokenizer, templates."""

IGNORED_WEIGHTS = ("pooler.",)
"""Weights that no tower uses: BERT's pooler reads the first token after the last layer."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder or a pinned hub repository, known to be one of the two."""

    path: str
    """Absolute folder, or hub id."""
    revision: str | None
    """Commit of the hub repository; None for a folder."""
    subfolder: str = ""
    """Folder inside it."""

    @property
    def identity(self) -> str:
        """Equal for equal contents: digest of a folder's files wherever it stands, or hub id and commit."""
        if self.revision is not None:
            return f"{self.path}/{self.subfolder}@{self.revision}"
        return digest_folder(Path(self.path, self.subfolder))

    def options(self) -> dict[str, Any]:
        """Keyword arguments of every `from_pretrained`."""
        options: dict[str, Any] = {"pretrained_model_name_or_path": self.path}
        if self.revision is not None:
            options["revision"] = self.revision
        if self.subfolder:
            options["subfolder"] = self.subfolder
        return options


def locate(path: str, revision: str | None, subfolder: str | None = None) -> Checkpoint:
    """Find a checkpoint without loading it.

    Raises:
        UserError: there is no such folder and the path is no hub id, a hub id lacks its revision, or a folder has one.
    """
    try:
        folder = Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"weights {path} do not exist: there is no such user") from error
    if path and folder.is_dir():
        if revision is not None:
            raise UserError(f"{path} is a folder, so revision = {revision!r} means nothing: remove it")
        if not Path(folder, subfolder or "").is_dir():
            raise UserError(f"{path} has no subfolder {subfolder!r}: correct `subfolder`")
        return Checkpoint(str(folder.resolve()), None, subfolder or "")
    if path.startswith((".", "/", "~")) or path.count("/") != 1:
        raise UserError(f"weights {path} do not exist: name a folder with safetensors weights, or a hub id owner/name")
    if revision is None:
        raise UserError(
            f"{path} is no folder here, and as a hub id it lacks its revision: set `revision` to a 40-digit commit"
        )
    return Checkpoint(path, revision, subfolder or "")


def load_frozen(model_class: Any, checkpoint: Checkpoint, dtype: torch.dtype, **options: Any) -> Any:
    """A transformers model in eval mode, with every weight read from the checkpoint.

    Raises:
        UserError: the weights are missing, incomplete, of another shape, or not in safetensors.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # what it would report is checked below, and raised
    try:
        model, report = model_class.from_pretrained(
            **checkpoint.options(),
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{model_class.__name__} cannot be loaded from {checkpoint.path}: {first_line(error)}"
        ) from error
    refuse_incomplete(model_class.__name__, checkpoint, report["missing_keys"])
    return freeze(model)


def load_autoencoder(class_name: str, checkpoint: Checkpoint) -> Any:
    """An autoencoder of diffusers in eval mode and float32, with every weight read from the checkpoint.

    Raises:
        UserError: the weights are missing, incomplete, of another shape, or not in safetensors.
    """
    import diffusers

    try:
        vae, report = getattr(diffusers, class_name).from_pretrained(
            **checkpoint.options(),
            torch_dtype=torch.float32,
            use_safetensors=True,
            low_cpu_mem_usage=False,  # it would ask for accelerate, in several lines
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{class_name} cannot be loaded from {checkpoint.path}: {first_line(error)}") from error
    refuse_incomplete(class_name, checkpoint, report["missing_keys"])
    return freeze(vae)


def refuse_incomplete(model_name: str, checkpoint: Checkpoint, missing: Any) -> None:
    """Raise `UserError` if weights were left at random values."""
    lacking = sorted(key for key in missing if not key.startswith(IGNORED_WEIGHTS))
    if lacking:
        raise UserError(
            f"{checkpoint.path} lacks {len(lacking)} weights of {model_name} (first: {lacking[0]}): it is a checkpoint "
            "of another architecture or incomplete; correct `path` or `type`"
        )


def freeze(model: nn.Module) -> nn.Module:
    """Eval mode, no gradients."""
    return model.eval().requires_grad_(False)


def digest_folder(folder: Path) -> str:
    """SHA-256 over names and contents of every file of a checkpoint folder that can change what it computes."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in LOADED_SUFFIXES:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.name}\n{content}\n".encode())
    return digest.hexdigest()


def digest_weights(state: dict[str, Tensor]) -> str:
    """SHA-256 over names, shapes, dtypes and values of a state dict."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name}\n{value.dtype}\n{tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def first_line(error: Exception) -> str:
    """An error of another library, as part of one sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
