"""Figures of a plan as text."""

SCALES = (("", 1.0), ("k", 1e3), ("M", 1e6), ("B", 1e9))
PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")


def amount(value: float) -> str:
    """A count with three digits: `5,000`, `819M`."""
    if value < 1e4:
        return f"{value:,.0f}"
    name, scale = next((name, scale) for name, scale in reversed(SCALES) if value >= scale)
    return f"{value / scale:.3g}{name}"


def bytes_text(value: float) -> str:
    """Bytes in decimal units: `13.9 MB`."""
    return prefixed(value, "B")


def prefixed(value: float, unit: str) -> str:
    """Three digits and a decimal prefix: `3.14 PB`, `250 GFLOP`."""
    power = 0
    while value >= 999.5 and power < len(PREFIXES) - 1:
        value, power = value / 1e3, power + 1
    return f"{value:.3g} {PREFIXES[power]}{unit}"


def hours_text(hours: float) -> str:
    """Worker hours: `12 s`, `3.5 h`, `1,400 h`."""
    if hours < 1 / 60:
        return f"{hours * 3600:.2g} s"
    if hours < 1:
        return f"{hours * 60:.2g} min"
    return f"{hours:,.1f} h" if hours < 100 else f"{hours:,.0f} h"


def money(dollars: float) -> str:
    """Dollars: `$1,234`, `$0.031`; less than a tenth of a cent is `under $0.001`."""
    if 0 < dollars < 0.001:
        return "under $0.001"
    return f"${dollars:,.0f}" if dollars >= 100 else f"${dollars:.2f}" if dollars >= 1 else f"${dollars:.2g}"
