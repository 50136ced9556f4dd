"""Writes the support table of contract.md from what the backends claim; a test fails if it is stale.

Run it with ``nox -s lint -- table``.
"""

from __future__ import annotations

from pathlib import Path

import lstsq
from lstsq import Backend

PAGE = Path(__file__).with_name("contract.md")
BEGIN, END = "<!-- support table: written by docs/support_table.py -->", "<!-- end of support table -->"

BACKENDS = ("numpy", "native", "jax", "torch", "mlx", "dask", "array_api")
DTYPES = ("float32", "float64", "complex64", "complex128")
TRANSFORMS = ("jit", "vmap", "grad", "vjp", "jvp", "jacfwd", "jacrev", "checkpoint")


def render() -> str:
    """The table in Markdown: a column for each backend, a row for each claim."""
    columns = [column(lstsq.get_backend(name)) for name in BACKENDS]
    labels = list(columns[0])
    lines = [["", *(f"`{name}`" for name in BACKENDS)], ["---"] * (len(BACKENDS) + 1)]
    lines += [[label, *(cells[label] for cells in columns)] for label in labels]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def column(backend: Backend) -> dict[str, str]:
    """The claims of one backend, by the label of their row."""
    claims = backend.capabilities
    return {
        "arrays of": "any other library" if "*" in backend.serves else backend.serves[0],
        "drivers, the default first": ", ".join(f"`{driver}`" for driver in claims.all_drivers),
        **{dtype: arithmetic(backend, dtype) for dtype in DTYPES},
        "batches": yes(claims.batches),
        "`factorize`": "yes" if claims.factorizes is None else ", ".join(claims.factorizes),
        "devices": ", ".join(claims.devices),
        **{f"`{name}`": yes(name in claims.transforms) for name in TRANSFORMS},
        "traced `rcond`": yes(claims.traced_rcond),
        "NaN or inf in `a`": {"raises": "LinAlgError", "nan": "NaN there"}[claims.nonfinite],
    }


def arithmetic(backend: Backend, dtype: str) -> str:
    """Whether it takes this dtype, and in which arithmetic."""
    claims = backend.capabilities
    return "yes, in double" if dtype in claims.solved_in_double else yes(dtype in claims.dtypes)


def yes(claim: bool) -> str:
    """A claim, or nothing."""
    return "yes" if claim else ""


def replace(text: str) -> str:
    """The text with its support table made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{render()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(replace(PAGE.read_text()))
