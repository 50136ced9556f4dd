"""The only way anything is run here: ``nox`` is what CI runs, ``nox -l`` lists all.

A word after ``--`` says which kind of run is meant, where a session has several: ``nox -s native -- sanitize``. What
follows is for the tool that is run. ``-P 3.14`` runs a session on another Python.

Both distributions are built as they would be released (an sdist, and a wheel from that sdist), once for each state of
their sources, and every session installs these wheels: what is tested is what would be shipped.

Everything else is installed at the releases in constraints.txt, so that a session does today what it did yesterday;
``nox -s tests -- newest`` does without it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv"

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]

#: What each distribution is made of: its folder, and the files that a new build depends on.
DISTRIBUTIONS = {
    ".": ["pyproject.toml", "README.md", "LICENSE", "lstsq", "backends/lstsq_*", "conformance", "cli"],
    "backends/native": [f"backends/native/{part}" for part in ("*.toml", "*.txt", "*.md", "LICENSE", "lstsq_*", "src")],
}
SHIPPED = [
    "lstsq",
    "backends/lstsq_numpy",
    "backends/lstsq_jax",
    "backends/lstsq_array_api",
    "backends/lstsq_torch",
    "backends/lstsq_dask",
    "backends/native/lstsq_mlx",
    "backends/native/lstsq_native",
    "conformance/lstsq_conformance",
    "cli/lstsq_cli",
]

#: The backends that the suite is run on, the slowest first, and the library whose arrays it uses there.
NAMESPACES = {
    "jax": "jax",
    "array_api": "array_api_strict",
    "native": "numpy",
    "mlx": "mlx",
    "numpy": "numpy",
    "dask": "dask",
}

#: The tests that do more where torch is installed.
WITH_TORCH = [
    f"tests/test_{name}.py"
    for name in ("backend_torch", "backend_array_api", "benchmarks", "cli", "frontend", "linear_regression", "readme")
]

KERNEL_TESTS = "backends/native/tests/kernels"

#: The tests of other libraries that call their `lstsq` or `pinv`: these, where the library installs its tests.
CLIENTS = {
    "numpy": [
        "numpy.linalg.tests.test_linalg::TestLstsq",
        "numpy.linalg.tests.test_linalg::TestPinv",
        "numpy.linalg.tests.test_linalg::TestPinvHermitian",
        "numpy.matrixlib.tests.test_matrix_linalg",
        "numpy.polynomial",
        "numpy.ma",
    ],
    "astropy": ["astropy.modeling.tests.test_fitters"],
    "jax": [],
}

#: One process of tests for each core, and in it no threads of BLAS, which would be in each other's way.
PARALLEL = ["-n", "auto", "--dist", "loadgroup"]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "VECLIB_MAXIMUM_THREADS": "1"}
#: Almost all of the time of JAX's tests is XLA's, which compiles for each shape and dtype. What its optimisations do to
#: the answers is seen by ``tests -- machines`` and ``-- newest``, which have them.
FEW_OPTIMISATIONS = {**ONE_THREAD, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
MANY_THREADS = {**dict.fromkeys(ONE_THREAD, "4"), "LSTSQ_NUM_THREADS": "4"}

#: The instruction sets of our kernels, the processors that OpenBLAS has kernels for, and threads: each of them once.
MACHINES = [
    {"LSTSQ_ISA": "baseline", "OPENBLAS_CORETYPE": "Haswell", **ONE_THREAD},
    {"LSTSQ_ISA": "avx2", "OPENBLAS_CORETYPE": "SkylakeX", **ONE_THREAD},
    {"LSTSQ_ISA": "avx512", "OPENBLAS_CORETYPE": "Haswell", **MANY_THREADS},
    {"LSTSQ_ISA": "avx512", "OPENBLAS_CORETYPE": "SkylakeX", **MANY_THREADS},
]

# Every session runs on an interpreter that is already there.
os.environ["UV_PYTHON_DOWNLOADS"] = "never"

# Images of containers set this, to be small. Here each of the many processes would compile all that it imports anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# As an address, since uv and pip take several files with spaces between them.
CONSTRAINTS = Path("constraints.txt").resolve()
CONSTRAINED = ("UV_CONSTRAINT", "UV_BUILD_CONSTRAINT", "PIP_CONSTRAINT")
os.environ.update(dict.fromkeys(CONSTRAINED, CONSTRAINTS.as_uri()))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style; `-- --fix` mends it. Also `-- table`, `-- peers`, `-- constraints`: these write what is generated.

    The table of backends is in docs/contract.md, that of the functions that people use in docs/comparison.md (it takes
    some minutes). What holds every release where it is, is constraints.txt.
    """
    match kind(session, "style", "table", "peers", "constraints"):
        case "style":
            check_style(session)
        case "table":
            install(session)
            session.run("python", "docs/support_table.py")
        case "peers":
            install(session, "test", "peers")
            install_torch(session)
            session.run("python", "docs/peers_table.py", env=ONE_THREAD)
        case "constraints":
            write_constraints(session)


