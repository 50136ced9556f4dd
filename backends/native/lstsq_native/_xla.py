"""What XLA's foreign function interface calls: for the driver ``native`` of the jax backend."""

from __future__ import annotations

from typing import Any

from lstsq_native._backend import core


def handler() -> Any:
    """The function that XLA calls on the CPU, in a capsule for `jax.ffi.register_ffi_target`.

    Raises
    ------
    ImportError
        If the compiled core cannot be loaded, or was built where there was no JAX.
    """
    try:
        return core().xla_handler()
    except AttributeError as error:
        raise ImportError(
            "the compiled core of lstsq-native was built without JAX's headers; from a clone of the project, run "
            "`pip install --force-reinstall . ./backends/native`, which brings them"
        ) from error
