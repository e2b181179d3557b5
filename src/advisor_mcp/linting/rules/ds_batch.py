"""DeepSpeed's batch sizes, and how its file is read."""

from __future__ import annotations

from math import prod

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.rules._ft import all_used
from advisor_mcp.linting.rules._hf import full, integrated
from advisor_mcp.linting.unit import Unit

BATCH = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")


def _ranks(unit: Unit, job: Job) -> int | None:
    """Data-parallel ranks: the world over tensor, pipeline and sequence parallelism; None where not known."""
    world = job.world_size(unit)
    shares = [
        unit.number(name, 1) for name in ("tensor_parallel.autotp_size", "sequence_parallel_size", "pipeline.stages")
    ]
    for other in job.others("megatron-lm"):
        shares += [other.size("tensor_parallel"), other.size("pipeline_parallel")]
    if world is None or any(share is None for share in shares):
        return None
    share = int(prod(max(int(share or 1), 1) for share in shares))
    return world // share if world % share == 0 else None


@rule("DS001", "mismatched-batch-arithmetic", tools=("deepspeed",), harm="crash", causes=("batch-arithmetic",))
def mismatched_batch_arithmetic(unit: Unit, job: Job) -> Found:
    """Allow mismatched-batch-arithmetic.

    ## What it does
    Checks that `train_batch_size` is `train_micro_batch_size_per_gpu` x `gradient_accumulation_steps` x the number of
    data-parallel ranks, or a multiple of those that are set. Where the world size is not known, that it is a multiple of
    the product of the others.

    ## Why is this bad?
    DeepSpeed stops at start: "train_batch_size is not equal to micro_batch_per_gpu * gradient_acc_step * world_size".

    ## Example
    ```json ds_config.json world_size=8
    {"train_batch_size": 256, "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 4}
    ```

    ## Use instead
    ```json ds_config.json world_size=8
    {"train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 8}
    ```

    ## Versions
    All. The world is divided by the sizes of tensor, pipeline and sequence parallelism first. DeepSpeed derives the one of
    the three that is missing, and rounds down before it compares.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/config.py, _batch_assertion
    - deepspeedai/DeepSpeed#6914
    - hiyouga/LlamaFactory#2574
    """
    if unit.on("elasticity.enabled") or "train_batch_size" not in unit:
        return
    known = [unit[name] for name in BATCH if name in unit]
    total, *parts = (unit.whole(setting.name) for setting in known)
    if not total or any(not part for part in parts):
        return
    setting, also = unit["train_batch_size"], tuple(known[1:])
    product, named = prod(part or 1 for part in parts), " x ".join(s.written for s in also)
    ranks = _ranks(unit, job)
    fix = remove(setting, why="DeepSpeed derives it from the other two and the world size") if len(parts) == 2 else None
    if total % product:
        yield Problem(setting, f"train_batch_size {total} is no multiple of {named} = {product}", fix, also)
    elif ranks is None:
        yield Skipped("the world size")
    elif len(parts) == 2 and total != product * ranks:
        said = f"{' x '.join(str(part) for part in parts)} x {ranks} ranks = {product * ranks}"
        yield Problem(
            setting,
            f"train_batch_size is {total}, but micro batch x accumulation x data-parallel ranks is {said}",
            fix,
            also,
        )
    elif total % (product * ranks):
        said = f"{named} {product} x {ranks} ranks" if also else f"{ranks} ranks"
        yield Problem(
            setting,
            f"train_batch_size {total} is no multiple of {said}",
            advise(f"use a multiple of {product * ranks}"),
            also,
        )


