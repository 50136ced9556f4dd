"""Whether the C++ builds for a Mac, and the kernels for Windows, found out on any machine.

Run by `nox -s native -- cross`. What is built is a copy of the sources. Afterwards faults are planted in it: each must
be found.

The compiler is zig's clang, from the package `ziglang`, which brings the headers of both systems. Its release is chosen
for its C++ library: that of LLVM 18, which Xcode 16 has. What is newer than that does not compile. Nor does what needs
a newer macOS than 14: the headers say of each function since when macOS has it, once zig's switch that silences them
is taken back.

For aarch64-macos the project's own CMakeLists.txt is configured, with the headers and the library of MLX's wheels for
macOS, which pip downloads; every file is compiled, warnings are errors. Then the extension is linked as on a Mac: each
symbol that it does not define is looked for in libmlx.dylib and in libSystem, whose list of symbols zig has, and the
linker writes down which of them has it. What neither has must belong to

- Python: the interpreter that runs this has it. A Mac's has the same interface;
- libc++, which zig has only as source, and to build it would take longer than all the rest. Its symbols are known by
  their prefixes; that macOS 14 has them is what the headers have said already.

For x86_64-windows-gnu all that is not MLX's is compiled: the kernels, and the C interface of their tests.

Nothing is optimised, for it takes half the time and the symbols needed are the same or more; so warnings that only the
optimiser gives are not seen here.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import lief
import ziglang

PROJECT = Path(__file__).resolve().parents[1]
ZIG = Path(ziglang.__file__).with_name("zig")

#: The oldest macOS that MLX has wheels for.
MACOS = "14.0"

#: What both builds for macOS have in common: the compiler's target with the dates of macOS's
#: functions, and settings of CMake.
MACOS_BUILD: tuple[str, dict[str, object]] = (
    f"aarch64-macos.{MACOS} -U_LIBCPP_HAS_NO_VENDOR_AVAILABILITY_ANNOTATIONS",
    {"CMAKE_SYSTEM_NAME": "Darwin", "CMAKE_SYSTEM_PROCESSOR": "arm64", "CMAKE_OSX_SYSROOT": ""},
)

#: zig says of each feature whether the processor has it, and so takes back what -mavx512f brings in LLVM 18.
WINDOWS_TARGET = "x86_64-windows-gnu -mevex512"

#: Object files that need no linking: the C interfaces of tests/kernels, after the name of the target that has them.
INTERFACES = ("CMakeFiles/kernels_shim.dir/shim.cpp", "CMakeFiles/kernels_server.dir/server.cpp")

#: Symbols of libc++ and of libc++abi, which it hands on: std::, its vtables and type information, operators new and
#: delete, exceptions, and the type information of built-in types.
LIBCXX = re.compile(
    r"__Z(N[VK]*|T[VTIS]N?[VK]*|GVN[VK]*)?(St|NSt3__1)|__Z(N|T[VIS]N)10__cxxabiv1"
    r"|__Z(n[wa]|d[la])|___cxa_|___gxx_personality_v0$|__ZTI[A-Za-z]$|__ZTIP?K?[a-z]$"
)


#: Planted faults: the file, what is replaced in it and by what, what must be said.
FAULTS = {
    "a call that only Linux has": ("src/kernels/pool.cpp", "#ifdef __linux__", "#if 1", "cpu_set_t"),
    "a function of MLX that its library does not have": (
        "src/lapack/lapack.cpp",
        "}  // namespace lstsq::lapack",
        "}\nnamespace mlx::core { void planted(); }\nvoid plant() { mlx::core::planted(); }",
        "__ZN3mlx4core7plantedEv",
    ),
    "a part of the C++ library that Xcode 16 does not have": (
        "src/lapack/lapack.cpp",
        "#include <stdexcept>",
        "#include <atomic>\nint planted = 0;\nstd::atomic_ref<int> plant(planted);",
        "atomic_ref",
    ),
    "a warning, in the door for JAX": ("src/xla/handler.cpp", "#include <stdexcept>", "static int planted;", "unused"),
}


class FaultError(Exception):
    """What would fail on the other system."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--build", type=Path, help="folder to build in, kept for the next run (else a temporary one)")
    build = parser.parse_args().build or Path(tempfile.mkdtemp())
    try:
        run_all(build.resolve())
    except FaultError as fault:
        sys.exit(str(fault))
    finally:
        if not parser.parse_args().build:
            shutil.rmtree(build)


