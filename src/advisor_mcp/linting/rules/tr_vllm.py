"""TRL's GRPO and RLOO: the GPUs and memory that vLLM gets beside training."""

from __future__ import annotations

from math import gcd

from advisor_mcp.linting.edits import advise, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.rules._hf import grouped, lower
from advisor_mcp.linting.unit import Unit

TRL = ("trl",)
PER_TOKEN = ("bnpo", "dr_grpo", "dapo", "cispo")


@rule("TR008", "vllm-groups-that-do-not-fit", tools=TRL, harm="crash", causes=("grpo-vllm-tp",))
def vllm_groups_that_do_not_fit(unit: Unit, job: Job) -> Found:
    """Allow vllm-groups-that-do-not-fit.

    ## What it does
    Checks that `vllm_tensor_parallel_size` divides the number of training processes when vLLM runs beside them
    (`vllm_mode: colocate`).

    ## Why is this bad?
    TRL stops: "vllm_tensor_parallel_size (4) must divide world size (6) evenly."

    ## Example
    ```yaml train.yaml world_size=6
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    num_generations: 6
    use_vllm: true
    vllm_mode: colocate
    vllm_tensor_parallel_size: 4
    ```

    ## Use instead
    ```yaml train.yaml world_size=6
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    num_generations: 6
    use_vllm: true
    vllm_mode: colocate
    vllm_tensor_parallel_size: 2
    ```

    ## Versions
    Since TRL 0.18; colocate is the default mode since 1.0.

    ## References
    - trl 1.16.0, generation/vllm_generation.py
    """
    size, mode = (
        unit.whole("vllm_tensor_parallel_size"),
        lower(unit, "vllm_mode", "colocate" if unit.since("1.0") else "server"),
    )
    if not grouped(unit) or not size or size < 2 or mode != "colocate" or unit.on("use_vllm") is None:
        return
    world, setting = job.world_size(unit), unit["vllm_tensor_parallel_size"]
    if world is None:
        yield Skipped("the world size")
    elif world % size:
        yield Problem(
            setting, f"{setting.shown} does not divide the {world} processes", set_value(setting, gcd(size, world))
        )


@rule("TR009", "no-gpu-left-for-vllm", tools=TRL, harm="crash", causes=("grpo-vllm-device",))
def no_gpu_left_for_vllm(unit: Unit, job: Job) -> Found:
    """Allow no-gpu-left-for-vllm.

    ## What it does
    Finds `use_vllm: true` with a training process on every GPU in versions of TRL that keep one GPU for vLLM.

    ## Why is this bad?
    TRL stops: "The requested device for vllm (cuda:8) is not available. You are likely using vLLM without restricting the
    number of GPUs for training."

    ## Example
    ```yaml train.yaml trl=0.15.2 world_size=8 gpus_per_node=8
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    num_generations: 8
    use_vllm: true
    ```

    ## Use instead
    ```yaml train.yaml trl=0.15.2 world_size=7 gpus_per_node=8
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    num_generations: 7
    use_vllm: true
    ```

    ## Versions
    TRL 0.14 to 0.16; later versions use a server (`trl vllm-serve`) or share the GPUs.

    ## References
    - trl 0.15.2, trainer/grpo_trainer.py
    - huggingface/open-r1#249
    """
    vllm, world, gpus = unit.on("use_vllm"), job.world_size(unit), job.gpus_per_node
    if (
        unit.scope != "grpo"
        or vllm is None
        or unit.since("0.17")
        or (lower(unit, "vllm_device", "auto") or "") != "auto"
    ):
        return
    if world and gpus and 1 < gpus <= world:
        yield Problem(
            vllm,
            f"{vllm.shown} needs a GPU of its own, and {world} processes use all {gpus}",
            advise(f"start {gpus - 1} processes"),
        )


@rule(
    "TR016",
    "memory-left-for-training",
    tools=TRL,
    harm="oom",
    severity="warning",
    causes=("grpo-vllm-memory",),
)
def memory_left_for_training(unit: Unit, job: Job) -> Found:
    """Allow memory-left-for-training.

    ## What it does
    Finds a `vllm_gpu_memory_utilization` of 0.8 or more where vLLM runs in the training processes (`vllm_mode: colocate`)
    and does not sleep.

    ## Why is this bad?
    vLLM takes that share of each GPU for good; weights, gradients, optimizer and activations must fit into the rest:
    "CUDA out of memory". TRL lowered its own default from 0.9 to 0.3 for this reason.

    ## Example
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    num_generations: 8
    use_vllm: true
    vllm_mode: colocate
    vllm_gpu_memory_utilization: 0.9
    ```

    ## Use instead
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    num_generations: 8
    use_vllm: true
    vllm_mode: colocate
    vllm_gpu_memory_utilization: 0.3
    ```

    ## Versions
    Since TRL 0.18; colocate is the default mode since 1.0, and `vllm_enable_sleep_mode` frees the memory since 0.23.

    ## References
    - huggingface/trl#2688
    - huggingface/trl#3968
    - trl 1.16.0, trainer/grpo_config.py
    """
    share, mode = (
        unit.number("vllm_gpu_memory_utilization"),
        lower(unit, "vllm_mode", "colocate" if unit.since("1.0") else "server"),
    )
    if not grouped(unit) or share is None or not 0.8 <= share <= 1 or mode != "colocate" or unit.on("use_vllm") is None:
        return
    if unit.truth("vllm_enable_sleep_mode", False) is False:
        found = unit["vllm_gpu_memory_utilization"]
        yield Problem(
            found,
            f"{found.shown} leaves {1 - share:.0%} of each GPU to training",
            set_value(found, 0.3, why="or let vLLM sleep while training: vllm_enable_sleep_mode"),
        )
