"""A pytest plugin (``-p planted_frontend``) with a frontend that is wrong: a vector b gives a matrix x."""

from __future__ import annotations

from typing import Any

import lstsq

_honest = lstsq.lstsq


def _vector_kept_as_matrix(a: Any, b: Any, *args: Any, **options: Any) -> Any:
    result = _honest(a, b, *args, **options)
    return result._replace(x=result.x[..., None]) if getattr(b, "ndim", 0) == 1 else result


lstsq.lstsq = _vector_kept_as_matrix
