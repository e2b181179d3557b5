"""Asking NVML one question: the value, or None and the reason. The one place that decides what an NVML error means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

NOT_SUPPORTED = "not supported by this GPU as it is set up"
_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # by NVML_VALUE_TYPE_*


class GpuFailed(Exception):
    """The GPU answers nothing any more; asking on would only repeat that."""


@dataclass(frozen=True, slots=True)
class Absent:
    """In the place of a value: why there is none."""

    reason: str


def ask(nvml: Any, read: Callable[[], Any]) -> tuple[Any, str]:
    """The value, or None and the reason.

    A lost GPU, or one that waits for a reset, raises `GpuFailed`.
    """
    try:
        return read(), ""
    except nvml.NVMLError as error:
        if error.value == nvml.NVML_ERROR_GPU_IS_LOST:
            raise GpuFailed("the GPU has fallen off the bus or is otherwise unreachable") from None
        if error.value == nvml.NVML_ERROR_RESET_REQUIRED:
            raise GpuFailed("the GPU must be reset before it answers") from None
        return None, reason(nvml, error)
    except nvml.NVMLLibraryMismatchError:
        return None, "this driver is older than nvidia-ml-py expects"
    except AttributeError:
        return None, "the installed nvidia-ml-py does not have the call"
    except UnicodeDecodeError:
        return None, "the driver's text is not UTF-8"


def reason(nvml: Any, error: Any) -> str:
    """An NVML error in words."""
    reasons = {
        nvml.NVML_ERROR_NOT_SUPPORTED: NOT_SUPPORTED,
        nvml.NVML_ERROR_NO_PERMISSION: "this process lacks the permission",
        nvml.NVML_ERROR_FUNCTION_NOT_FOUND: "this driver does not have the call",
    }
    return reasons.get(error.value) or f"NVML reports: {str(error).rstrip('.').lower()}"


def fields(nvml: Any, handle: Any, ids: Sequence[int | tuple[int, int]]) -> list[Any]:
    """The values of NVML fields, asked for in one call; an id may come with a scope, such as a link.

    A field that has no value is `Absent`; raises NVML's error when the call as a whole fails.
    """
    found = nvml.nvmlDeviceGetFieldValues(handle, list(ids))
    return [_value(nvml, field) for field in found]


def _value(nvml: Any, field: Any) -> Any:
    if field.nvmlReturn != nvml.NVML_SUCCESS:
        return Absent(reason(nvml, nvml.NVMLError(field.nvmlReturn)))
    return getattr(field.value, _MEMBERS[field.valueType])


def one_field(nvml: Any, handle: Any, field: int) -> Any:
    """The value of one field, or `Absent`."""
    return fields(nvml, handle, [field])[0]
