"""Amounts as people read them: KiB as GiB, bytes a second as MiB/s. Pure. For the overview and the charts."""

_BINARY = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def scale_of(unit: str, largest: float) -> tuple[float, str]:
    """Return (divisor, unit) with which values up to `largest` are shown."""
    if unit == "bytes/s":
        return float(1 << 20), "MiB/s"
    if unit not in _BINARY:
        return 1.0, unit
    position, divisor = _BINARY.index(unit), 1.0
    while position < len(_BINARY) - 1 and largest / divisor >= 1024:
        divisor *= 1024
        position += 1
    return divisor, _BINARY[position]


def number_text(value: float) -> str:
    """Return a number with as many digits as matter: `97.5`, `0.03`, `1,234`."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"
