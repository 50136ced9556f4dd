"""The operations that solutions and their derivatives are made of, as torch knows them: one node of a graph each.

Of each torch knows the shapes of the results, by which it compiles, exports and takes tensors without numbers, and how
it is mapped (`vmap`). The derivatives are in `_gradient`.

``solve(a, b, rcond, driver, with_s)``
    ``x, residuals, rank, s`` of ``a (..., M, N)`` and ``b (..., M, K)``; `s` is ``(..., 0)`` where it is not wanted.
``rotation(a, c, rank)``
    The map S of `_gradient` for ``a (..., M, N)`` with ``M >= N``. `c` may have more batch dimensions than `a`.
``singular_vectors(a)``
    The left singular vectors, the values and the right vectors of ``a (..., M, N)`` with ``M >= N``.

Each takes finite numbers alone, but for `solve`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lstsq_array_api import _lacking as lacking
from lstsq_torch import _solve

#: What `torch.library.register_vmap` returns: results, and where their mapped dimensions are.
Mapped = tuple[Any, Any]

_library = torch.library.Library("lstsq_torch", "DEF")
# Each waits for the device, to see which matrices are deficient: a CUDA graph cannot do that.
for _schema in (
    "solve(Tensor a, Tensor b, float rcond, str driver, bool with_s) -> (Tensor, Tensor, Tensor, Tensor)",
    "rotation(Tensor a, Tensor c, Tensor rank) -> Tensor",
    "singular_vectors(Tensor a) -> (Tensor, Tensor, Tensor)",
):
    _library.define(_schema, tags=(torch.Tag.pt2_compliant_tag, torch.Tag.cudagraph_unsafe))

solve = torch.ops.lstsq_torch.solve.default
rotation = torch.ops.lstsq_torch.rotation.default
singular_vectors = torch.ops.lstsq_torch.singular_vectors.default


def on_autograd(name: str, rule: Any) -> None:
    """Let `rule` answer wherever torch may record a derivative, at each level of a nest of transformations."""
    _library.impl(name, rule, "Autograd")


def _solve_numbers(a: Tensor, b: Tensor, rcond: float, driver: str, with_s: bool) -> tuple[Tensor, ...]:
    x, residuals, rank, s = _solve.solve(a.detach(), b.detach(), rcond, driver, with_s)
    if s is None or not with_s:
        s = residuals.new_empty((*rank.shape, 0))
    return _plain(x, residuals, rank, s)


def _solve_shapes(a: Tensor, b: Tensor, rcond: float, driver: str, with_s: bool) -> tuple[Tensor, ...]:
    batch, (m, n), k = a.shape[:-2], a.shape[-2:], b.shape[-1]
    real = a.dtype.to_real()
    return (
        a.new_empty((*batch, n, k)),
        a.new_empty((*batch, k), dtype=real),
        a.new_empty(batch, dtype=torch.int32),
        a.new_empty((*batch, min(m, n) if with_s else 0), dtype=real),
    )


def _solve_mapped(
    info: Any, places: tuple[int | None, ...], a: Tensor, b: Tensor, rcond: float, driver: str, with_s: bool
) -> Mapped:
    place_a, place_b = places[:2]
    if place_a is None:
        # One matrix: the right-hand sides of all go side by side, and it is factorised once.
        columns = b.movedim(place_b, -1)
        x, residuals, rank, s = solve(a, columns.flatten(-2), rcond, driver, with_s)
        apart = columns.shape[-2:]
        x, residuals = x.unflatten(-1, apart), residuals.unflatten(-1, apart)
        return (x, residuals, rank, s), (x.ndim - 1, residuals.ndim - 1, None, None)
    a, b = _first(a, place_a, info.batch_size), _first(b, place_b, info.batch_size)
    return solve(a, b, rcond, driver, with_s), (0, 0, 0, 0)


def _rotation_numbers(a: Tensor, c: Tensor, rank: Tensor) -> Tensor:
    n = a.shape[-1]
    z = c.new_zeros((*torch.broadcast_shapes(a.shape[:-2], c.shape[:-2]), n, n))
    if bool(((rank == n) | (rank == 0)).all()):
        return z  # All directions are in one set: none turns into the other.
    _, s, v = _factors(a.detach())
    keep = torch.arange(n, device=a.device) < rank[..., None]
    in_block = ~keep[..., :, None] & keep[..., None, :]
    i, j = s[..., None, :], s[..., :, None]
    in_basis = v.mH @ c.detach() @ v
    for factor in (i - j, i + j):  # One after the other: their product may be beyond the range.
        in_basis = in_basis / torch.where(in_block, factor, 1.0)
    return z + v @ in_basis.masked_fill(~in_block, 0) @ v.mH


def _rotation_shapes(a: Tensor, c: Tensor, rank: Tensor) -> Tensor:
    return c.new_empty((*torch.broadcast_shapes(a.shape[:-2], c.shape[:-2]), *c.shape[-2:]))


def _rotation_mapped(info: Any, places: tuple[int | None, ...], a: Tensor, c: Tensor, rank: Tensor) -> Mapped:
    place_a, place_c, place_rank = places
    if place_a is None and place_rank is None:
        return rotation(a, c.movedim(place_c, 0), rank), 0
    a, c, rank = (_first(t, place, info.batch_size) for t, place in zip((a, c, rank), places))
    more = (slice(None), *[None] * (c.ndim - a.ndim))
    return rotation(a[more], c, rank[more]), 0


def _singular_vectors_numbers(a: Tensor) -> tuple[Tensor, ...]:
    return _plain(*_factors(a.detach()))


def _singular_vectors_shapes(a: Tensor) -> tuple[Tensor, ...]:
    batch, n = a.shape[:-2], a.shape[-1]
    return a.new_empty(a.shape), a.new_empty((*batch, n), dtype=a.dtype.to_real()), a.new_empty((*batch, n, n))


def _singular_vectors_mapped(info: Any, places: tuple[int | None, ...], a: Tensor) -> Mapped:
    return singular_vectors(_first(a, places[0], info.batch_size)), (0, 0, 0)


def _factors(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, s and V of ``a = U diag(s) Vᴴ``, ``M >= N``."""
    if a.shape[-2] >= 2 * a.shape[-1]:
        q, triangle = torch.linalg.qr(a)  # The SVD then works on N x N matrices.
        u, s, vh = lacking.svd(torch, triangle)
        return q @ u, s, vh.mH
    u, s, vh = lacking.svd(torch, a)
    return u, s, vh.mH


def _plain(*results: Tensor) -> tuple[Tensor, ...]:
    """The results in memory as a compiled program expects them: as the tensors without numbers are."""
    return tuple(result.resolve_conj().contiguous() for result in results)


def _first(tensor: Tensor, place: int | None, size: int) -> Tensor:
    """The tensor with its mapped dimension first, which one that is not mapped gets."""
    return tensor.expand(size, *tensor.shape) if place is None else tensor.movedim(place, 0)


for _name, _numbers, _shapes, _mapped in (
    ("solve", _solve_numbers, _solve_shapes, _solve_mapped),
    ("rotation", _rotation_numbers, _rotation_shapes, _rotation_mapped),
    ("singular_vectors", _singular_vectors_numbers, _singular_vectors_shapes, _singular_vectors_mapped),
):
    _library.impl(_name, _numbers, "CompositeExplicitAutograd")
    torch.library.register_fake(f"lstsq_torch::{_name}", _shapes, lib=_library)
    torch.library.register_vmap(f"lstsq_torch::{_name}", _mapped, lib=_library)
