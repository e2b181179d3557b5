"""torchtune: many GPUs."""

from __future__ import annotations

from pathlib import PurePosixPath

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.rules._ft import idle, used
from advisor_mcp.linting.rules._tt import is_lora
from advisor_mcp.linting.unit import Unit


def degree(unit: Unit, name: str, default: int = 1) -> int | None:
    """The size of a parallel dimension; None where it is not known."""
    return unit.whole(name, default) if name in unit and unit[name].value is not None else default


@rule(
    "TT104", "fused-optimizer-under-tensor-parallelism", tools=("torchtune",), harm="crash", causes=("tp-fused-optim",)
)
def fused_optimizer_under_tensor_parallelism(unit: Unit, job: Job) -> Found:
    """Allow fused-optimizer-under-tensor-parallelism.

    ## What it does
    Finds `tensor_parallel_dim` above 1 with `optimizer.fused: true`.

    ## Why is this bad?
    Sharded and whole parameters meet in one fused call: "Tensor parallelism is currently incompatible with fused
    optimizer."

    ## Example
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    optimizer:
      _component_: torch.optim.AdamW
      lr: 2e-5
      fused: true
    tensor_parallel_dim: 4
    tensor_parallel_plan:
      _component_: torchtune.models.llama3.base_llama_tp_plan
    ```

    ## Use instead
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    optimizer:
      _component_: torch.optim.AdamW
      lr: 2e-5
      fused: false
    tensor_parallel_dim: 4
    tensor_parallel_plan:
      _component_: torchtune.models.llama3.base_llama_tp_plan
    ```

    ## Versions
    torchtune 0.6; the main branch (0.7) allows it.

    ## References
    - meta-pytorch/torchtune#2501
    - torchtune 0.6.1, recipes/full_finetune_distributed.py
    """
    size, fused = degree(unit, "tensor_parallel_dim"), used(unit, "optimizer.fused")
    if size and size > 1 and fused and (unit.version is None or unit.before("0.7")):
        yield Problem(
            fused,
            "a fused optimizer does not work with tensor parallelism",
            set_value(fused, False),
            (unit["tensor_parallel_dim"],),
        )


@rule(
    "TT105",
    "tensor-parallelism-without-plan",
    tools=("torchtune",),
    harm="crash",
    causes=("tp-plan", "tp-restrictions"),
)
def tensor_parallelism_without_plan(unit: Unit, job: Job) -> Found:
    """Allow tensor-parallelism-without-plan.

    ## What it does
    Checks that `tensor_parallel_dim` above 1 has a `tensor_parallel_plan`, and no LoRA model.

    ## Why is this bad?
    "Tensor Parallel plan needs to be provided when tensor parallel is enabled.", "Tensor parallelism is not supported in
    this recipe. Please set tensor_parallel_dim to 1."

    ## Example
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    tensor_parallel_dim: 4
    ```

    ## Use instead
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    tensor_parallel_dim: 4
    tensor_parallel_plan:
      _component_: torchtune.models.llama3.base_llama_tp_plan
    ```

    ## Versions
    torchtune 0.6 and later; LoRA recipes never had it.

    ## References
    - torchtune 0.6.1, recipes/full_finetune_distributed.py
    - meta-pytorch/torchtune@bd2a0fc, recipes/lora_finetune_distributed.py
    """
    size = degree(unit, "tensor_parallel_dim")
    if not size or size <= 1:
        return
    setting = unit["tensor_parallel_dim"]
    if is_lora(unit):
        yield Problem(
            setting, "the LoRA recipes have no tensor parallelism", set_value(setting, 1), (unit["model._component_"],)
        )
    elif idle(unit, "tensor_parallel_plan") and not unit.section("tensor_parallel_plan"):
        fix = advise("set tensor_parallel_plan, such as torchtune.models.llama3.base_llama_tp_plan")
        yield Problem(setting, "tensor_parallel_dim needs a tensor_parallel_plan", fix)


