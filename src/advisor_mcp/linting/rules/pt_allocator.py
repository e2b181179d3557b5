"""The variable that sets up torch's GPU memory allocator."""

import re

from advisor_mcp.linting.edits import advise, remove, rename, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._options import typo
from advisor_mcp.linting.rules._pt import allocator_settings, entries, options
from advisor_mcp.linting.unit import Setting, Unit

SWITCHES = (
    "expandable_segments", "release_lock_on_cudamalloc", "release_lock_on_hipmalloc", "pinned_use_cuda_host_register",
    "pinned_use_hip_host_register", "pinned_use_background_threads", "graph_capture_record_stream_reuse", "pinned_free_catch_all",
    "throw_on_cudamalloc_oom",
)  # fmt: skip
SIZES = (
    "max_split_size_mb", "max_non_split_rounding_mb", "large_segment_size_mb", "pinned_num_register_threads",
    "pinned_reserve_segment_size_mb", "pinned_max_round_threshold_mb", "pinned_max_cached_size_mb",
)  # fmt: skip
KNOWN = (
    *SWITCHES, *SIZES, "garbage_collection_threshold", "roundup_power2_divisions", "backend", "per_process_memory_fraction",
    "roundup_bypass_threshold_mb",
)  # fmt: skip
NATIVE_ONLY = (
    "max_split_size_mb", "garbage_collection_threshold", "roundup_power2_divisions", "expandable_segments", "max_non_split_rounding_mb",
    "large_segment_size_mb",
)  # fmt: skip


@rule("PT001", "allocator-options-without-colon", tools=("env",), harm="crash", causes=("alloc-conf-format",))
def allocator_options_without_colon(unit: Unit, job: Job) -> Found:
    """Allow allocator-options-without-colon.

    ## What it does
    Checks that the allocator's variable is `name:value,name:value`.

    ## Why is this bad?
    torch stops as soon as it reads it, at the import or at the first tensor on the GPU: "Index out of bounds in
    ConfigTokenizer", "Unrecognized key" or "Error parsing CachingAllocator settings".

    ## Example
    ```bash launch.sh
    export PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb=128
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    export PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:128
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    All.

    ## References
    - pytorch/pytorch#186453
    - torch 2.13.0, c10/core/AllocatorConfig.h, ConfigTokenizer
    """
    for here, value in allocator_settings(unit):
        wrong = next(
            (entry for entry in entries(value) if not re.fullmatch(r"[^:=;]+:(\[.*\]|[^:=;\[\]]+)", entry)), None
        )
        if wrong is None:
            continue
        better = re.sub(r"\s*=\s*", ":", value).replace(";", ",")
        fix = set_value(here, better) if better != value else advise("write name:value pairs with commas between them")
        yield Problem(here, f"{wrong!r} is no name:value, the form torch reads {here.name} in", fix)


@rule("PT002", "allocator-option-unknown", tools=("env",), harm="crash", causes=("alloc-conf-key",))
def allocator_option_unknown(unit: Unit, job: Job) -> Found:
    """Allow allocator-option-unknown.

    ## What it does
    Checks the names of the allocator's options.

    ## Why is this bad?
    torch stops with "Unrecognized key" ("Unrecognized CachingAllocator option" before 2.9).

    ## Example
    ```bash launch.sh
    export PYTORCH_CUDA_ALLOC_CONF=expandable_segment:True
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    The names of torch 1.10 to 2.13.

    ## References
    - torch 2.13.0, c10/core/AllocatorConfig.h and c10/cuda/CUDAAllocatorConfig.h, getKeys
    """
    for here, value in allocator_settings(unit):
        for name, _ in options(value):
            if name in KNOWN:
                continue
            near = next((one for one in KNOWN if typo(name, one)), None)
            fix = (
                set_value(here, value.replace(name, near)) if near else advise(f"use one of {', '.join(sorted(KNOWN))}")
            )
            yield Problem(
                here, f"torch's allocator has no option {name!r}" + (f"; did you mean {near!r}?" if near else ""), fix
            )


