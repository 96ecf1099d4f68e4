"""Numbers as the tables show them."""


def three(number):
    """Three digits that matter."""
    return f"{number:.3g}" if abs(number) < 100 else f"{number:.0f}"


def unit_of(seconds):
    return next(((unit, scale) for unit, scale in [("s", 1), ("ms", 1e3), ("us", 1e6)] if seconds * scale >= 0.9995),
                ("ns", 1e9))


def duration(seconds):
    unit, scale = unit_of(seconds)
    return f"{three(seconds * scale)} {unit}"


def amount(size):
    unit, scale = next(((unit, 1 << shift) for unit, shift in [("GiB", 30), ("MiB", 20), ("KiB", 10)]
                        if abs(size) >= 1 << shift), ("bytes", 1))
    return f"{three(size / scale)} {unit}"


def ratio(value):
    """How many times as fast: 12x, 1.31x, and 0.92 of what is faster."""
    return f"{value:.2f}" if value < 1 else f"{value:.2f}x" if value < 10 else f"{three(value)}x"
