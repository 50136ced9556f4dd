"""torch's function transformations with JAX's signatures: what the conformance suite drives every library through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.utils.checkpoint

Function = Callable[..., Any]

#: Compile `grad` too, and for as many shapes as a test has.
_SETTINGS = {"trace_autograd_ops": True, "recompile_limit": 10_000, "accumulated_recompile_limit": 10_000}


def jit(f: Function) -> Function:
    """Trace `f` once per shape and dtype, and run the graph: ``torch.compile``, but for the generation of code."""
    # What is compiled is remembered by the code of a function, and a test makes many functions of one code.
    torch.compiler.reset()
    compiled: Function = torch.compile(f, fullgraph=True, backend="aot_eager")

    def run(*arguments: Any) -> Any:
        if _within_a_transformation():  # There torch compiles nothing, and calls f as it is.
            return f(*arguments)
        with torch._dynamo.config.patch(_SETTINGS):
            return compiled(*arguments)

    return run


def vmap(f: Function, in_axes: Any = 0) -> Function:
    """Map `f` over an axis of each argument, or over none of an argument whose axis is None."""
    mapped: Function = torch.func.vmap(f, in_dims=in_axes)
    return mapped


def grad(f: Function, argnums: int | tuple[int, ...] = 0) -> Function:
    """The gradient of a real scalar function: by ``torch.autograd`` outside of other transformations.

    Within them that is not possible, and it is by ``torch.func``, which has no checkpoints.
    """
    within: Function = torch.func.grad(f, argnums=argnums)

    def gradient(*arguments: Any) -> Any:
        if _within_a_transformation():
            return within(*arguments)
        chosen = (argnums,) if isinstance(argnums, int) else argnums
        given = list(arguments)
        twice = any(argument.requires_grad for argument in given)
        for i in chosen:
            given[i] = given[i].view_as(given[i]) if given[i].requires_grad else given[i].detach().requires_grad_()
        wanted, value = [given[i] for i in chosen], f(*given)
        if not value.requires_grad:  # It depends on none of them.
            found = tuple(map(torch.zeros_like, wanted))
        else:
            found = torch.autograd.grad(value, wanted, create_graph=twice, materialize_grads=True)
        return found[0] if isinstance(argnums, int) else found

    return gradient


def jvp(f: Function, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """The value of `f` and its derivative in the direction of `tangents`."""
    value, derivative = torch.func.jvp(f, primals, tangents)
    return value, derivative


def vjp(f: Function, *primals: Any) -> tuple[Any, Function]:
    """The value of `f` and the function from a cotangent of it to those of the arguments."""
    value, pull_back = torch.func.vjp(f, *primals)
    return value, pull_back


def checkpoint(f: Function) -> Function:
    """Recompute `f` for its gradient instead of keeping what it computed."""
    return lambda *arguments: torch.utils.checkpoint.checkpoint(f, *arguments, use_reentrant=False)


def jacrev(f: Function, argnums: int = 0) -> Function:
    """The Jacobian of a function with one output, row by row: ``(*output, *argument)``."""
    jacobian: Function = torch.func.jacrev(f, argnums=argnums)
    return jacobian


def jacfwd(f: Function, argnums: int = 0) -> Function:
    """The Jacobian of a function with one output, column by column: ``(*output, *argument)``."""
    jacobian: Function = torch.func.jacfwd(f, argnums=argnums)
    return jacobian


def _within_a_transformation() -> bool:
    return bool(torch._C._are_functorch_transforms_active())


TRANSFORMS: dict[str, Function] = {f.__name__: f for f in (jit, vmap, grad, jvp, vjp, jacfwd, jacrev, checkpoint)}
