"""Linear regression for the arrays of any library: weights, a ridge, standard errors, t and p values."""

import importlib
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtr

from lstsq import lstsq

Array = Any


class Fit(NamedTuple):
    """Coefficients, and without a ridge how well they are known. p is NumPy's, all else of the data's library."""

    x: Array
    freedom: int
    covariance: Array = None
    errors: Array = None
    t: Array = None
    p: Any = None


def fit(a, y, weights=None, ridge=None):
    """The regression of y (M,) on the columns of a (M, N); a constant is a column of ones."""
    x, squares, rank, _ = lstsq(a, y, weights=weights, ridge=ridge)
    counted = a.shape[0] if weights is None else int((weights > 0).sum())
    freedom = counted - int(rank)
    if ridge is not None:
        return Fit(x, freedom)
    # The pseudo-inverse of the rows' adjoint: its product with itself is the inverse of the normal equations' matrix.
    rows = a if weights is None else a * weights[:, None] ** 0.5
    half = lstsq(rows.T, np.eye(a.shape[1]).tolist()).x
    covariance = squares[0] / freedom * (half.T @ half)
    errors = (squares[0] / freedom * (half**2).sum(0)) ** 0.5
    t = x / errors
    return Fit(x, freedom, covariance, errors, t, 2 * stdtr(freedom, -abs(to_numpy(t))))


def to_numpy(array):
    """The numbers as NumPy's; CuPy wants to be asked."""
    return np.asarray(array.get() if hasattr(array, "get") else array)


if __name__ == "__main__":
    # Height in inches and weight in pounds of American women (McNeil 1977), and the quadratic that fits them.
    height = np.arange(58.0, 73.0) - 65
    weight = [115.0, 117, 120, 123, 126, 129, 132, 135, 139, 142, 146, 150, 154, 159, 164]
    columns = np.stack([np.ones(15), height, height**2], axis=1).tolist()
    for library in ("numpy", "jax.numpy", "mlx.core", "torch", "cupy"):
        try:
            module = importlib.import_module(library)
        except ImportError as error:
            print(f"{library:10} not here: {error}")
            continue
        make = getattr(module, "asarray", None) or module.array
        a, y = make(columns), make(weight)
        found = fit(a, y)
        print(f"{library:10} {'coef':>10} {'std err':>8} {'t':>8} {'P>|t|':>6}")
        for row in zip(*(to_numpy(part) for part in (found.x, found.errors, found.t, found.p))):
            print(f"{'':10} {row[0]:10.4f} {row[1]:8.4f} {row[2]:8.2f} {row[3]:6.3f}")
        left = to_numpy(y - a @ found.x)
        shrunk = to_numpy(fit(a, y, weights=make([1.0] * 14 + [0.0]), ridge=make([0.0, 10, 10])).x)
        print(f"{'':10} largest residual {abs(left).max():.2f}; slope without the last, with a ridge {shrunk[1]:.3f}")
        assert np.allclose(to_numpy(found.x), [135.1828, 3.45, 0.0831], atol=1e-3)
