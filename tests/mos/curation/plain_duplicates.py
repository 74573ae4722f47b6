"""Copies, item by item: what `mos.curation.duplicates` finds with queries."""

from collections.abc import Mapping, Sequence

from mos.images.reasons import Reason


def plain_copies(kept: Sequence[Mapping], items: Sequence[Mapping], near_bits: int) -> dict[int, tuple[str, str]]:
    """Index among the items -> reason and detail, for each that repeats a kept sample or an item before it.

    Args:
        kept: rows with sample_id, pair, phash, key and shard that come before all items.
        items: rows in order of precedence; those with a reason are out already.
        near_bits: radius in bits, 0 for exact copies only.
    """
    found: dict[int, tuple[str, str]] = {}
    first = {}
    for row in kept:
        first.setdefault(row["sample_id"], row)
    stays = list(kept)
    for index, row in enumerate(items):
        if row.get("reason") is not None:
            continue
        if row["sample_id"] in first:
            found[index] = (Reason.DUPLICATE_EXACT, f"same image and caption as {_name(first[row['sample_id']])}")
            continue
        first[row["sample_id"]] = row
        near = (other for other in stays if near_bits and _distance(other, row) <= near_bits)
        other = next((other for other in near if other["pair"] == row["pair"]), None)
        if other is None:
            stays.append(row)
        else:
            bits = _distance(other, row)
            found[index] = (Reason.DUPLICATE_NEAR, f"{bits} bits from {_name(other)}, same caption")
    return {index: (str(reason), detail) for index, (reason, detail) in found.items()}


def _distance(one: Mapping, other: Mapping) -> int:
    return (int(one["phash"], 16) ^ int(other["phash"], 16)).bit_count()


def _name(row: Mapping) -> str:
    return f"{row['key']} of {row['shard']}"
