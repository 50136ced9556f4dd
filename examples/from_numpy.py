"""Moving from numpy.linalg.lstsq: what stays, and the four things that change, side by side."""

import numpy as np

from lstsq import LinAlgError, lstsq


def show(what, old, new):
    """Print one line of the comparison."""
    print(f"{what:44} {old!s:>28} {new!s:>28}")


show("", "numpy.linalg.lstsq", "lstsq")
rng = np.random.default_rng(0)

# The same: the call, the order of the results, NumPy's own LinAlgError, x of minimum norm, the cutoff in float64.
a, b = rng.normal(size=(10, 3)), rng.normal(size=10)
old, new = np.linalg.lstsq(a, b, rcond=None), lstsq(a, b)
show("x", old[0].round(3), new.x.round(3))
assert np.allclose(old[0], new.x, rtol=1e-13)

# 1. Residuals are always there.
wide = a[:2]
old, new = np.linalg.lstsq(wide, b[:2], rcond=None)[1], lstsq(wide, b[:2]).residuals
show("residuals of 2 equations in 3 unknowns", old, new.round(12))
assert old.shape == (0,)
assert new.shape == (1,)
# If your code asks `if residuals.size:`, keep NumPy's rule.
assert lstsq(wide, b[:2], numpy_resid=True).residuals.shape == (0,)

# 2. Batches.
stack = rng.normal(size=(100, 10, 3))
try:
    np.linalg.lstsq(stack, b, rcond=None)
except LinAlgError as error:
    show("x of 100 problems", type(error).__name__, lstsq(stack, b).x.shape)

# 3. In single precision a column that is a multiple of another is found: NumPy holds float32 data to float64's cutoff.
t = np.arange(5) / 3
collinear = np.stack([np.ones(5), t, 7 * t], axis=1).astype(np.float32)
old, new = np.linalg.lstsq(collinear, b[:5].astype(np.float32), rcond=None), lstsq(collinear, b[:5].astype(np.float32))
show("rank of float32 columns 1, t, 7t", old[2], new.rank)
show("largest |x|", f"{abs(old[0]).max():.3g}", f"{abs(new.x).max():.3g}")
assert (old[2], new.rank) == (3, 2)

# 4. rcond means what it says from 0 up: NumPy takes 0, and anything from 1 up, for eps.
graded, ones = np.diag([1.0, 1e-20]), np.ones(2)
for rcond in (0, 1):
    old, new = np.linalg.lstsq(graded, ones, rcond=rcond), lstsq(graded, ones, rcond=rcond)
    show(f"rank of diag(1, 1e-20) with rcond={rcond}", old[2], new.rank)
    assert (old[2], new.rank) == (1, 2 - 2 * rcond)
