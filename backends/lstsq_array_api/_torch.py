"""What torch needs besides the standard: an operation that refuses derivatives, and a conversion that loses none.

torch differentiates the singular value decomposition through its vectors, which is NaN where singular values are equal.
Asking a tensor whether it records gradients is not enough: the tensors of ``torch.func`` and those with a tangent hide
it, and a program that ``torch.compile`` or ``torch.export`` made may be differentiated long after. So the operation
stands in the program, and is asked whenever that runs. To load an exported program, import `lstsq_array_api._torch`
first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import get_proxy_mode

_MESSAGE = (
    "a or b is a torch tensor whose derivatives are asked for (it requires grad, has a tangent, or comes from a "
    "transformation of torch.func), and they would be lost in the array_api backend or in another library. Let the "
    "torch backend solve (backend=None); or pass a.detach() and b.detach(), or call under torch.no_grad()."
)

_library = torch.library.Library("lstsq_array_api", "DEF")
_library.define("without_derivative(Tensor t) -> Tensor")

#: A copy of a tensor, or a TypeError if torch would differentiate it.
without_derivative = torch.ops.lstsq_array_api.without_derivative


def _copy(t: torch.Tensor) -> torch.Tensor:
    return t.clone()


def _refuse_derivative(t: torch.Tensor) -> Any:
    if (t.requires_grad and torch.is_grad_enabled()) or forward_ad.unpack_dual(t).tangent is not None:
        raise TypeError(_MESSAGE)
    with torch._C._AutoDispatchBelowAutograd():
        return without_derivative(t)


def _batched(_: Any, axes: tuple[int | None], t: torch.Tensor) -> tuple[torch.Tensor, int | None]:
    return without_derivative(t), axes[0]


_library.impl("without_derivative", _copy, "CompositeExplicitAutograd")
# Torch comes here first, for each level of a nest of transformations.
_library.impl("without_derivative", _refuse_derivative, "Autograd")
torch.library.register_vmap("lstsq_array_api::without_derivative", _batched, lib=_library)


def is_traced(tensor: torch.Tensor) -> bool:
    """Whether a transformation records what is done with the tensor, or it has no numbers."""
    return (
        torch.compiler.is_compiling()
        or get_proxy_mode() is not None
        or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        or isinstance(tensor, FakeTensor)
        or tensor.is_meta
        or torch.jit.is_tracing()
    )


def to_numpy(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """Convert to a NumPy array, from whatever device.

    Raises
    ------
    TypeError
        A derivative, or what a transformation traces, would be lost.
    """
    # A tracer sees the numbers, and would take them for constants.
    traced = torch.jit.is_tracing() or get_proxy_mode() is not None
    try:
        array = np.asarray(without_derivative(tensor).detach().cpu().resolve_conj().resolve_neg())
    except RuntimeError:  # A tensor that a transformation stands in for has no numbers.
        traced = True
    if traced:
        raise TypeError(
            "a transformation of torch (vmap, compile, export, trace) records what is done with the tensor, and cannot "
            "follow it to another library; expected a tensor outside of any transformation. Let the torch backend "
            "solve (backend=None), or solve outside and pass the result in."
        )
    return array