def check_style(session: nox.Session) -> None:
    session.install(*group("lint"))
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *(["--fix"] if fix else []))
    session.run("ruff", "format", *([] if fix else ["--check"]))
    cpp = [
        str(path) for path in sorted(Path("backends/native/src").rglob("*")) if path.suffix in (".cpp", ".h", ".hpp")
    ]
    cuda = [*map(str, Path("backends/lstsq_array_api/kernels").iterdir()), "tests/cuda_on_cpu.h"]
    style = ["--style=file:backends/native/.clang-format", *(["-i"] if fix else ["--dry-run", "-Werror"])]
    session.run("clang-format", *style, *cpp, *cuda)
    workflows = map(str, sorted(Path(".github/workflows").iterdir()))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)


def write_constraints(session: nox.Session) -> None:
    """The newest releases that all of this can be installed with, on every Python."""
    wanted = list(group(*PYPROJECT["dependency-groups"]))
    for folder in DISTRIBUTIONS:
        pyproject = nox.project.load_toml(f"{folder}/pyproject.toml")
        wanted += pyproject["build-system"]["requires"] + pyproject["project"]["dependencies"]
        wanted += itertools.chain(*pyproject["project"].get("optional-dependencies", {}).values())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "requirements.in")
        file.write_text("\n".join(line for line in wanted if not line.startswith("lstsq")))
        options = ["--universal", "--python-version", PYTHONS[0], "--no-annotate", "--upgrade"]
        options += ["--custom-compile-command", "nox -s lint -- constraints", "--output-file", CONSTRAINTS.name]
        session.run("uv", "pip", "compile", *options, str(file), silent=True, env=dict.fromkeys(CONSTRAINED))


@nox.session
def types(session: nox.Session) -> None:
    """Check types: mypy, strict, over everything that is shipped and this file."""
    install(session, "test", "types")
    checked = [*SHIPPED, "docs", "benchmarks", "clients", "examples/demo.py", "noxfile.py"]
    session.run("mypy", "--num-workers", "2", *checked)


@nox.session
def build(session: nox.Session) -> None:
    """Build both distributions in dist and try them; `-- wheels` makes this system's wheels as they are uploaded."""
    if kind(session, "distributions", "wheels") == "wheels":
        make_wheels(session)
    else:
        make_distributions(session)


def make_distributions(session: nox.Session) -> None:
    """Both, tried one after the other: the pure one in an empty environment, then the core, then MLX."""
    pure, native = wheel(session, "."), wheel(session, "backends/native")
    shutil.rmtree("dist", ignore_errors=True)
    for built in (pure, native):
        shutil.copytree(built.parent, "dist", dirs_exist_ok=True, ignore=shutil.ignore_patterns(".gitignore"))
    session.log("built: %s", ", ".join(sorted(path.name for path in Path("dist").iterdir())))
    session.chdir(session.create_tmp())
    session.install(str(pure))
    session.run("python", "-c", TRY.format(library="numpy", backend="numpy"))
    session.install(str(native))
    session.run("python", "-c", TRY.format(library="numpy", backend="native"))
    session.install(*group("mlx"))
    session.run("python", "-c", TRY.format(library="mlx.core", backend="mlx"))


TRY = """
import {library} as xp, lstsq
assert lstsq.explain(xp.ones((3, 2)), xp.ones(3)).backend == "{backend}", lstsq.backends()
x, residuals, rank, s = lstsq.lstsq(xp.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), xp.array([1.0, 3.0, 5.0]))
assert abs(x - xp.array([1.0, 2.0])).max() < 1e-6 and rank == 2 and residuals.shape == (1,), (x, residuals, rank, s)
print("lstsq", lstsq.__version__, "works on {library} from", lstsq.__file__)
"""