@rule(
    "TT106",
    "parallel-sizes-and-world",
    tools=("torchtune",),
    harm="crash",
    causes=("world-size-product", "ranks-gt-gpus"),
)
def parallel_sizes_and_world(unit: Unit, job: Job) -> Found:
    """Allow parallel-sizes-and-world.

    ## What it does
    Checks that data, tensor and context parallelism multiply to the number of GPUs, and that CPU offloading has data
    parallelism left to shard.

    ## Why is this bad?
    "Invalid parallel dims: dp_replicate * dp_shard * tp != WORLD_SIZE", "world_size must be divisible by
    tensor_parallel_dim", "Tensor parallelism is not supported with FSDP CPU offloading when data parallelism is disabled."

    ## Example
    ```yaml recipe.yaml world_size=8
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    tensor_parallel_dim: 3
    tensor_parallel_plan:
      _component_: torchtune.models.llama3.base_llama_tp_plan
    ```

    ## Use instead
    ```yaml recipe.yaml world_size=8
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    tensor_parallel_dim: 4
    tensor_parallel_plan:
      _component_: torchtune.models.llama3.base_llama_tp_plan
    ```

    ## Versions
    torchtune 0.6 and later; the other sizes since 0.7.

    ## References
    - torchtune 0.6.1, recipes/full_finetune_distributed.py
    - meta-pytorch/torchtune@bd2a0fc, torchtune/training/_distributed.py, ParallelDims
    """
    names = ("tensor_parallel_dim", "context_parallel_dim", "data_parallel_replicate_dim", "data_parallel_shard_dim")
    written = [unit[name] for name in names if name in unit and unit[name].value is not None]
    sizes = [degree(unit, name) for name in names[:3]]
    shard = degree(unit, "data_parallel_shard_dim", -1)
    if not written or None in sizes or shard is None:
        return
    product = 1
    for size in sizes:
        product *= size or 1
    if product == 1 and shard == -1:
        return
    world = job.world_size(unit)
    if world is None:
        yield Skipped("the world size")
        return
    whole_product = product * (shard if shard > 0 else 1)
    if (shard > 0 and whole_product != world) or world % whole_product:
        yield Problem(
            written[0],
            f"the parallel sizes multiply to {whole_product}, which does not fit {world} GPUs",
            None,
            tuple(written[1:]),
        )
    elif (offload := used(unit, "fsdp_cpu_offload")) and (sizes[0] or 1) == world:
        yield Problem(
            offload,
            "fsdp_cpu_offload has nothing to shard when all GPUs are tensor parallel",
            set_value(offload, False),
            (written[0],),
        )


@rule("TT115", "launcher-of-the-other-kind", tools=("torchrun",), harm="crash", causes=("tune-launch",))
def launcher_of_the_other_kind(unit: Unit, job: Job) -> Found:
    """Allow launcher-of-the-other-kind.

    ## What it does
    Finds `tune run` of a `..._distributed` recipe without `--nproc_per_node`, and of a `..._single_device` recipe with it.

    ## Why is this bad?
    "Distributed finetune recipe should be run via a distributed launcher. If using tune CLI, please specify --nnodes 1 and
    --nproc_per_node [num_gpus]", "Recipe lora_finetune_single_device does not support distributed training."

    ## Example
    ```bash train.sh
    tune run full_finetune_distributed --config llama3_1/8B_full
    ```

    ## Use instead
    ```bash train.sh
    tune run --nproc_per_node 4 full_finetune_distributed --config llama3_1/8B_full
    ```

    ## Versions
    All.

    ## References
    - torchtune 0.6.1, _cli/run.py
    - torchtune 0.6.1, recipes/full_finetune_distributed.py
    """
    recipe = PurePosixPath(unit.entry_point).name.removesuffix(".py")
    if unit.program != "tune run" or unit.open:
        return
    launch = unit.setting("nproc_per_node", "nnodes", "standalone", "rdzv_endpoint")
    if recipe.endswith("_distributed") and launch is None:
        yield Problem(
            unit, f"{recipe} needs --nproc_per_node before its name", advise("write tune run --nproc_per_node N")
        )
    elif recipe.endswith("_single_device") and launch is not None:
        yield Problem(launch, f"{recipe} runs on one device only", remove(launch))
