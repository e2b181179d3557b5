"""DeepSpeed: the groups of processes that ZeRO++ and MiCS make."""

from __future__ import annotations

from advisor_mcp.linting.edits import Fix, advise, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.rules._hf import full
from advisor_mcp.linting.unit import Unit

HPZ, MICS = "zero_optimization.zero_hpz_partition_size", "zero_optimization.mics_shard_size"


@rule("DS111", "shard-group-that-does-not-divide", tools=("deepspeed",), harm="crash", causes=("zero-group-size",))
def shard_group_that_does_not_divide(unit: Unit, job: Job) -> Found:
    """Allow shard-group-that-does-not-divide.

    ## What it does
    Checks that `zero_hpz_partition_size` (ZeRO++) and `mics_shard_size` (MiCS) divide the number of processes.

    ## Why is this bad?
    The processes are dealt out in groups of that size: "16 is not divisible by 6", "dp group size is not dividable by
    dp_shard_size".

    ## Example
    ```json ds_config.json world_size=16
    {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3, "zero_hpz_partition_size": 6}}
    ```

    ## Use instead
    ```json ds_config.json world_size=16
    {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3, "zero_hpz_partition_size": 8}}
    ```

    ## Versions
    Since deepspeed 0.10. ZeRO++ takes a size above the number of processes as that number.

    ## References
    - deepspeed 0.19.8, deepspeed/utils/groups.py, _create_zero_param_parallel_group
    - deepspeed 0.19.8, deepspeed/runtime/zero/mics_utils.py, _generate_mics_config
    - https://www.deepspeed.ai/tutorials/zeropp/
    """
    for name in (HPZ, MICS):
        size, world = unit.whole(name, 0), job.world_size(unit)
        if size is None or size < 2 or unit.number("zero_optimization.stage", 0) != 3:
            continue
        if world is None:
            yield Skipped("the world size")
        elif world % (min(size, world) if name == HPZ else size):
            found = unit[name]
            yield Problem(
                found, f"{full(found)} does not divide the {world} processes", _closest(unit, job, name, world)
            )


def _closest(unit: Unit, job: Job, name: str, world: int) -> Fix:
    """The GPUs of a node where they are known and divide, as the documentation recommends."""
    gpus = job.gpus_per_node or 8
    return set_value(unit[name], gpus) if world % gpus == 0 else advise(f"use a divisor of {world}")


@rule(
    "DS112",
    "secondary-partition-across-nodes",
    tools=("deepspeed",),
    harm="slow",
    severity="warning",
    causes=("hpz-across-nodes",),
)
def secondary_partition_across_nodes(unit: Unit, job: Job) -> Found:
    """Allow secondary-partition-across-nodes.

    ## What it does
    Finds a `zero_hpz_partition_size` above the GPUs of a node.

    ## Why is this bad?
    ZeRO++ keeps a second copy of the parameters in each group, so that the backward pass gathers them within a node. A
    group over several nodes costs the memory and still uses the slow network.

    ## Example
    ```json ds_config.json world_size=32 gpus_per_node=8
    {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3, "zero_hpz_partition_size": 16}}
    ```

    ## Use instead
    ```json ds_config.json world_size=32 gpus_per_node=8
    {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3, "zero_hpz_partition_size": 8}}
    ```

    ## Versions
    Since deepspeed 0.10.

    ## References
    - https://www.deepspeed.ai/tutorials/zeropp/
    - https://www.deepspeed.ai/tutorials/mixed_precision_zeropp/
    """
    size, gpus = unit.whole(HPZ, 0), job.gpus_per_node
    if size is None or size < 2 or unit.number("zero_optimization.stage", 0) != 3:
        return
    if gpus is None:
        yield Skipped("the GPUs of a node")
    elif size > gpus:
        found = unit[HPZ]
        yield Problem(found, f"{full(found)} spans nodes of {gpus} GPUs", set_value(found, gpus))