def make_wheels(session: nox.Session) -> None:
    """This system's wheels in dist/wheels, as they are uploaded, tried where there is no compiler."""
    session.install(*group("wheels"))
    pure, native = wheel(session, "."), wheel(session, "backends/native")
    aside = Path(session.create_tmp()).resolve()
    if sys.platform == "linux":
        # MLX's library comes with MLX: a second copy in our wheel would have arrays of its own.
        shutil.rmtree(aside / "repaired", ignore_errors=True)
        session.run(
            "auditwheel", "repair", "--exclude", "libmlx.so*", "--wheel-dir", str(aside / "repaired"), str(native)
        )
        (native,) = (aside / "repaired").glob("*.whl")
    session.run("uv", "venv", "-q", "--clear", "--python", f"{session.bin}/python", str(aside / "empty"))
    programs = aside / "empty" / ("Scripts" if sys.platform == "win32" else "bin")
    python = shutil.which("python", path=programs)
    install_there = ["uv", "pip", "install", "-q", "--only-binary=:all:", "--python", str(python)]
    session.run(*install_there, *group("mlx"))
    before = mlx_libraries(aside / "empty")
    session.run(*install_there, str(pure), str(native))
    if not before or mlx_libraries(aside / "empty") != before:
        session.error("MLX's library is not what it was before lstsq-native was installed")
    with session.chdir(aside):
        for library, backend in (("numpy", "native"), ("mlx.core", "mlx")):
            tried = TRY.format(library=library, backend=backend)
            session.run(str(python), "-c", tried, env={"PATH": str(programs)}, external=True)
    made = Path("dist", "wheels")
    made.mkdir(parents=True, exist_ok=True)
    for path in (pure, native):
        session.log("made: %s", shutil.copy2(path, made))


def mlx_libraries(environment: Path) -> dict[str, str]:
    """MLX's libraries in an environment, and the checksum of each."""
    files = [path for path in environment.rglob("*mlx.*") if path.suffix in (".so", ".dylib", ".dll", ".lib")]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """Solve real data on every backend and show the answers side by side; one of the examples."""
    install(session, "demo")
    session.run("python", "examples/demo.py", *session.posargs)


