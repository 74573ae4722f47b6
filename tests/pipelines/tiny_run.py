"""`tiny.toml` over a folder of pictures in place of drawn scenes: for tests that start from a samples table."""

from pathlib import Path

import tomlkit

from mos.checkout import CLONE

OVERRIDES = (
    "curate.resolutions=[32, 48]",
    "curate.sources=[{name='test', type='folder', path='{root}/pictures'}]",
    "encode.rows_per_fragment=4",
    "encode.actors={max=1}",
    "stage1.resolution=32",
    "stage1.batch_size=2",
    "stage1.steps=1",
)
LLAMA = ("model.state_dim=32", "model.state_layers=3")
"""A model that listens to the tower of `tests.towers.save_llama`."""


def tiny_config(folder: Path, *overrides: str) -> Path:
    """A file in the folder, its root, that a command line can name: `tiny.toml` without drawn scenes and editing."""
    tree = tomlkit.parse((CLONE / "pipelines" / "configs" / "tiny.toml").read_text(encoding="utf-8")).unwrap()
    for name in ("shapes", "edit"):
        del tree[name]
    del tree["stage1"]["sample_every"]
    for override in (f"root='{folder}'", *OVERRIDES, *overrides):
        key, _, value = override.partition("=")
        *parents, leaf = key.split(".")
        section = tree
        for name in parents:
            section = section.setdefault(name, {})
        section[leaf] = tomlkit.parse(f"value = {value}").unwrap()["value"]
    path = folder / "run.toml"
    path.write_text(tomlkit.dumps(tree), encoding="utf-8")
    return path
