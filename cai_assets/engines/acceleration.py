"""scikit-learn on a GPU, by cuML's interface of the same name: one switch, and what it says."""

import importlib
import importlib.util

from cai_assets.engines.gpu import find_device


def cuml_is_there() -> bool:
    """Whether cuML is installed; nothing of CUDA is imported."""
    return importlib.util.find_spec("cuml") is not None


def accelerate(enable: bool | None, visible: str | None) -> dict[str, str]:
    """Let scikit-learn compute on a GPU from now on, where the settings ask for it and there is one.

    Call it before scikit-learn is imported: `cuml.accel` puts its own classes in place of scikit-learn's.

    Args:
        enable: ENABLE_GPU: false wants none, true must have one where cuML is installed, unset takes one.
        visible: CUDA_VISIBLE_DEVICES.

    Returns:
        `device` and `device_why`, for the metadata of what was made.

    Raises:
        NoGpu: cuML is installed, ENABLE_GPU is true, and there is no GPU to use.
    """
    if enable is False:
        return {"device": "cpu", "device_why": "ENABLE_GPU=false"}
    if not cuml_is_there():
        return {"device": "cpu", "device_why": "cuML is not installed"}
    device = find_device(enable, visible)
    if device.kind == "gpu":
        importlib.import_module("cuml.accel").install()
    return {"device": device.name, "device_why": device.why}
