"""Group means by regression: a constant and an indicator for every group, which is rank-deficient and well-defined.

The usual advice is to drop one indicator, because a solver that inverts AᵀA fails. The minimum-norm solution needs no
such choice: whatever can be estimated (means, differences of groups) comes out the same.
"""

import csv
from pathlib import Path

import numpy as np

from lstsq import lstsq

with (Path(__file__).parent / "plant_growth.csv").open() as file:
    rows = list(csv.DictReader(file))
weight = np.array([float(row["weight"]) for row in rows])
groups = sorted({row["group"] for row in rows})
indicators = np.array([[float(row["group"] == group) for group in groups] for row in rows])
a = np.column_stack([np.ones(len(rows)), indicators])

x, residuals, rank, s = lstsq(a, weight)
print(f"{a.shape[1]} columns, rank {rank}, singular values {s.round(3)}")
for group, effect in zip(groups, x[1:]):
    mean = weight[[row["group"] == group for row in rows]].mean()
    print(f"{group:12} {x[0] + effect:.3f} fitted, {mean:.3f} mean")
    assert np.isclose(x[0] + effect, mean)
assert rank == 3

# The variance within the groups needs the residual, which numpy.linalg.lstsq withholds when the rank is deficient.
print(f"within groups: {residuals[0]:.3f} on {len(rows) - rank} degrees of freedom")
print("numpy.linalg.lstsq's residuals:", np.linalg.lstsq(a, weight, rcond=None)[1])
assert np.isclose(residuals[0], ((weight - a @ x) ** 2).sum())

# Dropping a column by hand gives the same differences.
dropped = lstsq(a[:, [0, 2, 3]], weight).x
print(f"treatment 1 against control: {x[2] - x[1]:.3f} and {dropped[1]:.3f}")
assert np.isclose(x[2] - x[1], dropped[1])
