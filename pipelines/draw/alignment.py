"""CLIP scores of a benchmark's pictures, on the pool of actors that drew them; what is measured is found again."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import ray

from cluster.data import map_on_actors
from cluster.session import ray_session
from mos.benchmarks.benchmark import Place
from mos.benchmarks.entries import read_entries
from mos.benchmarks.item import Item
from mos.benchmarks.score import Score, mean
from mos.errors import UserError
from mos.files import written_whole
from mos.fingerprint import file_digest, fingerprint
from mos.images.decode import ImageLimits
from operators.score_files import ScoreFiles
from pipelines.run.config import RunConfig


def measure_alignment(items: Sequence[Item], place: Place, clip: str, config: RunConfig) -> Score:
    """Mean over the prompts of 100 times the cosine of a picture and its prompt.

    Raises:
        UserError: the folder holds no CLIP.
    """
    wanted = {path: item for item in items for path in item.pictures}
    kept = place.results / f"clip-{_fingerprint(Path(clip).expanduser())[:12]}.jsonl"
    found = {}
    if kept.is_file():
        found = {entry.text("path"): entry.number("score") for entry in read_entries(kept)}
    missing = [path for path in wanted if path not in found]
    if missing:
        print(f"benchmark: CLIP scores of {len(missing)} pictures are measured", flush=True)
        with ray_session(config.cluster):
            found |= _scores(missing, wanted, place.folder, clip, config)
        with written_whole(kept) as partial:
            partial.write_text("".join(json.dumps({"path": p, "score": s}) + "\n" for p, s in found.items()))
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for path, item in wanted.items():
        by_prompt[item.where].append(found[path])
    return mean([sum(scores) / len(scores) for scores in by_prompt.values()]).scaled(100)


def _scores(
    paths: Sequence[str], items: dict[str, Item], folder: Path, clip: str, config: RunConfig
) -> dict[str, float]:
    workers, size = config.cluster.generate, config.benchmarks.batch_size
    rows = [{"name": path, "path": str(folder / path), "prompt": items[path].prompt} for path in paths]
    blocks = [pa.Table.from_pylist(rows[start : start + size]) for start in range(0, len(rows), size)]
    arguments = (clip, workers.device, ImageLimits(min_side_px=1))
    scored = map_on_actors(
        ray.data.from_arrow(blocks), ScoreFiles, arguments, workers, (1, workers.num), key="cluster.generate"
    )
    batches = scored.iter_batches(batch_size=None, batch_format="pyarrow")
    return {row["name"]: row["score"] for batch in batches for row in batch.to_pylist()}


def _fingerprint(clip: Path) -> str:
    """Of a checkpoint's weights and settings, wherever it stands."""
    weights = sorted(clip.glob("*.safetensors"))
    if not weights:
        raise UserError(f"clip = {str(clip)!r} holds no .safetensors: name the folder of a CLIP checkpoint")
    return fingerprint(files={path.name: file_digest(path) for path in (*weights, *sorted(clip.glob("*.json")))})