@nox.session
def examples(session: nox.Session) -> None:
    """Run every example: the scripts, the demo too, and a backend in a package of its own, by its README's command."""
    install(session, "cli", "demo")
    scripts = Path("examples").glob("*.py")
    # Two at a time, which is as many as every machine has cores for.
    with ThreadPoolExecutor(2) as pool:
        runs = [(path, pool.submit(session.run, "python", path, silent=True)) for path in map(str, sorted(scripts))]
        for path, run in runs:
            session.log("%s\n%s", path, run.result())
    session.run("python", "-m", "ensurepip", "--default-pip", silent=True)
    with tempfile.TemporaryDirectory() as elsewhere:
        package = shutil.copytree("examples/scipy_backend", Path(elsewhere, "scipy_backend"))
        _, _, rest = (package / "README.md").read_text().partition("```sh\n")
        with session.chdir(package):
            session.run("bash", "-c", rest.partition("```")[0], external=True)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into build/docs, with the plot of error against condition number; warnings are errors."""
    install(session, "cli", "docs")
    session.run("python", "benchmarks/accuracy.py", env=ONE_THREAD)
    session.run("python", "-m", "sphinx", "-W", "--keep-going", "-q", "docs", "build/docs")
    session.log("written: build/docs/index.html")


@nox.session
def conformance(session: nox.Session) -> None:
    """Hold backends to the contract, quickly; `-- mlx --full` one, in every case. Also `-- torch`, `-- fuzz`.

    `-- torch` is a large download. `-- fuzz` compares every driver with extended precision on random problems;
    `-- fuzz --help` lists its options.
    """
    install(session, "test")
    match kind(session, "suite", "torch", "fuzz"):
        case "suite":
            run_suite(session)
        case "torch":
            run_with_torch(session)
        case "fuzz":
            session.run("python", "-m", "lstsq_conformance.fuzz", *session.posargs, env=ONE_THREAD)


def run_suite(session: nox.Session) -> None:
    """For each backend that is named, or for all but dask, which its own tests hold to the main points."""
    named = [name for name in NAMESPACES if name in session.posargs]
    chosen = named or [name for name in NAMESPACES if name != "dask"]
    runs = [(name, NAMESPACES[name], x64) for name in chosen for x64 in ((True, False) if name == "jax" else (True,))]
    if named:
        for run in runs:
            run_conformance(session, *run)
        return
    # Each in one process, and two of these at a time: the tests are so many and so short that to hand them out to
    # processes takes as long as to run them.
    with ThreadPoolExecutor(2) as pool:
        for found in [pool.submit(run_conformance, session, *run, parallel=False) for run in runs]:
            session.log("%s", found.result())


def run_with_torch(session: nox.Session) -> None:
    """The torch backend, then array_api on torch; and the tests that want torch."""
    install_torch(session)
    for backend in ("torch", "array_api"):
        run_conformance(session, backend, "torch")
    session.run("pytest", *PARALLEL, *WITH_TORCH, env=ONE_THREAD)


def run_conformance(
    session: nox.Session, backend: str, namespace: str, x64: bool = True, parallel: bool = True
) -> object:
    """Run the suite once. `x64` is JAX's switch: without it there are no double precision arrays.

    Where it is not parallel, others run beside it: what it prints is given back as one.
    """
    quick = "--full" not in session.posargs
    options = ["--lstsq-backend", backend, "--lstsq-namespace", namespace, *(["--lstsq-quick"] if quick else [])]
    environment = {**ONE_THREAD, "JAX_ENABLE_X64": str(int(x64))}
    if backend == "jax":
        environment |= {**FEW_OPTIMISATIONS, "XLA_FLAGS": shortest_compilation(session)}
    if backend == "dask":
        # The smallest chunks, so that small problems have several.
        environment |= {"DASK_ARRAY__CHUNK_SIZE": "256B", "DASK_SCHEDULER": "synchronous"}
        options += ["--lstsq-xfail", "tests/dask_known_failures.txt", *(["--lstsq-dtype", "float64"] if quick else [])]
    if backend == "jax" and quick:
        # One dtype on each side of the switch is enough for a quick look, and of the costly tests one side. The driver
        # native is the backend native's core, behind a door that tests/test_jax_native.py holds to it.
        side = ["float64"] if x64 else ["float32", "-m", "not costly"]
        options += ["--lstsq-driver", "svd"]
        options += ["--lstsq-dtype", *side]
    elif backend == "array_api" and quick:
        # Its arithmetic is the same in all dtypes, and the namespace that is strict is slow.
        options += ["--lstsq-dtype", "float64", "--lstsq-dtype", "complex64"]
    elif not x64:
        options += ["--lstsq-dtype", "float32", "--lstsq-dtype", "complex64"]
    options += [option for option in session.posargs if option not in ("--full", *NAMESPACES)]
    with tempfile.TemporaryDirectory() as compiled:
        # For JAX: what one process has compiled, the others need not, nor it itself when it had to make room.
        environment |= {"JAX_COMPILATION_CACHE_DIR": compiled, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        command = ["pytest", *(PARALLEL if parallel else []), "--pyargs", "lstsq_conformance", *options]
        return session.run(*command, env=environment, silent=not parallel)


@functools.cache
def shortest_compilation(session: nox.Session) -> str:
    """What has XLA generate code in half the time, if this release has the switches; of an unknown one it dies."""
    flags = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    try_it = ["python", "-c", "import jax; jax.devices(); print('accepted')"]
    said = session.run(*try_it, env={"XLA_FLAGS": flags}, silent=True, success_codes=[0, -signal.SIGABRT])
    return flags if "accepted" in str(said) else ""


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, and the examples in docstrings. Also `-- machines`, `-- newest`, `-- clients`.

    `-- machines` runs them as on other machines, `-- newest` with the newest releases of all libraries, `-- clients`
    those of NumPy, astropy and JAX with our function in the place of theirs.
    """
    match kind(session, "ours", "machines", "newest", "clients"):
        case "ours":
            run_tests(session)
        case "machines":
            run_as_on_machines(session)
        case "newest":
            run_with_newest(session)
        case "clients":
            install(session, "test", "clients")
            for client in [name for name in CLIENTS if name in session.posargs] or list(CLIENTS):
                run_client(session, client)