def _refused(name: str, value: str, unit: Unit) -> tuple[str, str | None] | None:
    """What an option takes, where it does not take this value, and the value that was meant if that is plain."""
    if name in SWITCHES:
        meant = (
            "True"
            if value.lower() in ("true", "1", "on", "yes")
            else "False"
            if value.lower() in ("false", "0", "off", "no")
            else None
        )
        return None if value in ("True", "False") else ("True or False, in this spelling", meant)
    if name in SIZES and not re.match(r"\d", value):
        return "a whole number", None
    if name in ("max_split_size_mb", "max_non_split_rounding_mb"):
        least = 20 if name == "max_non_split_rounding_mb" or unit.since("2.9") or unit.version is None else 21
        return None if int(re.match(r"\d+", value)[0][:9]) >= least else (f"at least {least}", None)  # type: ignore[index]
    if name == "garbage_collection_threshold":
        number = float(value) if re.fullmatch(r"\d*\.?\d+", value) else None
        return None if number is not None and 0 < number < 1 else ("a number between 0 and 1", None)
    if name == "backend":
        return None if value in ("native", "cudaMallocAsync") else ("native or cudaMallocAsync", None)
    if name == "roundup_power2_divisions" and value.isdigit() and int(value) & (int(value) - 1):
        return "a power of two", None
    return None


@rule("PT003", "allocator-value-refused", tools=("env",), harm="crash", causes=("alloc-conf-value",))
def allocator_value_refused(unit: Unit, job: Job) -> Found:
    """Allow allocator-value-refused.

    ## What it does
    Checks the values of the allocator's options: switches are `True` or `False` with a capital letter, split sizes at least
    20 MiB, the threshold of the garbage collection a share between 0 and 1, divisions a power of two.

    ## Why is this bad?
    torch stops: "Expected 'True' or 'False'", "max_split_size_mb too small", "set it in (0.0, 1.0)".

    ## Example
    ```bash launch.sh
    export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:true
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    All; a split size of exactly 20 is taken from torch 2.9 on.

    ## References
    - torch 2.13.0, c10/core/AllocatorConfig.cpp (tried out)
    """
    for here, value in allocator_settings(unit):
        for name, text in options(value):
            refused = _refused(name, text, unit)
            if refused is not None:
                wanted, meant = refused
                fix = (
                    set_value(here, value.replace(f"{name}:{text}", f"{name}:{meant}"))
                    if meant
                    else advise(f"give {wanted}")
                )
                yield Problem(here, f"{name} is {text}, but torch takes {wanted}", fix)


