"""The derivatives of the operations, forward and reverse, to any order.

The derivation is the JAX backend's, above `lstsq_jax._gradient`, with its names: P, Q, G, M and S, and Z = S(dM), which
says how the directions that are kept turn. Here are its transposes, which torch does not find by itself, and the
derivative of S. Write <X, Y> = Re tr Xᴴ Y. torch's gradient X̄ is that for which df = <X̄, dX>.

S is self-adjoint, <Y, S(X)> = <S(Y), X>: it projects on a block, and divides by real numbers there. So where a rule
says df = <Z̄, Z>, that is df = <M̄, dM> with M̄ = S(Z̄), and from dM = Aᴴ dA + dAᴴ A comes Ā = A (M̄ + M̄ᴴ).

`solve` where M >= N, with r = b − A x, u = Pᴴ x̄ and w = P u = G x̄:

    <x̄, dx> = <u, db> + <r wᴴ − u xᴴ, dA> + <Aᴴ r wᴴ + x̄ xᴴ, Z>.

`solve` where M < N. P, M, S and Z are now those of T = Aᴴ, and x = Pᴴ b. With u = P x̄ and v = P x:

    <x̄, dx> = <u, db> + <v (x̄ − T u)ᴴ − u xᴴ, dA> + <r uᴴ + A x̄ vᴴ, Z>.

In both, u is the solution for x̄ with the matrix Aᴴ, v is the one for x, and w is that of A for u. So the rules are made
of solutions, products and S, and torch differentiates them again.

The residuals ρ, with a weight ρ̄ for each right-hand side and R̄ = 2 r ρ̄:

    <ρ̄, dρ> = <R̄, db> − <R̄ xᴴ, dA> − <Aᴴ R̄ xᴴ, Z>   where M >= N,
    <ρ̄, dρ> = <R̄, db> − <R̄ (A x)ᴴ, Z>                where M < N.

`rotation`, Z = S(C) for any C, solves Z M − M Z = (I − Q) C Q with Z = (I − Q) Z Q. Let W = S(dM), so that dQ = W + Wᴴ,
and [X, Y] = X Y − Y X. The second equation, differentiated, gives the part of dZ outside of the block, [Z, Wᴴ]. The
block of the first equation, differentiated, gives what is inside. Together

    dZ = S(dC + [dM, Z] + [C, W]) + [Z, Wᴴ],

and with Y = S(Z̄) the transpose is C̄ = Y, M̄ = [Y, Zᴴ] + S([Cᴴ, Y] + [Z̄ᴴ, Z]).

`singular_vectors`. Let T = Uᴴ dA V, H its Hermitian and K its skew part, as there; E, F and D one over σj − σi, σj + σi
and σj, with zeros where there is no limit:

    dU = U (E∘H + F∘K) + (dA V − U T) D,    dV = V (E∘H − F∘K),    ds = Re diag T.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from array_api_compat import torch as xp
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import Function, forward_ad

from lstsq._arithmetic import exponent, largest_exponent
from lstsq_torch import _operations as ops
from lstsq_torch import _solve as numbers

Maybe: TypeAlias = "Tensor | None"

#: Differences of singular values up to this times N eps are taken for zero, in second derivatives: see `lstsq_jax`.
NOISE = 100


def solve(a: Tensor, b: Tensor, rcond: float, driver: str, with_s: bool) -> tuple[Tensor, ...]:
    """The operation ``solve``, with its derivatives.

    Examples
    --------
    >>> a = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    >>> b = torch.tensor([[1.0], [3.0], [5.0]], requires_grad=True)
    >>> x, residuals, rank, s = solve(a, b, rcond=1e-6, driver="auto", with_s=True)
    >>> [round(number, 4) for number in x.flatten().tolist()]
    [1.0, 2.0]
    >>> [round(number, 4) + 0.0 for number in torch.autograd.grad(x[1, 0], b)[0].flatten().tolist()]
    [-0.5, 0.0, 0.5]
    """
    if not torch.compiler.is_compiling() and _is_plain(a, b) and not _is_differentiated(a, b):
        # Not by torch's dispatcher, whose way to an operation in Python takes as long as a small problem.
        return numbers.solve(a.detach(), b.detach(), rcond, driver, with_s)
    found: tuple[Tensor, ...] = ops.solve(a, b, rcond, driver, with_s)
    return found


#: Whom torch's dispatcher asks first where no mode, transformation, tracer or subclass takes part.
_PLAIN = (torch._C.DispatchKey.AutogradCPU, torch._C.DispatchKey.AutogradCUDA)


#: The classes that do no more than hold numbers.
_CLASSES = (Tensor, torch.nn.Parameter)


def _is_plain(a: Tensor, b: Tensor) -> bool:
    if type(a) not in _CLASSES or type(b) not in _CLASSES:
        return False
    keys = torch._C._dispatch_keys(a) | torch._C._dispatch_keys(b) | torch._C._dispatch_tls_local_include_set()
    return (keys - torch._C._dispatch_tls_local_exclude_set()).highestPriorityTypeId() in _PLAIN


#: Whether torch records derivatives, of reverse and of forward mode.
Modes = tuple[bool, bool]


@contextmanager
def _recording(modes: Modes) -> Iterator[None]:
    """Have torch record derivatives as where the operation was called.

    In a `Function`'s `forward` nothing is recorded, and in its `jvp` nothing of forward mode. But of a nest of
    transformations the outer ones record what is done there.
    """
    reverse, forward = modes
    with torch.set_grad_enabled(reverse), forward_ad._set_fwd_grad_enabled(forward):
        yield


def _primals(ctx: Any) -> Iterator[Tensor]:
    """What was saved for `jvp`, without the tangents of which the rule makes that of the result."""
    return (_dual(tensor).primal for tensor in ctx.saved_tensors)


def _dual(tensor: Tensor) -> Any:
    """The tensor and its tangent, or None. There is one level, and in a compiled program torch does not ask which."""
    return forward_ad.unpack_dual(tensor, level=0)


class _Solve(Function):  # type: ignore[misc]
    @staticmethod
    def forward(a: Tensor, b: Tensor, rcond: float, driver: str, with_s: bool, modes: Modes) -> Any:
        with _recording(modes), torch._C._AutoDispatchBelowAutograd():
            return ops.solve(a, b, rcond, driver, with_s)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        a, b, rcond, _, with_s, modes = inputs
        x, residuals, rank, s = output
        ctx.rcond, ctx.with_s, ctx.modes = rcond, with_s, modes
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(rank, *([] if with_s else [s]))
        ctx.save_for_backward(a, b, x, residuals, rank, s)
        ctx.save_for_forward(a, b, x, residuals, rank, s)

    @staticmethod
    def backward(ctx: Any, x_bar: Maybe, residuals_bar: Maybe, _: Any, s_bar: Maybe) -> Any:
        a, b, x, residuals, rank, s = ctx.saved_tensors
        a_bar = b_bar = None
        if x_bar is not None or residuals_bar is not None:
            at = _Point(a, b, x, residuals, rank, ctx.rcond)
            a_bar, b_bar = at.pull_back(x_bar, residuals_bar, ctx.needs_input_grad[0])
        if s_bar is not None and ctx.needs_input_grad[0]:
            a_bar = _sum(a_bar, _pull_back_values(a, s, s_bar))
        return a_bar, b_bar, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, da: Maybe, db: Maybe, *_: Any) -> Any:
        with _recording(ctx.modes):
            a, b, x, residuals, rank, s = _primals(ctx)
            dx, d_residuals = _Point(a, b, x, residuals, rank, ctx.rcond).push_forward(da, db)
            if not ctx.with_s:
                return dx, d_residuals, None, None
            return dx, d_residuals, None, torch.zeros_like(s) if da is None else _push_forward_values(a, s, da)


class _Point:
    """Where `solve` is differentiated: finite numbers, with zeros in the place of what has no answer.

    The matrix is divided by a power of two c, which rounds nothing, so that its largest number is about 1; x is
    multiplied by it, and b stays. With the matrix as it is, M has the size of its square, and S that of one over it:
    they leave the range of numbers long before the derivatives do. Gradients of x and tangents of `a` are divided by c
    where they come in, gradients of `a` and tangents of x where they go out.
    """

    def __init__(self, a: Tensor, b: Tensor, x: Tensor, residuals: Tensor, rank: Tensor, rcond: float):
        #: (..., K), which right-hand sides have no answer.
        self.lost = residuals.isnan()
        self.wide = a.shape[-2] < a.shape[-1]
        a = a.masked_fill(self.lost.all(-1)[..., None, None], 0)
        # Where neither c nor 1 / c is infinite. No derivative goes through c: the results do not depend on it.
        limit = largest_exponent(torch, a.dtype)
        size = exponent(xp, a.detach(), (-2, -1)).clamp(-limit, limit)
        #: (..., 1, 1), 1 / c.
        self.scale = torch.exp2(-size)
        self.a = a * self.scale
        self.b, self.x = self.kept(b), self.kept(x) * torch.exp2(size)
        self.rank, self.rcond = rank, rcond
        self.r = self.b - self.a @ self.x

    def kept(self, columns: Tensor) -> Tensor:
        return columns.masked_fill(self.lost[..., None, :], 0)

    def pinv(self, rhs: Tensor) -> Tensor:
        """The solution for this right-hand side."""
        x: Tensor = ops.solve(self.a, rhs, self.rcond, "auto", False)[0]
        return x

    def pinv_adjoint(self, rhs: Tensor) -> Tensor:
        """The solution of the adjoint problem."""
        x: Tensor = ops.solve(self.a.mH, rhs, self.rcond, "auto", False)[0]
        return x

    def turn(self, c: Tensor) -> Tensor:
        """S(c), in the shorter of the two dimensions of the matrix."""
        found: Tensor = ops.rotation(self.a.mH if self.wide else self.a, c, self.rank)
        return found

    def pull_back(self, x_bar: Maybe, residuals_bar: Maybe, with_a: bool) -> tuple[Maybe, Tensor]:
        """The gradients with respect to `a`, if that is wanted, and `b`."""
        a, x, r = self.a, self.x, self.r
        b_bar = torch.zeros_like(r)
        # Ā and Z̄ as sums of products p qᴴ.
        of_a, of_z = [], []
        # Zero stays: what the caller leaves out, by a mask for instance, must not spoil what is left.
        spoilt = torch.zeros_like(self.lost)
        if x_bar is not None:
            spoilt = spoilt | (self.lost & (x_bar != 0).any(-2))
            x_bar = self.kept(x_bar) * self.scale
            u = self.pinv_adjoint(x_bar)
            b_bar = b_bar + u
            if with_a and self.wide:
                v = self.pinv_adjoint(x)
                of_a += [(v, x_bar - a.mH @ u), (-u, x)]
                of_z += [(r, u), (a @ x_bar, v)]
            elif with_a:
                w = self.pinv(u)
                of_a += [(r, w), (-u, x)]
                of_z += [(a.mH @ r, w), (x_bar, x)]
        if residuals_bar is not None:
            spoilt = spoilt | (self.lost & (residuals_bar != 0))
            r_bar = 2 * r * residuals_bar.masked_fill(self.lost, 0)[..., None, :]
            b_bar = b_bar + r_bar
            if self.wide:
                of_z += [(-r_bar, a @ x)]
            else:
                of_a += [(-r_bar, x)]
                of_z += [(-a.mH @ r_bar, x)]
        b_bar = _nan_where(spoilt[..., None, :], b_bar)
        if not with_a:
            return None, b_bar
        m_bar = _twice_hermitian(self.turn(_products(of_z)))
        m_bar = _nan_where(spoilt.any(-1)[..., None, None], m_bar)  # Small, and it spoils all of Ā.
        a_bar = m_bar @ a if self.wide else a @ m_bar
        if of_a:
            a_bar = a_bar + _products(of_a)
        return a_bar * self.scale, b_bar

    def push_forward(self, da: Maybe, db: Maybe) -> tuple[Tensor, Tensor]:
        """The tangents of `x` and the residuals."""
        a, x, r = self.a, self.x, self.r
        db = torch.zeros_like(r) if db is None else self.kept(db)
        da = None if da is None else da.masked_fill(self.lost.all(-1)[..., None, None], 0) * self.scale
        if da is None:
            dx, d_residuals = self.pinv(db), _real_dot(r, db)
        elif self.wide:
            z = self.turn(_twice_hermitian(a @ da.mH))
            v = self.pinv_adjoint(x)
            turned = da.mH @ v
            moved = db - da @ x + z.mH @ r - a @ turned
            dx = self.pinv(moved) + turned + a.mH @ (z @ v)
            d_residuals = _real_dot(r, db - z @ (a @ x))
        else:
            z = self.turn(_twice_hermitian(a.mH @ da))
            gradient, turned = a.mH @ r, z @ x
            moved = db - da @ x
            dx = self.pinv(moved + self.pinv_adjoint(da.mH @ r + z.mH @ gradient)) + turned
            d_residuals = _real_dot(r, moved) - _real_dot(gradient, turned)
        return _nan_where(self.lost[..., None, :], dx * self.scale), _nan_where(self.lost, 2 * d_residuals)


def _vectors(a: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which matrices have no answer, and the left and right singular vectors of the others."""
    lost = s.isnan().any(-1)
    a = a.masked_fill(lost[..., None, None], 0)
    wide = a.shape[-2] < a.shape[-1]
    u, _, v = ops.singular_vectors(a.mH if wide else a)
    return lost, *((v, u) if wide else (u, v))