def run_tests(session: nox.Session, environment: Mapping[str, str] = FEW_OPTIMISATIONS) -> None:
    install(session, "test")
    # The suite's own modules want --lstsq-backend: that is the session `conformance`.
    packages = [Path(folder).name for folder in SHIPPED if "conformance" not in folder]
    if not session.posargs:
        # Modules for libraries that are not installed here, such as torch, are left out.
        options = ["--doctest-modules", "--doctest-ignore-import-errors"]
        session.run("pytest", *options, "--pyargs", *packages, env=environment)
    # The kernels' own tests compile them anew: that is the session `native`, and so is memory.
    elsewhere = [f"--ignore={KERNEL_TESTS}", "--ignore=backends/native/tests/test_memory.py"]
    tests = ["tests", "backends/native/tests", *elsewhere]
    # Whatever the person who runs this has set for JAX.
    settings = {**environment, "XLA_FLAGS": shortest_compilation(session), "JAX_ENABLE_X64": None}
    session.run("pytest", *PARALLEL, *(session.posargs or tests), env=settings)


def run_as_on_machines(session: nox.Session) -> None:
    """As on other machines: each instruction set, two of OpenBLAS's kernels, one thread and several."""
    for machine in MACHINES:
        install(session, "test")
        session.log("%s", " ".join(f"{name}={value}" for name, value in machine.items()))
        multiply = ["python", "-c", "import numpy; print((numpy.eye(100) @ numpy.eye(100)).trace())"]
        if "100.0" in str(session.run(*multiply, env=machine, silent=True, success_codes=[0, -signal.SIGILL])):
            run_tests(session, machine)
        else:
            session.warn("this processor cannot run OpenBLAS's kernels for that one: left out")


def run_with_newest(session: nox.Session) -> None:
    """The tests and the suite, with the newest releases of everything that constraints.txt holds where it is."""
    session.env.update(dict.fromkeys(CONSTRAINED))
    run_tests(session, ONE_THREAD)
    for backend, namespace in NAMESPACES.items():
        run_conformance(session, backend, namespace)


def run_client(session: nox.Session, client: str) -> None:
    """The tests of this library that call its `lstsq`, with ours in its place."""
    swapped = ["pytest", *PARALLEL, "-c", "clients/pytest.ini", "--swap", "jax" if client == "jax" else "numpy"]
    environment = {**ONE_THREAD, "PYTHONPATH": "clients"}
    options = [option for option in session.posargs if option not in CLIENTS]
    if client != "jax":
        session.run(*swapped, *CLIENTS[client], *options, env=environment)
        return
    # Of the combinations of shapes, dtypes and cutoffs JAX takes ten at random, unless told otherwise.
    environment["JAX_NUM_GENERATED_CASES"] = "1000"
    tests = [jax_tests(session), "-k", "testLstsq", *options]
    for x64 in ("0", "1"):
        session.run(*swapped, *tests, env={**environment, "JAX_ENABLE_X64": x64})


def jax_tests(session: nox.Session) -> str:
    """JAX's tests, which are in none of its distributions: those that JAX_LINALG_TEST names, or its repository's."""
    if given := os.environ.get("JAX_LINALG_TEST"):
        return str(Path(given).resolve())
    version = session.run("python", "-c", "import jax; print(jax.__version__)", silent=True)
    source = f"https://raw.githubusercontent.com/jax-ml/jax/jax-v{str(version).strip()}/tests/linalg_test.py"
    path = Path(session.create_tmp(), "linalg_test.py").resolve()
    try:
        with urllib.request.urlopen(source, timeout=60) as answer:
            path.write_bytes(answer.read())
    except OSError as error:
        session.skip(f"{source} cannot be read ({error}); JAX_LINALG_TEST can name a copy of it")
    return str(path)


@nox.session
def native(session: nox.Session) -> None:
    """Test the kernels alone; `-- --full` on every instruction set. Also `-- sanitize`, `leak`, `neon`, `cross`.

    `-- sanitize` runs the native tests under GCC's sanitizers, `-- leak` watches memory, `-- neon` tests the kernels
    for arm64 under qemu, `-- cross` compiles for macOS and Windows.
    """
    match kind(session, "kernels", "sanitize", "leak", "neon", "cross"):
        case "kernels":
            test_kernels(session)
        case "sanitize":
            test_under_sanitizers(session)
        case "leak":
            watch_memory(session)
        case "neon":
            test_kernels_for_arm64(session)
        case "cross":
            compile_for_others(session)


def test_kernels(session: nox.Session) -> None:
    session.install(*group("test", "native"))
    library = build_kernels(session, "kernels_shim") / shared_library("kernels_shim")
    selection = () if "--full" in session.posargs else ("-k", "not other_instruction_sets")
    run_kernel_tests(session, {"LSTSQ_KERNELS_LIBRARY": str(library)}, *selection)