@rule(
    "PT004", "allocator-variable-not-read", tools=("env",), harm="oom", severity="warning", causes=("alloc-conf-name",)
)
def allocator_variable_not_read(unit: Unit, job: Job) -> Found:
    """Allow allocator-variable-not-read.

    ## What it does
    Looks for `PYTORCH_ALLOC_CONF` with a torch that is known to be older than 2.10.

    ## Why is this bad?
    torch before 2.9 does not know the name, and 2.9 leaves `expandable_segments` off on CUDA when it is set this way. No
    message says so; the memory fragments as before.

    ## Example
    ```bash launch.sh torch=2.6
    export PYTORCH_ALLOC_CONF=expandable_segments:True
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh torch=2.6
    export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    torch before 2.10.

    ## References
    - pytorch/pytorch#183387
    - huggingface/trl#5794
    """
    here = unit.setting("PYTORCH_ALLOC_CONF")
    if (
        here is None
        or unit.since("2.10")
        or any(name in unit for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"))
    ):
        return
    expandable = "expandable_segments" in (unit.text("PYTORCH_ALLOC_CONF", "") or "")
    if unit.before("2.9"):
        yield Problem(here, f"torch {unit.target} does not read {here.name}", rename(here, "PYTORCH_CUDA_ALLOC_CONF"))
    elif expandable:
        message = f"torch {unit.target} ignores expandable_segments in {here.name} on CUDA"
        yield Problem(here, message, rename(here, "PYTORCH_CUDA_ALLOC_CONF"))


@rule(
    "PT005", "two-allocator-variables", tools=("env",), harm="ignored", severity="warning", causes=("alloc-conf-both",)
)
def two_allocator_variables(unit: Unit, job: Job) -> Found:
    """Allow two-allocator-variables.

    ## What it does
    Looks for `PYTORCH_ALLOC_CONF` and `PYTORCH_CUDA_ALLOC_CONF` with different values.

    ## Why is this bad?
    torch reads one of them, and which one depends on its version.

    ## Example
    ```bash launch.sh
    export PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:512
    export PYTORCH_ALLOC_CONF=expandable_segments:True
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    export PYTORCH_ALLOC_CONF=expandable_segments:True
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    torch 2.9 and later know both names.

    ## References
    - torch 2.13.0, c10/cuda/CUDAAllocatorConfig.h, instance
    - pytorch/pytorch#167659
    """
    old = unit.setting("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
    new = unit.setting("PYTORCH_ALLOC_CONF")
    if old is None or new is None or not (old.known and new.known) or unit.before("2.9"):
        return
    if entries(str(old.value)) != entries(str(new.value)):
        yield Problem(old, f"{old.shown} and {new.shown}, of which torch reads one", remove(old), (new,))


@rule(
    "PT006",
    "options-of-the-other-allocator",
    tools=("env",),
    harm="ignored",
    severity="warning",
    causes=("alloc-conf-backend-ignores",),
)
def options_of_the_other_allocator(unit: Unit, job: Job) -> Found:
    """Allow options-of-the-other-allocator.

    ## What it does
    Looks for options of torch's own allocator beside `backend:cudaMallocAsync`.

    ## Why is this bad?
    CUDA's allocator has none of them: they are ignored.

    ## Example
    ```bash launch.sh
    export PYTORCH_CUDA_ALLOC_CONF=backend:cudaMallocAsync,max_split_size_mb:128
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    export PYTORCH_CUDA_ALLOC_CONF=backend:cudaMallocAsync
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    torch 2.0 and later.

    ## References
    - torch 2.13.0 documentation, notes/cuda, "Optimizing memory usage with PYTORCH_CUDA_ALLOC_CONF"
    """
    for here, value in allocator_settings(unit):
        found = options(value)
        dead = [name for name, _ in found if name in NATIVE_ONLY]
        if ("backend", "cudaMallocAsync") in found and dead:
            kept = ",".join(f"{name}:{text}" for name, text in found if name not in NATIVE_ONLY)
            yield Problem(here, f"backend:cudaMallocAsync ignores {', '.join(dead)}", set_value(here, kept))


@rule(
    "PT007",
    "allocator-variable-renamed",
    tools=("env",),
    harm="deprecated",
    severity="info",
    causes=("alloc-conf-deprecated",),
)
def allocator_variable_renamed(unit: Unit, job: Job) -> Found:
    """Allow allocator-variable-renamed.

    ## What it does
    Looks for `PYTORCH_CUDA_ALLOC_CONF` with a torch that is known to be 2.10 or 2.11.

    ## Why is this bad?
    Every process warns that it is deprecated. Later versions take both names without a message.

    ## Example
    ```bash launch.sh torch=2.10
    export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh torch=2.10
    export PYTORCH_ALLOC_CONF=expandable_segments:True
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    torch 2.10 and 2.11. 2.9 warns too, but ignores `expandable_segments` under the new name on CUDA.

    ## References
    - PriorLabs/TabPFN#608
    - pytorch/pytorch#183387
    """
    here: Setting | None = unit.setting("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
    if (
        here is not None
        and unit.version is not None
        and unit.since("2.10")
        and unit.before("2.12")
        and "PYTORCH_ALLOC_CONF" not in unit
    ):
        yield Problem(
            here,
            f"torch {unit.target} warns that {here.name} is now PYTORCH_ALLOC_CONF",
            rename(here, "PYTORCH_ALLOC_CONF"),
        )
