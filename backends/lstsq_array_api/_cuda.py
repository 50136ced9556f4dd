"""Compiles the kernels for the GPU that an array is on, and starts them, in the stream that its library works in.

CuPy compiles by itself. For torch NVIDIA's `cuda.bindings` does, which torch's own builds for CUDA bring along. Where
there is neither, there are no kernels, and the caller goes without.
"""

from __future__ import annotations

import ctypes
import importlib.util
import struct
import threading
from functools import cache
from importlib.resources import files
from typing import Any

import array_api_compat
import numpy as np

from lstsq._backend import Array, dtype_name

#: The kernels are written for any number of threads that is a power of two; shared memory is what limits a problem.
Arguments = tuple[Any, ...]

_DOUBLE, _BITS = struct.Struct("<d"), struct.Struct("<Q")


class Kernels:
    """The kernels of one GPU for one type of numbers.

    Of the arguments of a kernel an int is C's int, a float its double, and all else is an array of the library.
    """

    #: Threads of a block of several on a processor of the GPU, and of one that is alone there: powers of two. The
    #: kernels say how many they may be started with, and have no more registers than so many threads may.
    threads = 256
    most_threads = 1024
    #: Bytes that a block of threads may share.
    shared_limit: int

    def launch(self, name: str, blocks: int, threads: int, shared: int, arguments: Arguments) -> None:
        """Start the kernel `name`; it runs when what was started before it has ended."""
        raise NotImplementedError

    def clear(self, array: Array) -> None:
        """Write zero into an array of one integer of 32 bits, in the order of the launches."""
        array[...] = 0


def kernels_for(a: Array) -> Kernels | None:
    """The kernels for the GPU that this array is on and for its numbers, or None where there are none."""
    real = _REALS.get(dtype_name(a.dtype))
    if real is None:
        return None
    if array_api_compat.is_torch_array(a):
        return _for_torch(a.device.index, real) if a.is_cuda else None
    return _for_cupy(a.device.id, real) if array_api_compat.is_cupy_array(a) else None


#: The numbers that there are kernels for, and their names in C++.
_REALS = {"float32": "float", "float64": "double"}


#: The files of kernels, in the folder of that name, each with what it needs besides `common`. Each is compiled alone,
#: which takes the compiler a second or two.
FILES = {
    "batch": ("reveal",),
    "tiny": ("reveal",),
    "singular_values": (),
    "long": (),
    "gram": (),
    "parts": ("reveal",),
    "dense": (),
}


@cache
def source(*files_of_kernels: str) -> str:
    """The text of these files of kernels, after what they need."""
    needed = (name for file in files_of_kernels for name in (*FILES[file], file))
    folder = files("lstsq_array_api").joinpath("kernels")
    return "\n".join(
        folder.joinpath(f"{name}.cu").read_text(encoding="utf-8") for name in dict.fromkeys(("common", *needed))
    )


def _file_and_options(name: str, real: str) -> tuple[str, tuple[str, ...]]:
    """The file that this kernel is in, and how it is compiled."""
    options = (f"-DLSTSQ_REAL={real}", "--std=c++17")
    if name.startswith("solve_tiny_"):
        return "tiny", (f"-DLSTSQ_COLUMNS={name.removeprefix('solve_tiny_')}", *options)
    if name.startswith("gram_by_warps_"):
        columns, right_sides = name.removeprefix("gram_by_warps_").split("_")
        return "gram", (f"-DLSTSQ_COLUMNS={columns}", f"-DLSTSQ_RIGHT_SIDES={right_sides}", *options)
    of_others = {"solve_batch": "batch", "singular_values_batch": "singular_values"}
    return of_others.get(name, "long"), options


class _CupyKernels(Kernels):
    def __init__(self, real: str) -> None:
        import cupy

        self._real = real
        self._modules: dict[tuple[str, tuple[str, ...]], Any] = {}
        attributes = cupy.cuda.Device().attributes
        self.shared_limit = int(attributes["MaxSharedMemoryPerBlockOptin"])
        self._functions: dict[str, Any] = {}

    def launch(self, name: str, blocks: int, threads: int, shared: int, arguments: Arguments) -> None:
        function = self._functions.get(name) or self._function(name)
        typed = tuple(np.int32(argument) if type(argument) is int else argument for argument in arguments)
        function((blocks,), (threads,), typed, shared_mem=shared)

    def _function(self, name: str) -> Any:
        import cupy

        key = file, options = _file_and_options(name, self._real)
        if key not in self._modules:
            self._modules[key] = cupy.RawModule(code=source(file), options=options)
        function = self._functions[name] = self._modules[key].get_function(name)
        function.max_dynamic_shared_size_bytes = self.shared_limit
        return function


