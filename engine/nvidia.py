"""Which NVIDIA GPU this machine has, asked of the driver itself.

Importing PyTorch or TensorRT only to learn that there is none costs seconds; this costs nothing.
"""

import ctypes
import sys
from dataclasses import dataclass
from functools import cache

COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU.

    Attributes
    ----------
    name
        In the vendor's words.
    capability
        Compute capability, such as ``"8.9"``.
    driver
        The CUDA version that the driver supports, such as ``"12.8"``.
    memory
        Bytes.
    """

    name: str
    capability: str
    driver: str
    memory: int


@cache
def find_gpu() -> Gpu | None:
    """Give the first GPU that the driver sees, or None."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(name)
    except OSError:
        return None
    if cuda.cuInit(0) != 0:
        return None
    count, device, driver = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if cuda.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return None
    if cuda.cuDeviceGet(ctypes.byref(device), 0) != 0:
        return None
    label = ctypes.create_string_buffer(256)
    major, minor, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    cuda.cuDeviceGetName(label, len(label), device)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), COMPUTE_CAPABILITY_MAJOR, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), COMPUTE_CAPABILITY_MINOR, device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    cuda.cuDriverGetVersion(ctypes.byref(driver))
    return Gpu(
        label.value.decode(errors="replace"),
        f"{major.value}.{minor.value}",
        f"{driver.value // 1000}.{driver.value % 1000 // 10}",
        memory.value,
    )
