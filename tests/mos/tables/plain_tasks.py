"""The tasks of some views, row by row in memory: what `mos.tables.encode_plan` must come to."""

from collections.abc import Sequence

from mos.states.keys import context_key, latent_key
from mos.tables.encode_tasks import NO_IMAGE
from mos.tables.lance import TableVersion
from mos.tables.schema import TASK_EDIT
from mos.tables.views import View


def plain_contexts(samples: TableVersion, views: Sequence[View], sees_images: bool) -> list[dict]:
    """CONTEXT_TASKS in order of work."""
    tasks = (
        plain_distinct(samples, " OR ".join(f"({view.predicate()})" for view in views), sees_images) if views else []
    )
    if all(task["context_key"] != context_key("") for task in tasks):
        tasks.append({"context_key": context_key(""), "text": "", "row": NO_IMAGE, "version": samples.version})
    return sorted(tasks, key=lambda task: -len(task["text"]))


def plain_distinct(samples: TableVersion, predicate: str, sees_images: bool) -> list[dict]:
    """CONTEXT_TASKS in order of appearance."""
    tasks: dict[str, dict] = {}
    for row in _rows(samples, predicate, "task", "caption", "reference_hash"):
        image = row["reference_hash"] if sees_images and row["task"] == TASK_EDIT else None
        for text in (row["caption"], ""):
            place = NO_IMAGE if image is None else row["_rowoffset"]
            task = {"context_key": context_key(text, image), "text": text, "row": place, "version": samples.version}
            tasks.setdefault(task["context_key"], task)
    return list(tasks.values())


def plain_latents(samples: TableVersion, views: Sequence[View], codec_id: str) -> list[dict]:
    """LATENT_TASKS in order of work."""
    tasks: dict[str, dict] = {}
    for view in views:
        bucket = f"bucket_{view.resolution}"
        for row in _rows(samples, view.predicate(), "task", "image_hash", "reference_hash", bucket):
            images = {"image": row["image_hash"]}
            if row["task"] == TASK_EDIT and row["reference_hash"] is not None:
                images["reference"] = row["reference_hash"]
            for column, image in images.items():
                key = latent_key(image, codec_id, row[bucket])
                task = {"latent_key": key, "bucket": row[bucket], "column": column, "row": row["_rowoffset"]}
                tasks.setdefault(key, task)
    return sorted(tasks.values(), key=lambda task: (task["bucket"], task["column"], task["row"]))


def _rows(samples: TableVersion, predicate: str, *columns: str) -> list[dict]:
    return samples.open().to_table(columns=[*columns, "_rowoffset"], filter=predicate).to_pylist()