@cache
def _for_cupy(device: int, real: str) -> Kernels:
    import cupy

    with cupy.cuda.Device(device):
        return _CupyKernels(real)


class _TorchKernels(Kernels):
    def __init__(self, device: int, real: str) -> None:
        import torch
        from cuda.bindings import driver, nvrtc

        self._torch, self._driver, self._device = torch, driver, device
        self._nvrtc, self._real = nvrtc, real
        self._modules: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._thread = threading.local()
        self._require_context()
        attribute = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        self.shared_limit = _done(driver.cuDeviceGetAttribute(attribute, _done(driver.cuDeviceGet(device))))
        self._functions: dict[str, Any] = {}
        # The short way is not public; what is takes as long as half a launch.
        self._stream = getattr(torch._C, "_cuda_getCurrentRawStream", None) or self._current_stream

    def _require_context(self) -> None:
        """Have torch give this thread a context, as each needs one; whoever computes with torch alone does not care."""
        if not hasattr(self._thread, "has_context"):
            with self._torch.cuda.device(self._device):
                self._torch.cuda.current_stream().synchronize()
            self._thread.has_context, self._thread.arguments = True, {}

    def _current_stream(self, device: int) -> int:
        return int(self._torch.cuda.current_stream(device).cuda_stream)

    def _function(self, name: str) -> Any:
        driver, key = self._driver, _file_and_options(name, self._real)
        if key not in self._modules:
            binary = self._compile(*key)  # To outlive the loading, which is given its address.
            self._modules[key] = _done(driver.cuModuleLoadData(binary.ctypes.data))
        function = _done(driver.cuModuleGetFunction(self._modules[key], name.encode()))
        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _done(driver.cuFuncSetAttribute(function, attribute, self.shared_limit))
        self._functions[name] = function
        return function

    def _compile(self, file: str, options: tuple[str, ...]) -> np.ndarray[Any, Any]:
        nvrtc = self._nvrtc
        major, minor = self._torch.cuda.get_device_capability(self._device)
        program = _done(nvrtc.nvrtcCreateProgram(source(file).encode(), f"{file}.cu".encode(), 0, [], []))
        given = [option.encode() for option in (*options, f"--gpu-architecture=sm_{major}{minor}")]
        _done(nvrtc.nvrtcCompileProgram(program, len(given), given))
        binary = b" " * _done(nvrtc.nvrtcGetCUBINSize(program))
        _done(nvrtc.nvrtcGetCUBIN(program, binary))
        return np.frombuffer(binary, np.uint8)

    def launch(self, name: str, blocks: int, threads: int, shared: int, arguments: Arguments) -> None:
        torch = self._torch
        self._require_context()
        if torch.cuda.current_device() != self._device:
            with torch.cuda.device(self._device):
                return self.launch(name, blocks, threads, shared, arguments)
        stream = self._stream(self._device)
        # CUDA copies the arguments at once, so that the next launch of this thread may have their place.
        values, places = self._thread.arguments.get(len(arguments)) or self._places(len(arguments))
        values[:] = list(map(as_bits, arguments))
        function = self._functions.get(name) or self._function(name)
        status = self._driver.cuLaunchKernel(
            function, blocks, 1, 1, threads, 1, 1, shared, stream, ctypes.addressof(places), 0
        )
        _done(status)

    def _places(self, count: int) -> tuple[Any, Any]:
        """Memory of this thread for so many arguments, and for their addresses, which are in it already."""
        values = (ctypes.c_uint64 * count)()
        first = ctypes.addressof(values)
        both = self._thread.arguments[count] = values, (ctypes.c_uint64 * count)(*range(first, first + 8 * count, 8))
        return both

    def clear(self, array: Array) -> None:
        self._require_context()
        stream = self._stream(self._device)
        _done(self._driver.cuMemsetD32Async(array.data_ptr(), 0, 1, stream))


@cache
def _for_torch(device: int, real: str) -> Kernels | None:
    try:
        if importlib.util.find_spec("cuda.bindings") is None:
            return None
    except ModuleNotFoundError:
        return None
    return _TorchKernels(device, real)


def as_bits(argument: Any) -> int:
    """The first eight bytes of an argument in memory, of which the kernel takes what it needs: C's int is the first."""
    if type(argument) is int:
        return argument & 0xFFFFFFFF
    if type(argument) is float:
        return int(_BITS.unpack(_DOUBLE.pack(argument))[0])
    return int(argument.ctypes.data if isinstance(argument, np.ndarray) else argument.data_ptr())


def _done(answer: Any) -> Any:
    """What a function of `cuda.bindings` gives besides its status, which must be that of success."""
    status, *rest = answer
    if status:
        raise RuntimeError(f"CUDA: {status.name}; expected success. Is the GPU in order?")
    return rest[0] if rest else None
