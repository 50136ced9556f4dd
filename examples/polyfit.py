"""Polynomial fitting in a dozen lines, for the arrays of any library."""

import importlib

from array_api_compat import array_namespace

from lstsq import lstsq


def polyfit(t, y, degree):
    """Coefficients of the polynomial that fits best, from the constant up; y may have a column for each series."""
    xp = array_namespace(t)
    powers = xp.stack([t**k for k in range(degree + 1)], axis=1)
    return lstsq(powers, y).x


def polyval(x, t):
    """The polynomial's values."""
    return sum(c * t**k for k, c in enumerate(x))


if __name__ == "__main__":
    for library, array in [("numpy", "asarray"), ("jax.numpy", "asarray"), ("mlx.core", "array"), ("torch", "asarray")]:
        try:
            make = getattr(importlib.import_module(library), array)
        except ImportError as error:
            print(f"{library:10} not here: {error}")
            continue
        t = make([-2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
        x = polyfit(t, 1 - 3 * t + 2 * t**3, degree=3)
        print(f"{library:10} {type(x).__module__}.{type(x).__name__}: {[round(float(c), 4) for c in x]}")
        assert max(abs(polyval(x, t) - (1 - 3 * t + 2 * t**3))) < 1e-3
