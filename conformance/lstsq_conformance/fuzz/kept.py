"""What failed, as files: one problem each, which the next run tries first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lstsq_conformance.fuzz.problems import Group
from lstsq_conformance.reference import NumpyArray


def keep(folder: Path, group: Group, about: dict[str, Any]) -> Path:
    """Write the problem and what is known about its failure; the name depends on the problem alone."""
    content = {**about, "dtype": group.dtype, "rcond": group.rcond, "a": _plain(group.a), "b": _plain(group.b)}
    digest = hashlib.sha256(repr([content[key] for key in ("dtype", "rcond", "a", "b")]).encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{digest}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def kept(folder: Path) -> Iterator[tuple[Path, Group]]:
    """Every problem of the folder."""
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        a, b = (_array(content[name], content["dtype"]) for name in ("a", "b"))
        yield path, Group(a, b, content["rcond"])


def _plain(array: NumpyArray) -> Any:
    if np.iscomplexobj(array):
        return {"real": array.real.astype(float).tolist(), "imag": array.imag.astype(float).tolist()}
    return array.astype(float).tolist()


def _array(plain: Any, dtype: str) -> NumpyArray:
    if isinstance(plain, dict):
        real, imaginary = np.array(plain["real"]), np.array(plain["imag"])
        whole = np.empty(real.shape, complex)
        whole.real, whole.imag = real, imaginary
        return whole.astype(dtype)
    return np.array(plain, float).astype(dtype)