@rule("DS002", "missing-batch-size", tools=("deepspeed",), harm="crash", causes=("batch-missing",))
def missing_batch_size(unit: Unit, job: Job) -> Found:
    """Allow missing-batch-size.

    ## What it does
    Finds a DeepSpeed configuration with neither `train_batch_size` nor `train_micro_batch_size_per_gpu` that nothing
    completes: no value is `auto`, and no trainer or accelerate configuration is beside it.

    ## Why is this bad?
    `deepspeed.initialize` stops: "Either train_batch_size or train_micro_batch_size_per_gpu needs to be provided".

    ## Example
    ```json ds_config.json
    {"gradient_accumulation_steps": 4, "zero_optimization": {"stage": 2}, "bf16": {"enabled": true}}
    ```

    ## Use instead
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 4, "zero_optimization": {"stage": 2}}
    ```

    ## Versions
    All. Lightning, Ray Train and accelerate complete the file when they are given a data loader.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/config.py, _set_batch_related_parameters
    - deepspeedai/DeepSpeed#17
    """
    training = unit.setting("gradient_accumulation_steps", "optimizer", "scheduler")
    if training is None or integrated(unit, job) or unit.on("elasticity.enabled"):
        return
    if unit.absent("train_batch_size", "train_micro_batch_size_per_gpu", "train_batch_size_per_gpu"):
        fix = add_after(training, "train_micro_batch_size_per_gpu", 1, why='or "auto" where transformers fills it in')
        yield Problem(training, "neither train_batch_size nor train_micro_batch_size_per_gpu is set", fix)


@rule("DS003", "batch-size-under-elasticity", tools=("deepspeed",), harm="crash", causes=("elastic-batch",))
def batch_size_under_elasticity(unit: Unit, job: Job) -> Found:
    """Allow batch-size-under-elasticity.

    ## What it does
    Finds batch sizes beside `elasticity.enabled: true`.

    ## Why is this bad?
    Elastic training chooses them and refuses others: "One or more batch related parameters were found in your ds_config".

    ## Example
    ```json ds_config.json
    {
      "train_batch_size": 64,
      "zero_optimization": {"stage": 1},
      "elasticity": {"enabled": true, "max_train_batch_size": 2000, "micro_batch_sizes": [2, 4], "min_gpus": 1, "max_gpus": 64}
    }
    ```

    ## Use instead
    ```json ds_config.json
    {
      "zero_optimization": {"stage": 1},
      "elasticity": {"enabled": true, "max_train_batch_size": 2000, "micro_batch_sizes": [2, 4], "min_gpus": 1, "max_gpus": 64}
    }
    ```

    ## Versions
    All. `elasticity.ignore_non_elastic_batch_info: true` makes DeepSpeed ignore them instead.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/config.py, DeepSpeedConfig.__init__
    """
    elastic = unit.on("elasticity.enabled")
    if elastic is None or unit.truth("elasticity.ignore_non_elastic_batch_info") is not False:
        return
    if found := all_used(unit, BATCH):
        fix = remove(*found, why="elasticity chooses them")
        yield Problem(found[0], f"{full(found[0])} is refused while elasticity is enabled", fix, (*found[1:], elastic))


RAW = (*BATCH, "optimizer.params.lr", "optimizer.params.eps", "optimizer.params.weight_decay")


@rule("DS005", "text-for-a-number", tools=("deepspeed",), harm="crash", causes=("string-number",))
def text_for_a_number(unit: Unit, job: Job) -> Found:
    """Allow text-for-a-number.

    ## What it does
    Finds batch sizes and the optimizer's numbers written as text in a DeepSpeed file.

    ## Why is this bad?
    DeepSpeed takes them as they stand and calculates with text; transformers compares them with its own numbers: "ds
    gradient_accumulation_steps=8 vs hf gradient_accumulation_steps=8".

    ## Example
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": "8", "zero_optimization": {"stage": 2}}
    ```

    ## Use instead
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 8, "zero_optimization": {"stage": 2}}
    ```

    ## Versions
    All. Sections that DeepSpeed types (`zero_optimization`, `fp16`) are another matter: there text becomes a number.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/config.py, get_train_batch_size
    - hiyouga/LlamaFactory#1116
    """
    for name in RAW:
        found, number = unit.settings.get(name), unit.number(name)
        option = unit.option(name)
        typed = option is not None and (option.type != "any" or isinstance(option.default, int | float))
        if found is not None and isinstance(found.value, str) and number is not None and not typed:
            yield Problem(found, f"{full(found)} is text, not a number", set_value(found, number, safe=True))
