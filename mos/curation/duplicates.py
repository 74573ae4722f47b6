"""Items of a run -> which of them are copies of an earlier one, however many there are.

The items are the table `marks` of a database (`mos.tables.workspace`, see `mos.curation.manifest`), and every step is a
query over it: the plain loop over them is `tests/mos/curation/plain_duplicates.py`.
"""

from collections.abc import Iterator
from itertools import combinations, pairwise
from math import comb

import duckdb
import numpy as np
import pyarrow as pa

from mos.curation.hashing import HASH_BITS
from mos.images.reasons import Reason
from mos.tables.key_columns import hex_columns
from mos.tables.lance import VALUES_PER_DELETE, TableVersion, rows_at
from mos.tables.workspace import BATCH_ROWS, Columns, append, create, fill, key_fields, number_of, same_key

STANDING = 2**62
"""Of a sample that stands, the rank is its address less this: below that of every new item, which is its order."""
MOST_BANDS_AGREE = 4

MARKED = pa.schema(
    [
        pa.field("rank", pa.int64()),  # who comes first stays
        *key_fields("sample_id"),
        pa.field("pair", pa.uint64()),  # see mos.curation.hashing.pair_id
        pa.field("phash", pa.uint64()),  # 64-bit perceptual hash
    ]
)
"""What decides about copies."""
NAMES = pa.schema([pa.field("rank", pa.int64()), pa.field("key", pa.string()), pa.field("shard", pa.string())])
DROPPED = pa.schema([pa.field("id", pa.int64()), pa.field("original", pa.int64())])
"""Classes that are near an earlier one that stays."""


def refuse_copies(database: duckdb.DuckDBPyConnection, kept: TableVersion | None, near_bits: int) -> None:
    """Refuse, in the table `marks`, each item that repeats a kept sample or an item before it.

    Depends on the items' order alone. A near duplicate is compared only with those that stay: in a chain A ~ B ~ C of
    steps below the radius, C stays if it is far from A.

    Args:
        database: with the table `marks`.
        kept: samples that earlier runs kept, before all items; None: none.
        near_bits: radius in bits, 0 for exact copies only.
    """
    database.execute(
        f"CREATE VIEW items AS SELECT {', '.join(MARKED.names[1:5])}, "
        '"order" AS rank, pair0 AS pair, phash0 AS phash FROM marks WHERE reason IS NULL'
    )
    fill_standing(database, kept, near_bits)
    find_exact(database)
    if near_bits:
        find_near(database, near_bits)
    name_originals(database, kept)
    database.execute(
        f"""
        UPDATE marks SET
            reason = CASE WHEN c.bits IS NULL THEN '{Reason.DUPLICATE_EXACT}' ELSE '{Reason.DUPLICATE_NEAR}' END,
            detail = CASE WHEN c.bits IS NULL THEN 'same image and caption as ' || o.key || ' of ' || o.shard
                ELSE c.bits || ' bits from ' || o.key || ' of ' || o.shard || ', same caption' END
        FROM copies c JOIN originals o ON c.original = o.rank WHERE marks."order" = c.rank
        """
    )


def fill_standing(database: duckdb.DuckDBPyConnection, kept: TableVersion | None, near_bits: int) -> None:
    """Create `standing`, MARKED: of the kept samples those that an item may repeat; the others only stream by."""
    if kept is None or not number_of(database, "SELECT count(*) FROM items"):
        create(database, "standing", MARKED)
        return
    ids = " AND ".join(f"i.{name} = s.{name}" for name in MARKED.names[1:5])
    repeated = f"EXISTS (SELECT 1 FROM items i WHERE {ids})"
    if near_bits:
        repeated += " OR EXISTS (SELECT 1 FROM items i WHERE i.pair = s.pair)"
    fill(database, "standing", MARKED, _kept(kept, near_bits), f"s WHERE {repeated}")


def _kept(kept: TableVersion, near_bits: int) -> Iterator[Columns]:
    columns = ["sample_id", *(["pair", "phash"] if near_bits else [])]
    scanner = kept.open().scanner(columns=columns, with_row_address=True, batch_size=BATCH_ROWS)
    for batch in scanner.to_batches():
        found = {"pair": np.zeros(len(batch), np.uint64), "phash": np.zeros(len(batch), np.uint64)}
        if near_bits:
            found = {name: hex_columns(name, batch.column(name), 1)[f"{name}0"] for name in found}
        address = batch.column("_rowaddr").to_numpy().astype(np.int64)
        yield {"rank": address - STANDING, **hex_columns("sample_id", batch.column("sample_id"), 4), **found}


def find_exact(database: duckdb.DuckDBPyConnection) -> None:
    """Create `copies` of rank, original and bits, which are null here: each item whose id another had before."""
    ids = ", ".join(MARKED.names[1:5])
    database.execute(
        f"""
        CREATE TABLE copies AS
        SELECT i.rank, f.original, NULL::INTEGER AS bits FROM items i JOIN (
            SELECT {ids}, min(rank) AS original FROM
                (SELECT {ids}, rank FROM items UNION ALL SELECT {ids}, rank FROM standing)
            GROUP BY {ids} HAVING count(*) > 1
        ) f ON {same_key("i.sample_id", "f.sample_id")} WHERE i.rank > f.original
        """
    )


