"""Whether there is a GPU for the engine `cudf`, by asking the driver; nothing of CUDA is imported here.

`import cudf_polars` works without a GPU and fails only later, so it tells nothing.
"""

import importlib.util
import os
import sys
from dataclasses import dataclass
from typing import Any, Final, Literal

from cai_assets import memory
from cai_assets.failures import PermanentError

EXTRA: Final = "pip install 'cai_assets[gpu]'"
_CUDA_MODULES: Final = ("cudf_polars", "cudf", "rmm", "cupy", "pylibcudf")


class NoGpu(PermanentError):  # noqa: N818  that is what there is
    """ENABLE_GPU=true, and there is none that can be used; the message says why."""


@dataclass(frozen=True)
class Device:
    """Where plans are run.

    Attributes:
        kind: gpu or cpu.
        name: the GPU's name; of a CPU "cpu".
        why: why this one, for people.
    """

    kind: Literal["gpu", "cpu"]
    name: str
    why: str


def find_device(enable: bool | None, visible: str | None) -> Device:
    """The device that the settings ask for.

    Args:
        enable: ENABLE_GPU: true must have one, false wants none, unset takes one if the driver shows one.
        visible: CUDA_VISIBLE_DEVICES, as CUDA takes it; it is put into the environment for CUDA to read.

    Raises:
        NoGpu: `enable` is true and there is no driver, no device or no package for it.
        PermanentError: `visible` names a device that is not there, or comes after CUDA was started.
    """
    if enable is False:
        return Device("cpu", "cpu", "ENABLE_GPU=false")
    _show(visible)
    names, lacking = _ask_driver()
    if not lacking:
        names = _visible(names, os.environ.get("CUDA_VISIBLE_DEVICES"))
        lacking = "" if names else "CUDA_VISIBLE_DEVICES hides every device"
    if not lacking and importlib.util.find_spec("cudf_polars") is None:
        lacking = f"the driver shows {names[0]}, but cudf-polars is not installed: {EXTRA}"
    if not lacking:
        return Device("gpu", names[0], "ENABLE_GPU=true" if enable else "the driver shows it")
    if enable:
        raise NoGpu(f"ENABLE_GPU=true, and {lacking}; mend that, or unset ENABLE_GPU to run on the CPU")
    return Device("cpu", "cpu", lacking)


def in_bytes(limit: str) -> int:
    """GPU_MEMORY_LIMIT as bytes, rounded down to the 256 that RMM wants."""
    return memory.in_bytes(limit) // 256 * 256


def _show(visible: str | None) -> None:
    """Put CUDA_VISIBLE_DEVICES of the settings (`.env`) where CUDA looks for it."""
    if visible is None or os.environ.get("CUDA_VISIBLE_DEVICES") == visible:
        return
    if started := [name for name in _CUDA_MODULES if name in sys.modules]:
        raise PermanentError(
            f"CUDA_VISIBLE_DEVICES={visible} comes too late: {', '.join(started)} is imported already; set "
            "it in the environment of the process"
        )
    os.environ["CUDA_VISIBLE_DEVICES"] = visible


def _ask_driver() -> tuple[list[str], str]:
    """Names of the devices, and what is lacking where there are none."""
    try:
        import pynvml
    except ImportError:
        return [], f"the driver cannot be asked: nvidia-ml-py is not installed: {EXTRA}"
    nvml: Any = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return [], f"no NVIDIA driver answers ({error})"
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(n) for n in range(nvml.nvmlDeviceGetCount())]
        names = [_text(nvml.nvmlDeviceGetName(handle)) for handle in handles]
    except nvml.NVMLError as error:
        return [], f"the NVIDIA driver shows no device ({error})"
    finally:
        nvml.nvmlShutdown()
    return names, "" if names else "the NVIDIA driver shows no device"


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _visible(names: list[str], visible: str | None) -> list[str]:
    """The devices that CUDA will see, which the driver knows nothing of.

    Raises:
        PermanentError: an index is beyond the devices that there are.
    """
    if visible is None:
        return names
    found = []
    for part in (one.strip() for one in visible.split(",")):
        if not part.lstrip("-").isdigit():
            found.append(part)  # a UUID, which CUDA resolves
            continue
        if int(part) < 0:
            break  # CUDA stops there
        if int(part) >= len(names):
            raise PermanentError(
                f"CUDA_VISIBLE_DEVICES={visible}: there is no device {part}; the driver shows {len(names)}: "
                f"{', '.join(f'{n} {name}' for n, name in enumerate(names))}"
            )
        found.append(names[int(part)])
    return found