def test_under_sanitizers(session: nox.Session) -> None:
    """The native tests on C++ built with GCC's address and undefined-behaviour sanitizers. On Linux."""
    need_system(session, "linux")
    sanitizers = "address,undefined,float-cast-overflow"
    # Little optimisation: what is found is the same, and with sanitizers -O3 takes minutes of compiling.
    flags = "CMAKE_CXX_FLAGS_DEBUG=-O1 -g1"
    settings = ("cmake.build-type=Debug", f"cmake.define.{flags}", f"cmake.define.LSTSQ_SANITIZE={sanitizers}")
    install(session, "test", "native", settings=settings)
    options = ["-DCMAKE_BUILD_TYPE=Debug", f"-D{flags}", f"-DSANITIZE={sanitizers}"]
    kernels = build_kernels(session, "kernels_shim", *options)
    environment = {
        "LD_PRELOAD": " ".join(map(gcc_library, ["libasan.so", "libubsan.so", "libstdc++.so"])),
        # Python itself and the libraries that it loads leak at exit: leaks are for `watch_memory`.
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=1:exitcode=99",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        **ONE_THREAD,
        "LSTSQ_KERNELS_LIBRARY": str(kernels / "libkernels_shim.so"),
    }
    session.log("first, a read beyond the end of an array: it must be found")
    session.run("python", "-c", READ_BEYOND, env=environment, success_codes=[99], silent=True)
    # What memory is used says nothing here: the sanitizer has its own.
    chosen = session.posargs or ["backends/native/tests", "--ignore=backends/native/tests/test_memory.py"]
    session.run("pytest", *PARALLEL, *chosen, env=environment)


READ_BEYOND = """
import mlx.core as mx
from lstsq_mlx._native import native
mx.eval(native().lstsq(mx.as_strided(mx.ones(4), (100, 3), (3, 1)), mx.ones((100, 1)), 1e-6, "qr"))
"""


def watch_memory(session: nox.Session) -> None:
    """Measure the peak of large problems; solve 100 000 small and 300 large ones: it must stay where it was.

    On Linux with glibc.
    """
    need_system(session, "linux")
    install(session, "test")
    session.run("pytest", "backends/native/tests/test_memory.py", env=ONE_THREAD)
    # One arena, and Python's objects in it too: leak.py says why.
    session.run("python", "backends/native/tests/leak.py", env={"PYTHONMALLOC": "malloc", "MALLOC_ARENA_MAX": "1"})


def test_kernels_for_arm64(session: nox.Session) -> None:
    """On Linux, cross-compiled, under qemu. `apt-get install g++-aarch64-linux-gnu qemu-user`."""
    need_system(session, "linux")
    compiler, emulator = "aarch64-linux-gnu-g++", "qemu-aarch64"
    missing = [tool for tool in (compiler, emulator) if not shutil.which(tool)]
    if missing:
        session.error(f"no {' and no '.join(missing)} here. On Debian: apt-get install g++-aarch64-linux-gnu qemu-user")
    session.install(*group("test", "native"))
    machine = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", f"-DCMAKE_CXX_COMPILER={compiler}"]
    server = build_kernels(session, "kernels_server", *machine) / "kernels_server"
    # All but one: a child of a process with threads cannot start threads of its own in Debian's qemu-user 7.2.
    run_kernel_tests(session, {"LSTSQ_KERNELS_SERVER": shlex.join([emulator, str(server)])}, "-k", "not fork")


def compile_for_others(session: nox.Session) -> None:
    """The extension for macOS, linked too, and the kernels for Windows, from any Linux or macOS."""
    need_system(session, "linux", "darwin")
    session.install(*group("native", "cross"))
    session.run(
        "python", "backends/native/tests/cross.py", "--build", str(Path(session.create_tmp(), "build").resolve())
    )


def build_kernels(session: nox.Session, target: str, *settings: str) -> Path:
    """Build one target of the kernels' tests with CMake; the folder that it is in."""
    folder = Path(session.create_tmp(), "kernels").resolve()
    options = ["--fresh", "-G", "Ninja", "-S", KERNEL_TESTS, "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release", *settings]
    session.run("cmake", *options, silent=True)
    session.run("cmake", "--build", str(folder), "--target", target, silent=True)
    return folder