def find_near(database: duckdb.DuckDBPyConnection, radius: int) -> None:
    """Add to `copies` each other item within a Hamming radius of one of its pair that stays, the first of those.

    Items of one pair and hash are a class: what its first one is near, all of them are. Classes are numbered by their
    first ones; those of standing samples stay.
    """
    database.execute("CREATE VIEW rest AS SELECT rank, pair, phash FROM items ANTI JOIN copies USING (rank)")
    database.execute(
        """
        CREATE TABLE classes AS SELECT row_number() OVER (ORDER BY first) - 1 AS id, * FROM (
            SELECT pair, phash, min(rank) AS first FROM
                (SELECT * FROM rest UNION ALL SELECT rank, pair, phash FROM standing)
            SEMI JOIN (
                SELECT pair FROM (SELECT pair FROM rest UNION ALL SELECT pair FROM standing)
                GROUP BY pair HAVING count(*) > 1
            ) repeated USING (pair)
            GROUP BY pair, phash
        )
        """
    )
    database.execute("CREATE TABLE near (later BIGINT, earlier BIGINT)")
    largest = number_of(database, "SELECT max(n) FROM (SELECT count(*) AS n FROM classes GROUP BY pair)") or 0
    for mask in band_masks(radius, largest):
        database.execute(
            f"""
            INSERT INTO near SELECT b.id, a.id FROM classes a JOIN classes b
                ON a.pair = b.pair AND (a.phash & {mask}::UBIGINT) = (b.phash & {mask}::UBIGINT) AND a.id < b.id
            WHERE b.first >= 0 AND bit_count(xor(a.phash, b.phash)) <= {radius}
            """
        )
    drop_near(database)
    database.execute(
        """
        INSERT INTO copies
        SELECT r.rank, coalesce(o.first, c.first), bit_count(xor(coalesce(o.phash, c.phash), r.phash))
        FROM rest r JOIN classes c USING (pair, phash)
            LEFT JOIN dropped d ON d.id = c.id LEFT JOIN classes o ON o.id = d.original
        WHERE d.id IS NOT NULL OR r.rank > c.first
        """
    )


def drop_near(database: duckdb.DuckDBPyConnection) -> None:
    """Create `dropped`: each class that is near one before it which stays, and the first such one."""
    create(database, "dropped", DROPPED)
    is_dropped = np.zeros(number_of(database, "SELECT count(*) FROM classes") or 0, bool)
    decided = -1
    with database.cursor() as reading:
        near = reading.sql("SELECT later, earlier FROM near ORDER BY later, earlier")
        for batch in near.to_arrow_reader(BATCH_ROWS):
            later, original = [], []
            for this, other in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                if this != decided and not is_dropped[other]:
                    decided, is_dropped[this] = this, True
                    later.append(this)
                    original.append(other)
            append(database, "dropped", DROPPED, {"id": np.array(later), "original": np.array(original)})


def name_originals(database: duckdb.DuckDBPyConnection, kept: TableVersion | None) -> None:
    """Create `originals`, NAMES, of all that `copies` repeat."""
    create(database, "originals", NAMES)
    database.execute(
        'INSERT INTO originals SELECT "order", key, shard FROM marks '
        'SEMI JOIN copies ON copies.original = marks."order"'
    )
    if kept is None:
        return
    with database.cursor() as reading:
        standing = reading.sql("SELECT DISTINCT original FROM copies WHERE original < 0 ORDER BY original")
        for batch in standing.to_arrow_reader(VALUES_PER_DELETE):
            addresses = (batch.column(0).to_numpy() + STANDING).tolist()
            rows = rows_at(kept, ["key", "shard"], addresses).combine_chunks()
            ranks = rows.column("_rowaddr").to_numpy().astype(np.int64) - STANDING
            named = {name: rows.column(name).combine_chunks() for name in ("key", "shard")}
            append(database, "originals", NAMES, {"rank": ranks, **named})


def band_masks(radius: int, largest: int) -> list[int]:
    """Masks of 64 bits: two hashes within the radius are equal under one of them, so those alone need comparing.

    The bits are cut into `radius + n` bands; hashes that differ in `radius` bits agree in `n` of them entirely, and
    there is a mask for every `n`. More bands together are shared by chance by fewer, and make more masks: `n` is what
    needs the fewest comparisons for so many different hashes of one pair.
    """

    def comparisons(agree: int) -> float:
        return comb(radius + agree, agree) * (1 + largest / 2 ** (HASH_BITS * agree / (radius + agree)))

    agree = min(range(1, MOST_BANDS_AGREE + 1), key=comparisons)
    edges = [round(HASH_BITS * band / (radius + agree)) for band in range(radius + agree + 1)]
    bands = [(1 << high) - (1 << low) for low, high in pairwise(edges)]
    return [sum(chosen) for chosen in combinations(bands, agree)]