def _pull_back_values(a: Tensor, s: Tensor, s_bar: Tensor) -> Tensor:
    lost, u, v = _vectors(a, s)
    weights = s_bar.masked_fill(lost[..., None], 0)
    a_bar = (u * weights[..., None, :]) @ v.mH
    return _nan_where((lost & (s_bar != 0).any(-1))[..., None, None], a_bar)


def _push_forward_values(a: Tensor, s: Tensor, da: Tensor) -> Tensor:
    lost, u, v = _vectors(a, s)
    return _nan_where(lost[..., None], _real_dot(u, da.masked_fill(lost[..., None, None], 0) @ v))


class _Rotation(Function):  # type: ignore[misc]
    @staticmethod
    def forward(a: Tensor, c: Tensor, rank: Tensor, modes: Modes) -> Any:
        with _recording(modes), torch._C._AutoDispatchBelowAutograd():
            return ops.rotation(a, c, rank)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        a, c, rank, ctx.modes = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(a, c, rank, output)
        ctx.save_for_forward(a, c, rank, output)

    @staticmethod
    def backward(ctx: Any, z_bar: Maybe) -> Any:
        a, c, rank, z = ctx.saved_tensors
        if z_bar is None:
            return None, None, None, None
        y = ops.rotation(a, z_bar, rank)
        a_bar = None
        if ctx.needs_input_grad[0]:
            m_bar = _commutator(y, z.mH)
            m_bar = m_bar + ops.rotation(a, _commutator(c.mH, y) + _commutator(z_bar.mH, z), rank)
            a_bar = _sum_to(a @ _twice_hermitian(m_bar), a.shape)
        return a_bar, _sum_to(y, c.shape), None, None

    @staticmethod
    def jvp(ctx: Any, da: Maybe, dc: Maybe, *_: Any) -> Any:
        with _recording(ctx.modes):
            a, c, rank, z = _primals(ctx)
            inside = torch.zeros_like(c) if dc is None else dc
            if da is None:
                return ops.rotation(a, inside, rank)
            dm = _twice_hermitian(a.mH @ da)
            w = ops.rotation(a, dm, rank)
            return ops.rotation(a, inside + _commutator(dm, z) + _commutator(c, w), rank) + _commutator(z, w.mH)