def run_kernel_tests(session: nox.Session, where: dict[str, str], *options: str) -> None:
    """Run the kernels' tests on the build that `where` names."""
    given = [option for option in session.posargs if option != "--full"]
    session.run("pytest", *PARALLEL, KERNEL_TESTS, *options, *given, env={**ONE_THREAD, **where})


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Time every solver, torch's too, interleaved in one process, and check each answer; `-- --help` lists options."""
    install(session, "demo", "cli")
    install_torch(session)
    session.run("python", "benchmarks/frontend_cost.py")
    session.run("python", "benchmarks/bench.py", *session.posargs)


def kind(session: nox.Session, usual: str, *others: str) -> str:
    """Which kind of run is meant: the word after `--`, which is taken off the arguments, or the usual one."""
    words = session.posargs
    return words.pop(0) if words and words[0] in (usual, *others) else usual


def install(session: nox.Session, *groups: str, settings: tuple[str, ...] = ()) -> None:
    """Install both distributions with all their extras, MLX, and these dependency groups of pyproject.toml."""
    pure, native = wheel(session, "."), wheel(session, "backends/native", *settings)
    ours = f"lstsq[jax,mlx,conformance] @ {pure.as_uri()}", f"lstsq-native @ {native.as_uri()}"
    session.install(*ours, *group("mlx", *groups))


def install_torch(session: nox.Session) -> None:
    # pip, and not uv, finds a build for the CPU where an index with one is configured.
    session.run("python", "-m", "ensurepip", silent=True)
    session.run("python", "-m", "pip", "install", "-q", *group("torch"))


def group(*names: str) -> tuple[str, ...]:
    """The pinned requirements of these dependency groups of pyproject.toml."""
    return nox.project.dependency_groups(PYPROJECT, *names)


def wheel(session: nox.Session, project: str, *settings: str) -> Path:
    """The wheel of the distribution in this folder, built through its sdist if its sources have changed.

    `settings` are those of scikit-build-core, such as "cmake.build-type=Debug".
    """
    version = session.python or ".".join(map(str, sys.version_info[:2]))
    key = hashlib.sha256(" ".join([str(version), *settings]).encode())
    if session.env.get("UV_BUILD_CONSTRAINT", CONSTRAINTS):
        key.update(CONSTRAINTS.read_bytes())
    for path in source_files(project):
        key.update(f"{path}:{path.stat().st_size}:".encode() + path.read_bytes())
    home = session.cache_dir.resolve() / f"{Path(project).resolve().name}-{key.hexdigest()[:16]}"
    if not home.exists():
        # Built aside and then renamed: a build broken off leaves no half of one, and another nox may have been faster.
        with tempfile.TemporaryDirectory(dir=session.cache_dir) as aside:
            built = Path(aside, "built")
            python = f"{session.bin}/python"
            options = ["--python", python, "--out-dir", str(built), *(f"--config-setting={pair}" for pair in settings)]
            sources = Path(project)
            if project != "." and not session.env.get("UV_BUILD_CONSTRAINT", CONSTRAINTS):
                # For the newest MLX as well: its one release is part of the sources, and no constraint.
                sources = shutil.copytree(project, Path(aside, "sources"), ignore=shutil.ignore_patterns("*.so"))
                pyproject = Path(sources, "pyproject.toml")
                pyproject.write_text(re.sub(r'"(mlx(?:\[cpu\])?)==[\d.]+', r'"\1', pyproject.read_text()))
            session.run("uv", "build", *options, str(sources), silent=True)
            with contextlib.suppress(OSError):
                built.rename(home)
    return next(home.glob("*.whl"))


def shared_library(name: str) -> str:
    """What CMake calls the file of a shared library on this system."""
    return {"darwin": f"lib{name}.dylib", "win32": f"{name}.dll"}.get(sys.platform, f"lib{name}.so")


def need_system(session: nox.Session, *systems: str) -> None:
    if sys.platform not in systems:
        session.error(f"this session runs on {' and '.join(systems)}, and this is {sys.platform}")


def gcc_library(name: str) -> str:
    """Where the compiler's own copy of this library lies."""
    command = [os.environ.get("CXX", "c++"), f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def source_files(project: str) -> list[Path]:
    roots = [path for pattern in DISTRIBUTIONS[project] for path in Path().glob(pattern)]
    files = {file for root in roots for file in ([root] if root.is_file() else root.rglob("*")) if file.is_file()}
    return sorted(file for file in files if "__pycache__" not in file.parts)
