"""Polynomial fitting in a dozen lines, for the arrays of any library, with the covariance of the coefficients."""

import importlib

from array_api_compat import array_namespace
from linear_regression import fit


def polyfit(t, y, degree, weights=None):
    """The fit of the polynomial of this degree, its coefficients from the constant up.

    As of `numpy.polyfit`, weights multiply residuals and not their squares: 1 / sigma, not 1 / sigma**2.
    """
    xp = array_namespace(t)
    powers = xp.stack([t**k for k in range(degree + 1)], axis=1)
    return fit(powers, y, None if weights is None else weights**2)


def polyval(x, t):
    """The polynomial's values."""
    return sum(c * t**k for k, c in enumerate(x))


if __name__ == "__main__":
    for library in ("numpy", "jax.numpy", "mlx.core", "torch", "cupy"):
        try:
            module = importlib.import_module(library)
        except ImportError as error:
            print(f"{library:10} not here: {error}")
            continue
        make = getattr(module, "asarray", None) or module.array
        t = make([-2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
        noise = make([0.1, -0.1, 0.0, 0.1, -0.2, 0.1])
        found = polyfit(t, 1 - 3 * t + 2 * t**3 + noise, degree=3)
        numbers = ", ".join(f"{x:.3f} ± {error:.3f}" for x, error in zip(map(float, found.x), map(float, found.errors)))
        print(f"{library:10} {type(found.x).__module__}.{type(found.x).__name__}: {numbers}")
        assert max(abs(polyval(found.x, t) - (1 - 3 * t + 2 * t**3))) < 0.2
