"""The contract of every table.

Tables are Lance datasets. Every reader pins a version; payload columns are large and never cross the Ray object
store. Column docstrings are the documentation: names, units and ranges live here and nowhere else.
"""

import pyarrow as pa

from mos.tables.blobs import payload_field

TASK_GENERATE = "generate"
"""A text-image pair."""
TASK_EDIT = "edit"
"""A (reference image, instruction, target image) triple."""


def samples_schema(resolutions: tuple[int, ...]) -> pa.Schema:
    """One row per kept sample; every score is a column so that a stage's view is a filter expression.

    `bucket_<resolution>` is `"<height>x<width>"` in pixels, or null where the image is too small for it. Some versions
    have `loss_<stage>` behind these (float32, null where none was measured): see `mos.losses.column`.
    """
    columns = [
        pa.field("sample_id", pa.string(), nullable=False),  # 64 hex: sha256 of image, reference and caption
        pa.field("task", pa.string(), nullable=False),  # TASK_GENERATE or TASK_EDIT
        pa.field("source", pa.string(), nullable=False),  # name of the configured source
        pa.field("shard", pa.string(), nullable=False),  # tar file or folder the sample came from
        pa.field("key", pa.string(), nullable=False),  # the sample's own key inside the shard
        pa.field("image", pa.large_binary(), nullable=False),  # encoded bytes as read (edit: the target)
        pa.field("image_hash", pa.string(), nullable=False),  # sha256 of `image`
        pa.field("reference", pa.large_binary()),  # edit: encoded bytes of the image to edit
        pa.field("reference_hash", pa.string()),  # sha256 of `reference`
        pa.field("caption", pa.string(), nullable=False),  # caption, or the instruction of an edit
        pa.field("width", pa.int32(), nullable=False),  # px, after EXIF orientation
        pa.field("height", pa.int32(), nullable=False),  # px, after EXIF orientation
        pa.field("aspect", pa.float32(), nullable=False),  # width / height
        pa.field("caption_length", pa.int32(), nullable=False),  # characters
        pa.field("caption_words", pa.int32(), nullable=False),
        pa.field("sharpness", pa.float32(), nullable=False),  # variance of the Laplacian of luma in [0, 1]
        pa.field("contrast", pa.float32(), nullable=False),  # standard deviation of luma in [0, 1]
        pa.field("entropy", pa.float32(), nullable=False),  # bits, of the 256-bin luma histogram
        pa.field("pair", pa.string(), nullable=False),  # 16 hex: see mos.curation.hashing.pair_id
        pa.field("phash", pa.string(), nullable=False),  # 64-bit perceptual hash, 16 hex digits
        pa.field("aesthetic", pa.float32()),  # null where no scorer ran
        pa.field("alignment", pa.float32()),  # image-text cosine; null where no scorer ran
        pa.field("meta", pa.string()),  # JSON object of whatever else the source knew
    ]
    columns += [pa.field(f"bucket_{resolution}", pa.string()) for resolution in resolutions]
    return pa.schema(columns)


REJECTS = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),  # a stable code of mos.images.reasons
        pa.field("detail", pa.string()),  # free text: the value that was refused
    ]
)
"""One row per dropped item: read == kept + rejected, by reason."""

PAYLOAD = payload_field("payload")
"""A Lance blob: whole, uncompressed, in a pack file beside the data file (mos.tables.blobs), read there by `preadv`.

Chosen by measurement on shuffled batches of 16 from the page cache of two cores, MB/s for rows of 8 MB and of 384 KB
(tests/benchmarks/states/reading.py): this 11,221 and 12,156; the same blobs through Lance's `read_blobs` 1,081 and
4,376; `take` of `large_binary` in Lance 2.0, its fastest format for that, 649 and 2,987; WebDataset in order 1,679 and
2,068; a random row of Parquet 351 and 579; `preadv` of one plain file 10,630 and 16,462. Writing takes 5% and 13% more
time than `large_binary`: 1,154 and 1,139 MB/s against 1,217 and 1,306.
"""

STATES = pa.schema(
    [
        pa.field("context_key", pa.string(), nullable=False),  # sha256 of what was encoded, see mos.states.keys
        pa.field("num_tokens", pa.int32(), nullable=False),
        PAYLOAD,  # ragged [token][layer][dim], see mos.states.payload
    ]
)
"""One row per distinct context. Schema metadata: `tower` (id) and those of `mos.states.payload.StateCodec.metadata`."""

LATENTS = pa.schema(
    [
        pa.field("latent_key", pa.string(), nullable=False),  # sha256 of image hash, codec and bucket
        pa.field("bucket", pa.string(), nullable=False),  # "<height>x<width>" px
        PAYLOAD,  # [channels][height][width], C order
    ]
)
"""One row per (image, bucket). Schema metadata: `codec` (id), `channels`, `stride`, `dtype`."""