class _SingularVectors(Function):  # type: ignore[misc]
    @staticmethod
    def forward(a: Tensor, modes: Modes) -> Any:
        with _recording(modes), torch._C._AutoDispatchBelowAutograd():
            return ops.singular_vectors(a)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.modes = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output)
        ctx.save_for_forward(*output)

    @staticmethod
    def backward(ctx: Any, u_bar: Maybe, s_bar: Maybe, v_bar: Maybe) -> Any:
        u, s, v = ctx.saved_tensors
        u_bar = torch.zeros_like(u) if u_bar is None else u_bar
        v_bar = torch.zeros_like(v) if v_bar is None else v_bar
        together, apart, inverse = _quotients(s)
        of_u, of_v = u.mH @ u_bar, v.mH @ v_bar
        hermitian, skew = together * (of_u + of_v), apart * (of_u - of_v)
        outside = u_bar * inverse
        t_bar = (hermitian + hermitian.mH + skew - skew.mH) / 2 - u.mH @ outside
        if s_bar is not None:
            t_bar = t_bar + torch.diag_embed(s_bar)
        return (u @ t_bar + outside) @ v.mH, None

    @staticmethod
    def jvp(ctx: Any, da: Tensor, _: Any) -> Any:
        with _recording(ctx.modes):
            u, s, v = _primals(ctx)
            together, apart, inverse = _quotients(s)
            da_v = da @ v
            t = u.mH @ da_v
            hermitian, skew = together * (t + t.mH) / 2, apart * (t - t.mH) / 2
            du = u @ (hermitian + skew) + (da_v - u @ t) * inverse
            return du, t.diagonal(dim1=-2, dim2=-1).real, v @ (hermitian - skew)


