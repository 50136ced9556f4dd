"""MLX's function transformations with JAX's signatures: what the conformance suite drives every library through.

Those of float64 run on the CPU, which alone has it: what MLX itself adds up in a derivative, and what the function
given does besides solving, goes to the default device elsewhere, and that may be a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any

import mlx.core as mx

Function = Callable[..., Any]


def jit(f: Function) -> Function:
    """Trace `f` once per shape and dtype, and run the graph: ``mx.compile``."""
    return mx.compile(f)


def vmap(f: Function, in_axes: Any = 0) -> Function:
    """Map `f` over an axis of each argument, or over none of an argument whose axis is None."""
    return mx.vmap(f, in_axes=in_axes)


def grad(f: Function, argnums: int | tuple[int, ...] = 0) -> Function:
    """The gradient of a real scalar function."""
    return mx.grad(f, argnums=argnums)


def jvp(f: Function, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """The value of `f` and its derivative in the direction of `tangents`."""
    outputs, derivatives = mx.jvp(f, list(primals), list(tangents))
    if len(outputs) == 1:
        return outputs[0], derivatives[0]
    return tuple(outputs), tuple(derivatives)


def vjp(f: Function, *primals: Any) -> tuple[Any, Function]:
    """The value of `f` and the function from a cotangent of it to those of the arguments."""
    value = f(*primals)

    def pull_back(cotangents: Any) -> tuple[Any, ...]:
        listed = [cotangents] if isinstance(cotangents, mx.array) else list(cotangents)
        return tuple(mx.vjp(f, list(primals), listed)[1])

    return value, pull_back


def checkpoint(f: Function) -> Function:
    """Recompute `f` for its gradient instead of keeping what it computed."""
    return mx.checkpoint(f)


def jacrev(f: Function, argnums: int = 0) -> Function:
    """The Jacobian of a function with one output, row by row: ``(*output, *argument)``."""

    def jacobian(*arguments: Any) -> Any:
        at = arguments[argnums]
        f_of = _only(f, arguments, argnums)
        value = f_of(at)
        basis = mx.reshape(mx.eye(value.size, dtype=value.dtype), (value.size, *value.shape))
        rows = mx.vmap(lambda cotangent: mx.vjp(f_of, [at], [cotangent])[1][0])(basis)
        return mx.reshape(rows, (*value.shape, *at.shape))

    return jacobian


def jacfwd(f: Function, argnums: int = 0) -> Function:
    """The Jacobian of a function with one output, column by column: ``(*output, *argument)``."""

    def jacobian(*arguments: Any) -> Any:
        at = arguments[argnums]
        f_of = _only(f, arguments, argnums)
        basis = mx.reshape(mx.eye(at.size, dtype=at.dtype), (at.size, *at.shape))
        columns = mx.vmap(lambda tangent: mx.jvp(f_of, [at], [tangent])[1][0], out_axes=-1)(basis)
        return mx.reshape(columns, (*columns.shape[:-1], *at.shape))

    return jacobian


def _only(f: Function, arguments: tuple[Any, ...], argnum: int) -> Function:
    """`f` as a function of one argument, the others held."""
    return lambda at: f(*arguments[:argnum], at, *arguments[argnum + 1 :])


def _where_float64_is(f: Function) -> Function:
    """`f`, and what it returns if that is a function, on the CPU where an argument is of float64."""

    @wraps(f)
    def run(*arguments: Any, **options: Any) -> Any:
        with mx.stream(mx.cpu) if _has_float64(arguments) else nullcontext():
            result = f(*arguments, **options)
        if isinstance(result, tuple):
            return tuple(_where_float64_is(part) if callable(part) else part for part in result)
        return _where_float64_is(result) if callable(result) else result

    return run


def _has_float64(arguments: Any) -> bool:
    if isinstance(arguments, (tuple, list)):
        return any(map(_has_float64, arguments))
    return isinstance(arguments, mx.array) and arguments.dtype == mx.float64


TRANSFORMS: dict[str, Function] = {
    f.__name__: _where_float64_is(f) for f in (jit, vmap, grad, jvp, vjp, jacfwd, jacrev, checkpoint)
}
