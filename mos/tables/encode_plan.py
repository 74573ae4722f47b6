"""What is to be encoded of some views of a samples table, and what of it a table lacks: columns, in a database.

One walk over the samples makes the keys of all their contexts and latents. Which of them are distinct, which are
missing and in which order they are worked on is asked of the database (`mos.tables.workspace`), however many they are.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from itertools import count

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mos.tables.encode_tasks import CONTEXT_TASKS, LATENT_TASKS, NO_IMAGE
from mos.tables.key_columns import Keys, add_words, context_keys, key_columns, keys_of_columns, latent_keys, to_hex
from mos.tables.lance import TableVersion
from mos.tables.schema import TASK_EDIT
from mos.tables.views import View, check_filter
from mos.tables.workspace import (
    BATCH_ROWS,
    Columns,
    append,
    create,
    fill_keys,
    key_fields,
    number_of,
    same_key,
    workspace,
)

MOST_VIEWS = 63
"""Views of one plan: each is a bit of a number."""
LAST = 2**62
"""Place of the null context where no sample brings it."""
KEY = "k0, k1, k2, k3"
EVERY = 2**64 - 1
"""Bits of the null context, which all views ask for; the highest is no view's."""

CONTEXTS = pa.schema(
    [
        *key_fields("k"),
        pa.field("place", pa.int64()),  # in order of appearance
        pa.field("text", pa.string()),
        pa.field("length", pa.int32()),  # characters
        pa.field("row", pa.int64()),  # samples row of its image, or NO_IMAGE
        pa.field("views", pa.uint64()),  # a bit for each that asks for it
    ]
)
"""Contexts of all samples, with repetitions."""
LATENTS = pa.schema(
    [
        *key_fields("k"),
        pa.field("place", pa.int64()),  # in order of views, then of rows, a reference behind its image
        pa.field("bucket", pa.string()),
        pa.field("column", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("views", pa.uint64()),
    ]
)
"""Latents of all samples, with repetitions."""


class Tasks:
    """Distinct tasks of one kind, each once: a table of their keys, and of the place where each comes first."""

    def __init__(self, plan: "EncodePlan", kind: str, query: str) -> None:
        """`kind` is `contexts` or `latents`, `query` gives key and place of each."""
        self._plan = plan
        self._kind = kind
        self._table = plan.add_table(query)

    @cached_property
    def num_rows(self) -> int:
        """Number of tasks."""
        return number_of(self._plan.database, f"SELECT count(*) FROM {self._table}") or 0

    def missing(self, held: TableVersion) -> "Tasks":
        """Those whose key is not in a pinned table, whose first column are keys."""
        return Tasks(self._plan, self._kind, f"SELECT {KEY}, place FROM {self._table} {self._without(held)}")

    def num_missing(self, held: TableVersion, failed: Collection[str]) -> int:
        """How many have their key neither in a pinned table nor among those that failed."""
        without_failed = self._plan.anti_join(self._table, self._plan.table_of(failed))
        query = f"SELECT count(*) FROM {self._table} {self._without(held)} {without_failed}"
        return number_of(self._plan.database, query) or 0

    def sorted_keys(self) -> Iterator[Keys]:
        """All keys, ascending, a batch at a time."""
        found = self._plan.database.sql(f"SELECT {KEY} FROM {self._table} ORDER BY {KEY}")
        for batch in found.to_arrow_reader(BATCH_ROWS):
            yield keys_of_columns("k", batch)

    def in_order(self) -> Iterator[pa.RecordBatch]:
        """All tasks in order of work, CONTEXT_TASKS or LATENT_TASKS: contexts by length, the longest first, so that
        equal lengths share a forward pass without padding and the most memory is needed first; latents by bucket.
        """
        return self._rows("c.length DESC, c.place" if self._kind == "contexts" else 'c.bucket, c."column", c.row')

    def by_appearance(self) -> Iterator[pa.RecordBatch]:
        """All tasks in the order in which the samples bring them, without what none brings."""
        return self._rows("c.place", f"WHERE c.place < {LAST}")

    def by_key(self, most: int) -> pa.Table:
        """Those of the smallest keys: a fixed choice, and, keys being hashes, a random one."""
        return pa.Table.from_batches(self._rows(f"t.k0, t.k1, t.k2, t.k3 LIMIT {most}"), self.schema)

    def table(self) -> pa.Table:
        """All tasks in order of work, in memory."""
        return pa.Table.from_batches(self.in_order(), self.schema)

    @property
    def schema(self) -> pa.Schema:
        """CONTEXT_TASKS or LATENT_TASKS."""
        return CONTEXT_TASKS if self._kind == "contexts" else LATENT_TASKS

    def _rows(self, order: str, where: str = "") -> Iterator[pa.RecordBatch]:
        columns = ["text", "row"] if self._kind == "contexts" else ["bucket", "column", "row"]
        chosen = ", ".join(f'c."{name}"' for name in columns)
        found = self._plan.database.sql(
            f"SELECT t.k0, t.k1, t.k2, t.k3, {chosen} FROM {self._table} t JOIN {self._kind} c ON t.place = c.place "
            f"{where} ORDER BY {order}"
        )
        for batch in found.to_arrow_reader(BATCH_ROWS):
            arrays = [to_hex(keys_of_columns("k", batch)), *(batch.column(name) for name in columns)]
            if self._kind == "contexts":
                arrays.append(pa.repeat(self._plan.samples.version, len(batch)))
            yield pa.record_batch(arrays, schema=self.schema)

    def _without(self, held: TableVersion) -> str:
        return self._plan.anti_join(self._table, self._plan.table_of(held))


class EncodePlan:
    """Contexts and latents of some views; made by `planned`."""

    def __init__(self, database: duckdb.DuckDBPyConnection, samples: TableVersion, views: tuple[str, ...]) -> None:
        self.database = database
        self.samples = samples
        self._views = views
        self._numbers = count()
        self._held: dict[TableVersion, str] = {}

    @cached_property
    def contexts(self) -> Tasks:
        """The contexts of all views."""
        return self.contexts_of(self._views)

    @property
    def no_contexts(self) -> Tasks:
        """None of them."""
        return Tasks(self, "contexts", f"SELECT {KEY}, place FROM contexts LIMIT 0")

    @cached_property
    def latents(self) -> Tasks:
        """The latents of all views: one of each image, and of each reference of an edit, in each of its buckets."""
        return Tasks(self, "latents", f"SELECT {KEY}, min(place) AS place FROM latents GROUP BY {KEY}")

    def contexts_of(self, views: Iterable[str]) -> Tasks:
        """The contexts of some views, by name, and the null context."""
        bits = self.bits(views) | 1 << MOST_VIEWS
        query = f"SELECT {KEY}, min(place) AS place FROM contexts WHERE views & {bits}::UBIGINT <> 0 GROUP BY {KEY}"
        return Tasks(self, "contexts", query)

    def sums(self, failed: Collection[str]) -> "KeySums":
        """Sums over the keys of all contexts and latents, without those that failed."""
        table = self.table_of(failed)
        sums = ", ".join(f"sum(k{word})" for word in range(4))
        parts = " UNION ALL ".join(
            f"SELECT {KEY}, views FROM (SELECT {KEY}, bit_or(views) AS views FROM {kind} GROUP BY {KEY}) {kind}_keys "
            f"{self.anti_join(f'{kind}_keys', table)}"
            for kind in ("contexts", "latents")
        )
        found = self.database.execute(f"SELECT views, count(*), {sums} FROM ({parts}) GROUP BY views").fetchall()
        return KeySums(self.bits, found)

    def table_of(self, held: TableVersion | Collection[str]) -> str:
        """Name of a table with the keys of a pinned table, read once, or with these."""
        if isinstance(held, TableVersion):
            if held not in self._held:
                self._held[held] = f"held{next(self._numbers)}"
                fill_keys(self.database, self._held[held], held)
            return self._held[held]
        name = f"listed{next(self._numbers)}"
        fill_keys(self.database, name, pa.table({"key": pa.array(list(held), pa.string())}))
        return name

    def add_table(self, query: str) -> str:
        """Name of a new table of what a query gives."""
        name = f"chosen{next(self._numbers)}"
        self.database.execute(f"CREATE TABLE {name} AS {query}")
        return name

    @staticmethod
    def anti_join(table: str, without: str) -> str:
        """SQL that leaves out rows of a table whose keys another has."""
        return f"ANTI JOIN {without} ON {same_key(f'{table}.k', f'{without}.k')}"

    def bits(self, views: Iterable[str]) -> int:
        """A number with a bit for each of some views."""
        return sum(1 << self._views.index(name) for name in views)


class KeySums:
    """Digests of sets of keys: of those that some views ask for.

    Keys are added up, so each is looked at once, see `mos.tables.key_columns.add_words`. Who writes captions could work
    towards two sets of one sum, and would gain a stage that is not trained again.
    """

    def __init__(self, bits: Callable[[Iterable[str]], int], sums: list[tuple[int, ...]]) -> None:
        """`sums` are, for each set of views that some keys have in common, its bits, the number of keys and the sums of
        their four words.
        """
        self._bits = bits
        self._sums = sums

    def of(self, views: Iterable[str]) -> str:
        """Number and total of the keys that any of the views asks for."""
        wanted = self._bits(views)
        chosen = [row for row in self._sums if row[0] & wanted]
        return f"{sum(row[1] for row in chosen)}:{add_words(row[2:] for row in chosen):064x}"


@contextmanager
def planned(
    samples: TableVersion, views: Mapping[str, View], sees_images: bool | None = None, codec_id: str | None = None
) -> Iterator[EncodePlan]:
    """Plan what some views ask for; the plan goes when the block ends.

    Args:
        samples: the samples table.
        views: by name.
        sees_images: whether the tower's contexts have the images to edit; None: contexts are not planned.
        codec_id: of the latents; None: latents are not planned.

    Raises:
        UserError: a view does not fit the samples table.
    """
    assert len(views) <= MOST_VIEWS, "a plan of more views needs more bits"
    for view in views.values():
        check_filter(samples.open(), view)
    with workspace() as database:
        create(database, "contexts", CONTEXTS)
        create(database, "latents", LATENTS)
        for rows in _walk(samples, list(views.values())):
            if sees_images is not None:
                for columns in _contexts(rows, sees_images, len(views)):
                    append(database, "contexts", CONTEXTS, columns)
            if codec_id is not None:
                for columns in _latents(rows, list(views.values()), codec_id):
                    append(database, "latents", LATENTS, columns)
        if sees_images is not None:
            append(database, "contexts", CONTEXTS, _null_context())
        yield EncodePlan(database, samples, tuple(views))


def plan_contexts(samples: TableVersion, views: Iterable[View], sees_images: bool) -> pa.Table:
    """The distinct contexts of the samples of some views, CONTEXT_TASKS in order of work, and the null one; in memory.

    Raises:
        UserError: a view does not fit the samples table.
    """
    with planned(samples, _named(views), sees_images=sees_images) as plan:
        return plan.contexts.table()


def plan_latents(samples: TableVersion, views: Iterable[View], codec_id: str) -> pa.Table:
    """One row of LATENT_TASKS per distinct image and bucket of some views, bucket by bucket; references share the
    target's bucket. In memory.

    Raises:
        UserError: a view does not fit the samples table.
    """
    with planned(samples, _named(views), codec_id=codec_id) as plan:
        return plan.latents.table()


def distinct_contexts(samples: TableVersion, view: View, sees_images: bool) -> pa.Table:
    """One row of CONTEXT_TASKS per distinct context of a view's samples, in order of appearance; in memory.

    An edit's reference image belongs to its context, and to the null context beside it, if the tower sees images.

    Raises:
        UserError: the view does not fit the samples table.
    """
    with planned(samples, {"": view}, sees_images=sees_images) as plan:
        return pa.Table.from_batches(plan.contexts.by_appearance(), CONTEXT_TASKS)


def _named(views: Iterable[View]) -> dict[str, View]:
    return {str(number): view for number, view in enumerate(views)}


def _walk(samples: TableVersion, views: list[View]) -> Iterator[pa.RecordBatch]:
    """Light columns of the samples that any view has, in order, and for each view, as `in_<number>`, whether it has
    them; `row` is the sample's number.
    """
    if not views:
        return
    light = ["task", "caption", "image_hash", "reference_hash", *{f"bucket_{view.resolution}": None for view in views}]
    columns = {name: name for name in light} | {"row": "_rowoffset"}
    columns |= {f"in_{number}": view.predicate() for number, view in enumerate(views)}
    chosen = " OR ".join(f"({view.predicate()})" for view in views)
    scanner = samples.open().scanner(columns=columns, filter=chosen, batch_size=BATCH_ROWS, scan_in_order=True)
    yield from scanner.to_batches()


def _bits_of(rows: pa.RecordBatch, views: Iterable[int]) -> NDArray[np.uint64]:
    """The views of each sample, as bits."""
    bits = np.zeros(len(rows), np.uint64)
    for number in views:
        has = pc.fill_null(rows.column(f"in_{number}"), False).to_numpy(zero_copy_only=False)
        bits |= has.astype(np.uint64) << np.uint64(number)
    return bits


def _references(rows: pa.RecordBatch) -> pa.StringArray:
    """Hash of the image to edit, null for samples whose task is another."""
    return pc.if_else(pc.equal(rows.column("task"), TASK_EDIT), rows.column("reference_hash"), None)


def _contexts(rows: pa.RecordBatch, sees_images: bool, num_views: int) -> Iterator[Columns]:
    """CONTEXTS of some samples: those of the captions, then the null ones."""
    texts, number = rows.column("caption"), rows.column("row").to_numpy().astype(np.int64)
    images = _references(rows) if sees_images else pa.nulls(len(rows), pa.string())
    has_image = images.is_valid().to_numpy(zero_copy_only=False)
    bits = _bits_of(rows, range(num_views))
    yield _context_columns(texts, images, 2 * number, np.where(has_image, number, NO_IMAGE), bits)
    shown, plain = has_image.nonzero()[0], (~has_image).nonzero()[0][:1]
    chosen = np.concatenate([shown, plain])
    yield _context_columns(
        pa.repeat("", len(chosen)),
        images.take(pa.array(chosen)),
        2 * number[chosen] + 1,
        np.where(has_image, number, NO_IMAGE)[chosen],
        np.concatenate([bits[shown], np.full(len(plain), EVERY, np.uint64)]),
    )


def _null_context() -> Columns:
    """The context without text or image, behind all others."""
    no_image, row = pa.nulls(1, pa.string()), np.array([NO_IMAGE])
    return _context_columns(pa.array([""]), no_image, np.array([LAST]), row, np.array([EVERY], np.uint64))


def _context_columns(
    texts: pa.StringArray,
    images: pa.StringArray,
    place: NDArray[np.int64],
    row: NDArray[np.int64],
    views: NDArray[np.uint64],
) -> Columns:
    return {
        **key_columns("k", context_keys(texts, images)),
        "place": place,
        "text": texts,
        "length": pc.utf8_length(texts),
        "row": row,
        "views": views,
    }


def _latents(rows: pa.RecordBatch, views: list[View], codec_id: str) -> Iterator[Columns]:
    """LATENTS of some samples: of each resolution the images, then the references."""
    number, references = rows.column("row").to_numpy().astype(np.int64), _references(rows)
    hashes = {"image": rows.column("image_hash"), "reference": references}
    for resolution in dict.fromkeys(view.resolution for view in views):
        of_it = [place for place, view in enumerate(views) if view.resolution == resolution]
        bits = _bits_of(rows, of_it)
        first = _lowest_bit(bits)
        for behind, (column, hashed) in enumerate(hashes.items()):
            chosen = ((bits != 0) & hashed.is_valid().to_numpy(zero_copy_only=False)).nonzero()[0]
            taken = pa.array(chosen)
            buckets = rows.column(f"bucket_{resolution}").take(taken)
            yield {
                **key_columns("k", latent_keys(hashed.take(taken), codec_id, buckets)),
                "place": (first << 48 | number << 1 | behind)[chosen],
                "bucket": buckets,
                "column": pa.repeat(column, len(chosen)),
                "row": number[chosen],
                "views": bits[chosen],
            }


def _lowest_bit(bits: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Number of the lowest bit that is set; 0 where none is."""
    lowest = bits & (~bits + np.uint64(1))
    return np.where(bits == 0, 0, np.log2(np.maximum(lowest, 1))).astype(np.int64)
