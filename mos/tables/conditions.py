"""A filter as the conditions that all hold: what stands between its outermost ANDs."""

import re

_TOKEN = re.compile(
    r"""(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`)|(?P<open>\()|(?P<close>\))|\b(?P<word>AND|OR|BETWEEN|CASE)\b""",
    re.IGNORECASE,
)


def conditions(sql: str) -> list[str]:
    """The conditions of an SQL expression, each as it is written; all of it where it does not come apart so simply.

    An outermost OR, BETWEEN or CASE leaves it whole: put it into parentheses.
    """
    depth, start, parts = 0, 0, []
    for token in _TOKEN.finditer(sql):
        depth += (token["open"] is not None) - (token["close"] is not None)
        if token["word"] is None or depth:
            continue
        if token["word"].upper() != "AND":
            return [sql.strip()]
        parts.append(sql[start : token.start()].strip())
        start = token.end()
    whole = [*parts, sql[start:].strip()]
    return [part for part in whole if part]


def names(sql: str, column: re.Pattern[str]) -> set[str]:
    """What of an SQL expression matches a column's name as a whole word; text in single quotes is no name."""
    bare = _TOKEN.sub(lambda token: " " if token[0].startswith("'") else token[0], sql)
    return {found[0] for found in re.finditer(rf"\b(?:{column.pattern})\b", bare)}