def run_all(build: Path) -> None:
    # Not in the user's home.
    os.environ.update(ZIG_GLOBAL_CACHE_DIR=str(build / "zig"), ZIG_LOCAL_CACHE_DIR=str(build / "zig"))
    sources, mlx = build / "sources", macos_mlx(build / "mlx")
    copy_sources(sources)
    check_windows(sources, build)
    check_macos(sources, mlx, build)
    for name, (file, old, new, said) in FAULTS.items():
        text = (sources / file).read_text()
        if old not in text:
            raise FaultError(f"cannot plant {name}: {file} has no {old!r} any more")
        (sources / file).write_text(text.replace(old, new))
        try:
            check_extension(sources, mlx, build / "macos")
        except FaultError as fault:
            if said not in str(fault):
                raise FaultError(f"planted {name}; something else was found:\n{fault}") from None
            print(f"planted {name}: found")
        else:
            raise FaultError(f"planted {name}: not found")
        finally:
            shutil.copy2(PROJECT / file, sources / file)


def copy_sources(sources: Path) -> None:
    """Copy what has changed since the last time, with its time: what has not is not compiled again."""
    for path in (PROJECT / "CMakeLists.txt", PROJECT / "src", PROJECT / "tests" / "kernels"):
        for file in [path] if path.is_file() else filter(Path.is_file, path.rglob("*")):
            copied = sources / file.relative_to(PROJECT)
            if not copied.exists() or copied.read_bytes() != file.read_bytes():
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copied)


def check_windows(sources: Path, build: Path) -> None:
    """Compile the kernels, and the C interface of their tests."""
    settings = {"CMAKE_SYSTEM_NAME": "Windows", "CMAKE_SYSTEM_PROCESSOR": "AMD64"}
    cmake(
        sources / "tests" / "kernels",
        build / "windows",
        WINDOWS_TARGET,
        settings,
        "lstsq_kernels",
        f"{INTERFACES[0]}.obj",
    )
    print("the kernels compile for Windows")


def check_macos(sources: Path, mlx: Path, build: Path) -> None:
    """Check the extension, and compile the C interfaces of the kernels' tests."""
    check_extension(sources, mlx, build / "macos")
    cmake(sources / "tests" / "kernels", build / "macos-kernels", *MACOS_BUILD, *(f"{path}.o" for path in INTERFACES))


def check_extension(sources: Path, mlx: Path, build: Path) -> None:
    """Compile and link both extension modules, and see where their symbols come from."""
    link = "<CMAKE_CXX_COMPILER> <LANGUAGE_COMPILE_FLAGS> -dynamiclib -nostdlib++ -undefined dynamic_lookup -o <TARGET>"
    build.mkdir(parents=True, exist_ok=True)
    # zig's linker has no bundles and does not read nanobind's list of Python's symbols: a plain library, then.
    override = build / "override.cmake"
    override.write_text(f'set(CMAKE_CXX_CREATE_SHARED_MODULE "{link} <OBJECTS> <LINK_LIBRARIES>")\n')
    target, settings = MACOS_BUILD
    extension = {
        "CMAKE_USER_MAKE_RULES_OVERRIDE_CXX": override,
        "Python_EXECUTABLE": sys.executable,
        "Python_NumPy_INCLUDE_DIR": mlx.parent / "numpy" / "_core" / "include",
    }
    # Found as any package is; to import it would fail, for it is a Mac's.
    os.environ["PYTHONPATH"] = str(mlx.parent)
    cmake(sources, build, target, {**settings, **extension}, "native_core", "mlx_core")
    for door, libmlx in (("native", None), ("mlx", mlx / "lib" / "libmlx.dylib")):
        (library,) = (build / f"lstsq_{door}").glob("_core*.so")
        check_symbols(library, libmlx)


