"""Images -> normalised latents of their bucket, written as fragments of a latents table."""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

import pyarrow as pa
import torch

from mos.encoders.encoding import EncodeConfig
from mos.encoders.load import load_codec
from mos.images.decode import ImageLimits
from mos.images.pixels import prepare_image
from mos.images.reasons import Reason, Rejected
from mos.states.latents import pack_latent
from mos.tables.committer import latents_schema, payload_table, within_bytes, write_encoded
from mos.tables.lance import TableVersion


class EncodeLatents:
    """Callable class for `Dataset.map_batches` on Arrow tables; holds the codec. One call writes one fragment, or
    several where one would be too many bytes.

    Reads   latent_key, bucket, column, row (LATENT_TASKS of mos.tables.encode_tasks)
    Writes  fragment, keys, failed_keys, failures (ENCODED of mos.tables.committer); the latents go to the table itself
    """

    def __init__(self, config: EncodeConfig, samples: TableVersion, uri: str, limits: ImageLimits) -> None:
        torch.set_num_threads(config.actors.threads)
        self._codec = load_codec(config.vae, config.actors.device, config.pass_mb)
        self._schema = latents_schema(self._codec.codec_id, self._codec.channels, self._codec.stride)
        self._samples = samples.open()
        self._uri = uri
        self._limits = limits
        self._batch_size = config.images_per_batch
        self._fragment_bytes = config.mb_per_fragment * 2**20

    def __call__(self, tasks: pa.Table) -> Iterator[pa.Table]:
        """Encode the images of one block, one bucket and at most a batch of images at a time."""
        failures: dict[str, str] = {}
        for rows in within_bytes(self._rows(tasks, failures), self._fragment_bytes, itemgetter("payload")):
            if rows or failures:
                yield write_encoded(self._uri, payload_table(rows, self._schema), failures)
                failures.clear()
            del rows  # or they would be held while the next are encoded

    def _rows(self, tasks: pa.Table, failures: dict[str, str]) -> Iterator[dict]:
        for (bucket, column), same in groupby(tasks.to_pylist(), key=lambda task: (task["bucket"], task["column"])):
            group = list(same)
            for start in range(0, len(group), self._batch_size):
                yield from self._encode(group[start : start + self._batch_size], bucket, column, failures)

    def _encode(self, tasks: list[dict], bucket: str, column: str, failures: dict[str, str]) -> Iterator[dict]:
        """Rows of the latents table for one forward pass; what cannot be encoded goes to `failures`."""
        keys, images = [], []
        data = self._samples.take([task["row"] for task in tasks], columns=[column]).column(column)
        for task, encoded in zip(tasks, data, strict=True):
            try:
                images.append(prepare_image(encoded.as_py(), bucket, self._limits))
                keys.append(task["latent_key"])
            except Rejected as rejected:
                failures[task["latent_key"]] = str(rejected)
        if not keys:
            return
        for key, latent in zip(keys, self._codec.encode(torch.stack(images)), strict=True):
            try:
                yield {"latent_key": key, "bucket": bucket, "payload": pack_latent(latent)}
            except ValueError as error:
                failures[key] = str(Rejected(Reason.LATENT_NOT_FINITE, str(error)))
