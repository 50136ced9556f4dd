"""`array_namespace`: the functions of the library that arrays are from."""

from __future__ import annotations

from types import ModuleType

from lstsq import _registry
from lstsq._backend import Array


def array_namespace(*arrays: Array) -> ModuleType:
    """The functions of the arrays' library, by the names of the array-API standard where the library has them.

    As `array_api_compat.array_namespace`, for every library that `lstsq` serves. Lists may stand beside arrays, and
    arrays that a solver would misread are refused.

    Parameters
    ----------
    *arrays : array, list or number
        Of one library. What is no array belongs to the arrays beside it, and to NumPy where there are none.

    Returns
    -------
    module
        That of `array_api_compat` for the libraries that it wraps (NumPy, torch, CuPy, Dask), else the library's own
        (``jax.numpy``, ``mlx.core``).

    Raises
    ------
    TypeError
        If the arrays belong to several libraries, there is no argument, or a solver would take an argument for
        something else than it is: it has masked entries or units, or is sparse.

    Examples
    --------
    >>> import numpy as np
    >>> from lstsq import array_namespace
    >>> xp = array_namespace(np.ones(3), 2.0)
    >>> xp.concat([xp.asarray([3, 4]), xp.ones(1, dtype=xp.int64)]).tolist()
    [3, 4, 1]
    """
    if not arrays:
        raise TypeError("array_namespace was given no array; expected at least one. Pass one.")
    owners = [owner for owner in map(_registry.owner, arrays) if owner is not None]
    libraries = sorted({owner.library for owner in owners})
    if len(libraries) > 1:
        raise TypeError(f"got arrays of {' and '.join(libraries)}; expected one library. Convert some of them first.")
    found: ModuleType = (owners[0] if owners else _registry.numpy_owner()).xp
    return found