def cmake(source: Path, build: Path, target: str, settings: dict[str, object], *goals: str) -> None:
    """Configure a folder for another system, with zig as the compiler, and build these goals of it."""
    build.mkdir(parents=True, exist_ok=True)
    archiver = build / "zig-ar"
    archiver.write_text(f'#!/bin/sh\nexec {shlex.quote(str(ZIG))} ar "$@"\n')
    archiver.chmod(0o755)
    everything = {
        "CMAKE_CXX_COMPILER": f"{ZIG};c++",
        "CMAKE_AR": archiver,
        "CMAKE_RANLIB": shutil.which("true"),  # `zig ar` has written the table of symbols already
        "CMAKE_INSTALL_NAME_TOOL": shutil.which("true"),  # nothing is installed, but CMake wants one
        # What CMake tries is compiled and not linked: to link it, zig would build its C++ library, for minutes.
        "CMAKE_TRY_COMPILE_TARGET_TYPE": "STATIC_LIBRARY",
        "CMAKE_CXX_COMPILER_ID_TEST_FLAGS_FIRST": "-c",
        "CMAKE_BUILD_TYPE": "Debug",
        # Without the sanitizer that zig adds to what is not optimised. With the 512 bits of AVX-512, which every other
        # clang has with -mavx512f.
        "CMAKE_CXX_FLAGS": f"-target {target} -fno-sanitize=undefined -Wall -Wextra"
        + (" -mevex512" if target.startswith("x86_64") else ""),
        "CMAKE_CXX_FLAGS_DEBUG": "-O0 -g0",
        "CMAKE_COMPILE_WARNING_AS_ERROR": "ON",
        **settings,
    }
    # There, since what CMake tries leaves a file where it runs.
    run(
        "cmake",
        "-G",
        "Ninja",
        "-S",
        str(source),
        "-B",
        str(build),
        *(f"-D{k}={v}" for k, v in everything.items()),
        folder=build,
    )
    run("cmake", "--build", str(build), "--target", *goals, "--", "-k", "0")


def check_symbols(extension: Path, libmlx: Path | None) -> None:
    """Refuse a symbol that no library has which the extension finds on a Mac."""
    lief.logging.disable()  # it complains of what zig's linker leaves empty
    # Both are kept: lief's symbols point into them.
    parsed, mlx = lief.MachO.parse(str(extension)), libmlx and lief.MachO.parse(str(libmlx))
    binary = parsed.at(0)
    own, *libraries = [library.name for library in binary.libraries]
    expected = [*([f"@rpath/{libmlx.name}"] if libmlx else []), "/usr/lib/libSystem.B.dylib"]
    if libraries != expected:
        raise FaultError(f"{own} is linked with {libraries}, not with {expected}")
    exported = {symbol.name for symbol in mlx.at(0).exported_symbols} if mlx else set()
    found: dict[str, list[str]] = {"libmlx": [], "libSystem": [], "Python": [], "libc++": [], "nothing": []}
    for symbol in binary.imported_symbols:
        library = expected[symbol.library_ordinal - 1] if 0 < symbol.library_ordinal <= len(expected) else ""
        found[owner(symbol.name, Path(library).name, exported)].append(symbol.name)
    print(
        f"{extension.parent.name} imports:", ", ".join(f"{len(names)} of {library}" for library, names in found.items())
    )
    if found["nothing"]:
        raise FaultError("no library on a Mac has\n" + "\n".join(f"  {name}" for name in sorted(found["nothing"])))


def owner(symbol: str, library: str, exported: set[str]) -> str:
    """Which library has this symbol: `library` is where the linker found it, if anywhere."""
    if library == "libmlx.dylib":
        return "libmlx" if symbol in exported else "nothing"
    if library == "libSystem.B.dylib":
        return "libSystem"
    if symbol.startswith(("_Py", "__Py")):
        return "Python" if hasattr(ctypes.pythonapi, symbol[1:]) else "nothing"
    return "libc++" if LIBCXX.match(symbol) else "nothing"


def macos_mlx(folder: Path) -> Path:
    """The package `mlx` of the wheels for macOS, in the release that the extension is built with; beside it NumPy's."""
    (version,) = set(re.findall(r"mlx(?:\[cpu\])?==([\d.]+)", (PROJECT / "pyproject.toml").read_text()))
    done = folder / f"{version}-numpy.done"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        wheels = folder / "wheels"
        system = f"macosx_{MACOS.replace('.', '_')}_arm64"
        options = ["--no-deps", "--only-binary=:all:", "--platform", system, "--dest", str(wheels), "-q"]
        options += ["--python-version", platform.python_version()]
        # NumPy for its headers, which say what a system has.
        wanted = [f"mlx=={version}", f"mlx-metal=={version}", "numpy"]
        run(sys.executable, "-m", "pip", "download", *options, *wanted)
        for wheel in wheels.iterdir():
            zipfile.ZipFile(wheel).extractall(folder)
        shutil.rmtree(wheels)
        done.touch()
    return folder / "mlx"


def run(*command: str, folder: Path | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise FaultError(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
