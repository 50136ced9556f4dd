"""Puts a function of another library in the place of the backend that the suite proves: a pytest plugin.

Loaded by ``-p lstsq_cli.conformance.peer_target`` with ``--lstsq-peer LABEL`` in the process that runs the suite. The
function is called as it is, without anything of ours around it. Rows about our own options, names and errors are left
out. Where it does not give a part of the answer, a test of the rows that this part is in fails, and others that look at
it are skipped.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NoReturn

import pytest

import lstsq
from lstsq import Backend, Capabilities
from lstsq_cli import peers
from lstsq_cli.peers import Array, Peer
from lstsq_conformance.plugin import SUITE
from lstsq_conformance.ratios import Answer
from lstsq_conformance.target import Target

#: Rows that a function of another library is not asked for: they are about backends, and about what ours is called.
LEFT_OUT = ("namespaces", "rows in blocks", "drivers", "errors")
#: Tests about the type of our result.
_OURS = ("test_result_is_a_named_tuple_in_numpys_order", "test_result_answers_to_torchs_names")
#: Each solves a hundred problems, which a library that plans every one of them takes minutes for.
_MANY = "test_properties.py"
#: The rows that a part of the answer is in: without it they are not kept.
_ROWS_OF = {
    "residuals": ("shapes", "residuals", "empty"),
    "rank": ("shapes", "cutoff", "empty"),
    "s": ("shapes", "singular values", "empty"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    group = parser.getgroup("lstsq")
    group.addoption("--lstsq-peer", metavar="LABEL", help="the function to hold to the contract")
    group.addoption("--lstsq-left-out", metavar="FILE", help="names of tests, or of all of one function, not to run")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Bring in the suite with this target."""
    label = config.getoption("lstsq_peer")
    if label:
        from lstsq_conformance.generation import Suite

        peer = peers.find(label)
        dtypes = tuple(config.getoption("lstsq_dtype") or peer.dtypes)
        config.pluginmanager.register(Suite(config, PeerTarget(peer, dtypes)), SUITE)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about us, and what is named."""
    file = config.getoption("lstsq_left_out")
    left_out = set(Path(file).read_text(encoding="utf-8").splitlines()) if file else set()
    kept = []
    for item in items:
        properties = dict(item.user_properties)
        name = str(properties.get("lstsq_test", ""))
        ours = properties.get("contract_row") in LEFT_OUT or item.name.partition("[")[0] in _OURS
        if not ours and item.path.name != _MANY and not {name, name.partition("[")[0]} & left_out:
            kept.append(item)
    items[:] = kept


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember which row is tested."""
    _Missing.row = str(dict(item.user_properties).get("contract_row", ""))


class _Missing:
    """A part of the answer that is not there: any use of it ends the test."""

    row = ""

    def __init__(self, part: str, label: str):
        self._part, self._label = part, label

    def end(self) -> NoReturn:
        """Fail the test where this part is what it is about, else skip it."""
        message = f"{self._label} gives no {self._part} here"
        if self.row in _ROWS_OF[self._part]:
            pytest.fail(message, pytrace=False)
        pytest.skip(message)

    def _ended(self, *arguments: Any, **options: Any) -> NoReturn:
        self.end()

    def __getattr__(self, name: str) -> NoReturn:
        self.end()

    __array__ = __int__ = __getitem__ = __iter__ = __len__ = _ended
    __lt__ = __le__ = __gt__ = __ge__ = __mul__ = __rmul__ = __sub__ = __rsub__ = _ended


class _Result:
    """What the function gave, under the names of the contract."""

    def __init__(self, label: str, parts: dict[str, Array | None], expected: dict[str, int]):
        self._label, self._parts, self._expected = label, parts, expected

    def part(self, name: str) -> Any:
        """An array, or what ends the test when it is used."""
        found = self._parts[name]
        # What a function leaves out it often gives as an array of no numbers.
        if found is None or (_size(found) == 0 and self._expected[name] > 0):
            return _Missing(name, self._label)
        if name == "residuals" and found.shape == () and _Missing.row not in _ROWS_OF[name]:
            return found.reshape(1)  # SciPy's, of a vector: it is counted once, where its shape is what is asked.
        return found

    def __getattr__(self, name: str) -> Array:
        found = self.part(name)
        if isinstance(found, _Missing):
            found.end()
        return found

    def __iter__(self) -> Any:
        return (getattr(self, name) for name in self._parts)

    def _asdict(self) -> dict[str, Any]:
        return {name: self.part(name) for name in self._parts}


def _size(array: Any) -> int:
    return math.prod(getattr(array, "shape", ()))


class PeerTarget(Target):
    """The function in the place of `lstsq.lstsq`."""

    def __init__(self, peer: Peer, dtypes: tuple[str, ...]):
        self._peer, self._function = peer, peer.load()
        super().__init__(_backend(peer), peer.namespace, (peer.method,), dtypes)

    def lstsq(self, a: Array, b: Array, rcond: float | None = None, driver: str | None = None, **options: Any) -> Any:
        """The function, called as its users do."""
        if options:
            pytest.skip(f"{', '.join(options)}: an option of ours")
        found = self._function(a, b, rcond if self._peer.cutoff else None)
        batch, (m, n) = math.prod(a.shape[:-2]), a.shape[-2:]
        sides = b.shape[-1] if len(b.shape) > 1 else 1
        expected = {"x": 0, "residuals": batch * sides, "rank": batch, "s": batch * min(m, n)}
        return _Result(self._peer.label, found._asdict(), expected)

    def to_answer(self, result: Any) -> Answer:
        """The parts as NumPy arrays; those that are not there end the test when it looks at them."""
        parts: list[Any] = [result.part(name) for name in Answer._fields] if isinstance(result, _Result) else [*result]
        # A missing part is no array on purpose: whoever looks at it ends the test.
        found: list[Any] = [part if isinstance(part, _Missing) else self.numpy(part) for part in parts]
        return Answer(*found)


def _backend(peer: Peer) -> Backend:
    """Our backend that converts to the arrays of this function, with the claims of its documentation."""
    host = type(lstsq.get_backend(peer.host))
    claims = Capabilities(
        drivers=(peer.method,),
        default_driver=peer.method,
        dtypes=peer.dtypes,
        devices=peer.devices,
        transforms=peer.transforms,
        nonfinite="raises" if peer.host in ("numpy", "dask") else "nan",
        solved_in_double=peer.in_double,
        batches=peer.batches,
    )
    made = type("PeerBackend", (host,), {"name": peer.label, "capabilities": claims, "refuse": Backend.refuse})
    backend: Backend = made()
    return backend
