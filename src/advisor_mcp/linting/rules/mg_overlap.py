"""What Megatron overlaps with communication, and the environment that needs."""

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity
from advisor_mcp.linting.rules._mg import (
    environment_is_known,
    find,
    megatron_rule,
    needs,
    on,
    said,
    size,
    switch,
)
from advisor_mcp.linting.unit import Unit


@megatron_rule("MG025", "missing-max-connections", harm="crash", causes=("max-connections",), tools=("megatron-lm",))
def missing_max_connections(unit: Unit, job: Job) -> Found:
    """Allow missing-max-connections.

    ## What it does
    Looks for tensor or context parallelism without `CUDA_DEVICE_MAX_CONNECTIONS=1` in the environment, on GPUs before
    Blackwell and without FSDP.

    ## Why is this bad?
    Overlapping communication and matrix products relies on kernels starting in the order they were launched, which one
    connection guarantees. Megatron stops: "... require setting the environment variable CUDA_DEVICE_MAX_CONNECTIONS
    to 1".

    ## Example
    ```bash launch.sh gpu=h100-sxm-80gb
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 4 --sequence-parallel
    ```

    ## Use instead
    ```bash launch.sh gpu=h100-sxm-80gb
    export CUDA_DEVICE_MAX_CONNECTIONS=1
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 4 --sequence-parallel
    ```

    ## Versions
    All; not on Blackwell and later. A warning where the GPU or the rest of the environment is not known.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    blackwell = job.gpu is not None and job.gpu.below(10) is False
    if blackwell or switch(
        unit, "use_torch_fsdp2", "use_megatron_fsdp", "use_custom_fsdp", "overlap_moe_expert_parallel_comm"
    ):
        return
    for name in ("tensor_model_parallel_size", "context_parallel_size"):
        here, held = find(unit, name), unit.env.get("CUDA_DEVICE_MAX_CONNECTIONS")
        if here is None or (size(unit, name) or 1) < 2:
            continue
        if held is not None and held.known and str(held.value) != "1":
            yield Problem(
                held,
                f"{said(here)} needs CUDA_DEVICE_MAX_CONNECTIONS=1, and it is {held.value}",
                set_value(held, 1),
                (here,),
            )
            return
        if held is None and unit.launcher is not None and environment_is_known(unit):
            sure: Severity = "error" if job.gpu is not None else "warning"
            fix = advise("export CUDA_DEVICE_MAX_CONNECTIONS=1 before it")
            yield Problem(
                here, f"{said(here)} needs CUDA_DEVICE_MAX_CONNECTIONS=1, and nothing here sets it", fix, severity=sure
            )
            return


@megatron_rule(
    "MG026",
    "single-connection-fsdp",
    harm="crash",
    causes=("max-connections-fsdp",),
    tools=("megatron-lm", "megatron-bridge"),
)
def single_connection_fsdp(unit: Unit, job: Job) -> Found:
    """Allow single-connection-fsdp.

    ## What it does
    Looks for `CUDA_DEVICE_MAX_CONNECTIONS=1` with one of Megatron's FSDP implementations.

    ## Why is this bad?
    One connection puts the prefetching of the next layer's weights into one line with the computation. Megatron stops:
    "FSDP always requires CUDA_DEVICE_MAX_CONNECTIONS value large than one".

    ## Example
    ```bash launch.sh
    export CUDA_DEVICE_MAX_CONNECTIONS=1
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --use-torch-fsdp2
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --use-torch-fsdp2
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    fsdp, held = (
        switch(unit, "use_torch_fsdp2", "use_megatron_fsdp", "use_custom_fsdp"),
        unit.env.get("CUDA_DEVICE_MAX_CONNECTIONS"),
    )
    if fsdp is not None and held is not None and held.known and str(held.value) == "1":
        yield Problem(
            held,
            f"{fsdp.written} needs CUDA_DEVICE_MAX_CONNECTIONS unset or above 1, and it is 1",
            remove(held),
            (fsdp,),
        )


@megatron_rule(
    "MG029",
    "tp-overlap-without-sequence-parallelism",
    harm="crash",
    causes=("tp-comm-overlap",),
    tools=("megatron-lm",),
)
def tp_overlap_without_sequence_parallelism(unit: Unit, job: Job) -> Found:
    """Allow tp-overlap-without-sequence-parallelism.

    ## What it does
    Looks for `--tp-comm-overlap` without `--sequence-parallel`, which includes a tensor-parallel size of 1.

    ## Why is this bad?
    Megatron stops: the overlap works on the gather and scatter that sequence parallelism makes.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 8 --tp-comm-overlap
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 8 \\
      --sequence-parallel --tp-comm-overlap
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    yield from needs(unit, "tp_comm_overlap", "sequence_parallel", "it overlaps the gather and scatter of the sequence")
    here = switch(unit, "tp_comm_overlap")
    if here is not None and on(unit, "sequence_parallel") and size(unit, "tensor_model_parallel_size") == 1:
        yield Problem(
            here,
            f"{here.written} needs sequence parallelism, which a tensor-parallel size of 1 turns off",
            remove(here),
        )
