"""A tower that sees images is shown the one that its task names, in the version of the samples that has it."""

from pathlib import Path

import torch

from mos.encoders.encoding import EncodeConfig
from mos.encoders.understanding import InternVLConfig
from mos.images.decode import ImageLimits
from mos.tables.encode_plan import plan_contexts
from mos.tables.encode_tasks import NO_IMAGE
from mos.tables.lance import open_table
from operators.context_encoder import ContextEncoder
from tests.samples import Pair, append_samples, views
from tests.towers import save_internvl

FIRST = [Pair("make it blue", "blue", reference="red")]
LATER = [Pair("make it blue", "blue", reference="green"), Pair("a red circle")]


def test_images_come_from_the_version_that_a_task_names(tmp_path: Path) -> None:
    config = EncodeConfig(tower=InternVLConfig(path=str(save_internvl(tmp_path / "tower")), dtype="float32"))
    first = append_samples(tmp_path, FIRST)
    tasks = plan_contexts(first, views(32), True).to_pylist()
    dataset = open_table(first.uri)
    dataset.delete("true")  # another curation, which keeps none of these rows
    later = append_samples(tmp_path, LATER)
    tasks += [task for task in plan_contexts(later, views(32), True).to_pylist() if task["row"] != NO_IMAGE]
    assert {(task["version"], task["row"]) for task in tasks if task["text"] == "make it blue"} == {
        (first.version, 0),
        (later.version, 0),
    }
    encoder, failures = ContextEncoder(config, later, ImageLimits()), {}
    together = dict(encoder.encode(tasks, failures))
    assert not failures
    assert together.keys() == {task["context_key"] for task in tasks}
    for task in tasks:
        ((_, alone),) = encoder.encode([task], failures)
        assert torch.equal(alone.states, together[task["context_key"]].states)


def test_an_image_that_cannot_be_read_fails_its_contexts_alone(tmp_path: Path) -> None:
    config = EncodeConfig(tower=InternVLConfig(path=str(save_internvl(tmp_path / "tower")), dtype="float32"))
    samples = append_samples(tmp_path, [*FIRST, Pair("a red circle")])
    tasks = plan_contexts(samples, views(32), True).to_pylist()
    encoder, failures = ContextEncoder(config, samples, ImageLimits(max_pixels=16)), {}
    encoded = dict(encoder.encode(tasks, failures))
    shown = {task["context_key"] for task in tasks if task["row"] != NO_IMAGE}
    assert failures.keys() == shown
    assert encoded.keys() == {task["context_key"] for task in tasks} - shown