def _quotients(s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One over ``sj − si``, ``sj + si`` and ``sj``, for rows i and columns j; zero where those are zero or noise."""
    noise = NOISE * s.shape[-1] * torch.finfo(s.dtype).eps * s[..., :1, None]
    i, j = s[..., :, None], s[..., None, :]

    def one_over(divisor: Tensor) -> Tensor:
        small = divisor.abs() <= noise
        return (1 / divisor.masked_fill(small, 1)).masked_fill(small, 0)

    return one_over(j - i), one_over(j + i), one_over(j)


def _products(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The sum of all ``p qᴴ``, as one product."""
    left, right = zip(*pairs)
    return torch.cat(left, -1) @ torch.cat(right, -1).mH


def _commutator(x: Tensor, y: Tensor) -> Tensor:
    return x @ y - y @ x


def _twice_hermitian(x: Tensor) -> Tensor:
    return x + x.mH


def _real_dot(p: Tensor, q: Tensor) -> Tensor:
    """``Re pᴴ q``, column by column."""
    product = p.conj() * q
    return (product.real if product.is_complex() else product).sum(-2)


def _sum(one: Maybe, other: Tensor) -> Tensor:
    return other if one is None else one + other


def _sum_to(tensor: Tensor, shape: torch.Size) -> Tensor:
    """Undoes that dimensions of this shape were repeated."""
    more = tensor.ndim - len(shape)
    repeated = [more + i for i, size in enumerate(shape) if size == 1 and tensor.shape[more + i] != 1]
    if repeated:
        tensor = tensor.sum(repeated, keepdim=True)
    return tensor.sum(tuple(range(more))) if more else tensor


def _nan_where(lost: Tensor, tensor: Tensor) -> Tensor:
    if tensor.is_complex():  # Both parts. The code that torch generates has no name for such a constant.
        return torch.complex(_nan_where(lost, tensor.real), _nan_where(lost, tensor.imag))
    return tensor.masked_fill(lost, float("nan"))


def _is_differentiated(*tensors: Tensor) -> bool:
    for tensor in tensors:
        if tensor.requires_grad and torch.is_grad_enabled():
            return True
    # In a compiled program that transforms, the level stays -1.
    may_have_tangents = forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()
    return may_have_tangents and any(_dual(tensor).tangent is not None for tensor in tensors)


def _record(function: Any, *arguments: Any) -> Any:
    # `Function` has a way of its own into the transformations of `torch.func`. Here each of them comes by itself, since
    # it meets an operation, and the class that `Function` derives from records for one.
    with enable_single_level_autograd_function():
        return super(Function, function).apply(*arguments, (torch.is_grad_enabled(), forward_ad._is_fwd_grad_enabled()))


def _solve_rule(a: Tensor, b: Tensor, rcond: float, driver: str, with_s: bool) -> Any:
    if not _is_differentiated(a, b):
        with torch._C._AutoDispatchBelowAutograd():
            return ops.solve(a, b, rcond, driver, with_s)
    # In double precision, in which neither autocast nor TF32 has a part; what was rounded is not differentiated.
    double = a.dtype if a.device.type == "mps" else torch.promote_types(a.dtype, torch.float64)
    x, residuals, rank, s = _record(_Solve, a.to(double), b.to(double), rcond, driver, with_s)
    real = a.dtype.to_real()
    return x.to(a.dtype), residuals.to(real), rank, s.to(real)


def _rotation_rule(a: Tensor, c: Tensor, rank: Tensor) -> Any:
    if _is_differentiated(a, c):
        return _record(_Rotation, a, c, rank)
    with torch._C._AutoDispatchBelowAutograd():
        return ops.rotation(a, c, rank)


def _singular_vectors_rule(a: Tensor) -> Any:
    if _is_differentiated(a):
        return _record(_SingularVectors, a)
    with torch._C._AutoDispatchBelowAutograd():
        return ops.singular_vectors(a)


ops.on_autograd("solve", _solve_rule)
ops.on_autograd("rotation", _rotation_rule)
ops.on_autograd("singular_vectors", _singular_vectors_rule)
