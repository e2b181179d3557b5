"""NVML's codes in words, held against the constants of the installed `pynvml`."""

from __future__ import annotations

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor_mcp.gpus import decoding


def ids(mask: int) -> list[tuple[str, str]]:
    return [(event.id, event.severity) for event in decoding.clock_events(mask)]


def test_clock_event_bits_are_those_of_the_binding() -> None:
    ours = {event.nvml: event.bit for event in decoding.CLOCK_EVENTS}
    theirs = {name: getattr(pynvml, f"nvmlClocksThrottleReason{name}") for name in ours}
    assert ours == theirs
    assert sum(ours.values()) == pynvml.nvmlClocksThrottleReasonAll


def test_idle_and_the_power_cap_are_normal() -> None:
    assert ids(0x5) == [("idle", "normal"), ("sw_power_cap", "normal")]


def test_hardware_slowdowns_are_faults_and_settings_are_limits() -> None:
    assert ids(0x8 | 0x40 | 0x80) == [
        ("hw_slowdown", "fault"),
        ("hw_thermal_slowdown", "fault"),
        ("hw_power_brake", "fault"),
    ]
    assert {severity for _, severity in ids(0x2 | 0x10 | 0x20 | 0x100 | 0x200 | 0x400)} == {"limit"}


def test_a_bit_that_has_no_name_yet_is_named_by_its_value() -> None:
    assert ids(0x1 | 0x800 | 0x4000) == [("idle", "normal"), ("unknown_0x800", "limit"), ("unknown_0x4000", "limit")]


def test_no_bit_set_is_no_event() -> None:
    assert decoding.clock_events(0) == []


@given(st.integers(0, 2**64 - 1))
def test_no_bit_is_lost_or_told_twice(mask: int) -> None:
    assert [event.bit for event in decoding.clock_events(mask)] == [1 << i for i in range(64) if mask >> i & 1]


def test_architectures_are_those_of_the_binding() -> None:
    prefix = "NVML_DEVICE_ARCH_"
    not_gpus = ("DLA", "DLA2", "NPU3", "UNKNOWN")
    known = {name.removeprefix(prefix): getattr(pynvml, name) for name in dir(pynvml) if name.startswith(prefix)}
    named = {word: decoding.architecture_name(code) for word, code in known.items() if word not in not_gpus}
    assert named == {word: word.capitalize() for word in named}
    assert "HOPPER" in named


def test_an_architecture_without_a_name_is_none() -> None:
    assert [decoding.architecture_name(code) for code in (0, 99, 0xFFFFFFFF)] == [None, None, None]


@pytest.mark.parametrize(("code", "version"), [(13000, "13.0"), (12080, "12.8"), (12010, "12.1"), (11000, "11.0")])
def test_cuda_versions_are_read_as_nvml_writes_them(code: int, version: str) -> None:
    assert decoding.cuda_version(code) == version


def test_no_recovery_action_is_none() -> None:
    assert decoding.recovery_action(pynvml.NVML_GPU_RECOVERY_ACTION_NONE) is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (pynvml.NVML_GPU_RECOVERY_ACTION_GPU_RESET, "reset the GPU"),
        (pynvml.NVML_GPU_RECOVERY_ACTION_NODE_REBOOT, "reboot the node"),
        (pynvml.NVML_GPU_RECOVERY_ACTION_DRAIN_P2P, "drain peer-to-peer traffic"),
        (pynvml.NVML_GPU_RECOVERY_ACTION_DRAIN_AND_RESET, "drain the GPU, then reset it"),
        (42, "follow NVML's recovery action 42"),
    ],
)
def test_recovery_actions_are_told_in_words(code: int, words: str) -> None:
    assert decoding.recovery_action(code) == words


@pytest.mark.parametrize(
    ("uuid", "short"),
    [("GPU-1a2b3c4d-0000-1111-2222-333344445555", "GPU-1a2b3c4d"), ("MIG-99-1-2", "MIG-99"), ("odd", "odd")],
)
def test_a_uuid_is_shortened_to_its_first_group(uuid: str, short: str) -> None:
    assert decoding.short_uuid(uuid) == short


@pytest.mark.parametrize(
    ("given_text", "name"),
    [
        ("/home/me/private/venv/bin/python3.11", "python3.11"),
        ("python", "python"),
        ("/usr/bin/tool --key=/home/me/token", "tool"),
        ("python train.py /data/private", "python"),
        (r"C:\Program Files\App\app.exe", "app.exe"),
        (r"C:\Program Files\App\app.exe --user=me", "app.exe"),
        ("", None),
        ("  ", None),
    ],
)
def test_a_program_name_has_no_folder_and_no_argument(given_text: str, name: str | None) -> None:
    assert decoding.program_name(given_text) == name


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        ([3], "GPU 3"),
        ([10], "GPU 10"),
        ([0, 1, 2, 3, 6], "GPUs 0-3, 6"),
        ([7, 5, 5], "GPUs 5, 7"),
        ([2, 1], "GPUs 1-2"),
    ],
)
def test_indices_are_written_as_ranges(indices: list[int], words: str) -> None:
    assert decoding.gpus(indices) == words
