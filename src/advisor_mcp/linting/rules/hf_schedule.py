"""TrainingArguments: warm-up, learning rate schedules and optimizers."""

from __future__ import annotations

from advisor_mcp.linting.concepts import HF_FAMILY
from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import idle, used
from advisor_mcp.linting.rules._hf import lower, named_before, named_since
from advisor_mcp.linting.unit import Unit, as_number

MINIMUM = ("cosine_with_min_lr", "cosine_warmup_with_min_lr")
LOW_RANK = ("galore_", "apollo_")


@rule("HF101", "warmup-out-of-range", tools=HF_FAMILY, harm="crash", causes=("warmup-range",))
def warmup_out_of_range(unit: Unit, job: Job) -> Found:
    """Allow warmup-out-of-range.

    ## What it does
    Finds a `warmup_ratio` outside 0 to 1, negative `warmup_steps`, and, before transformers 5, `warmup_steps` that is no
    whole number.

    ## Why is this bad?
    transformers stops: "warmup_ratio must lie in range [0,1]", "warmup_steps must be of type int and must be 0 or a
    positive integer".

    ## Example
    ```yaml train.yaml transformers=4.57.6
    output_dir: out
    per_device_train_batch_size: 4
    warmup_ratio: 3
    ```

    ## Use instead
    ```yaml train.yaml transformers=4.57.6
    output_dir: out
    per_device_train_batch_size: 4
    warmup_ratio: 0.03
    ```

    ## Versions
    All. transformers 5 takes a ratio as `warmup_steps` below 1 and has no `warmup_ratio`.

    ## References
    - transformers 4.57.6, training_args.py, __post_init__
    - transformers 5.23.0, training_args.py, _validate_args
    """
    ratio, steps = unit.number("warmup_ratio", 0), unit.number("warmup_steps", 0)
    if ratio is not None and not 0 <= ratio <= 1:
        fix = set_value(unit["warmup_ratio"], ratio / 100) if 1 < ratio < 100 else remove(unit["warmup_ratio"])
        yield Problem(unit["warmup_ratio"], f"{unit['warmup_ratio'].shown} is outside 0 to 1", fix)
    if steps is None:
        return
    if steps < 0:
        yield Problem(
            unit["warmup_steps"], f"{unit['warmup_steps'].shown} is negative", set_value(unit["warmup_steps"], 0)
        )
    elif steps != int(steps) and named_before(unit, "transformers", "5.0"):
        fix = advise("give a share of the run as warmup_ratio")
        yield Problem(
            unit["warmup_steps"], f"{unit['warmup_steps'].shown} is no whole number, which transformers 4 requires", fix
        )


@rule("HF102", "warmup-given-twice", tools=HF_FAMILY, harm="unintended", severity="info", causes=("warmup-both",))
def warmup_given_twice(unit: Unit, job: Job) -> Found:
    """Allow warmup-given-twice.

    ## What it does
    Finds `warmup_ratio` and `warmup_steps` both above 0.

    ## Why is this bad?
    The steps win and the ratio is ignored.

    ## Example
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 4
    warmup_ratio: 0.1
    warmup_steps: 100
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 4
    warmup_steps: 100
    ```

    ## Versions
    transformers 4; 5 has no `warmup_ratio`.

    ## References
    - transformers 4.57.6, training_args.py, __post_init__
    """
    ratio, steps = used(unit, "warmup_ratio"), used(unit, "warmup_steps")
    if ratio and steps and as_number(ratio.value) and as_number(steps.value):
        yield Problem(ratio, f"{ratio.shown} is ignored beside {steps.shown}", remove(ratio), (steps,))


@rule(
    "HF103", "warmup-without-effect", tools=HF_FAMILY, harm="wrong_lr", severity="warning", causes=("warmup-constant",)
)
def warmup_without_effect(unit: Unit, job: Job) -> Found:
    """Allow warmup-without-effect.

    ## What it does
    Finds a warm-up with `lr_scheduler_type: constant`.

    ## Why is this bad?
    The constant schedule takes no warm-up: the run begins at the full learning rate. `constant_with_warmup` does.

    ## Example
    ```yaml train.yaml
    output_dir: out
    lr_scheduler_type: constant
    warmup_steps: 100
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    lr_scheduler_type: constant_with_warmup
    warmup_steps: 100
    ```

    ## Versions
    All.

    ## References
    - transformers 5.23.0, optimization.py, get_scheduler
    """
    schedule, warmup = lower(unit, "lr_scheduler_type"), used(unit, "warmup_steps", "warmup_ratio")
    if schedule == "constant" and warmup is not None and as_number(warmup.value):
        setting = unit["lr_scheduler_type"]
        yield Problem(
            warmup,
            f"{warmup.shown} does nothing with {setting.shown}",
            set_value(setting, "constant_with_warmup"),
            (setting,),
        )


@rule(
    "HF104", "warmup-beyond-the-run", tools=HF_FAMILY, harm="wrong_lr", severity="warning", causes=("warmup-gt-steps",)
)
def warmup_beyond_the_run(unit: Unit, job: Job) -> Found:
    """Allow warmup-beyond-the-run.

    ## What it does
    Finds `warmup_steps` that are not below `max_steps`.

    ## Why is this bad?
    The learning rate is still rising when the run ends and never reaches the value that was set.

    ## Example
    ```yaml train.yaml
    output_dir: out
    max_steps: 500
    warmup_steps: 1000
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    max_steps: 500
    warmup_steps: 25
    ```

    ## Versions
    All.

    ## References
    - transformers 5.23.0, optimization.py, get_linear_schedule_with_warmup
    """
    limit, warmup = unit.number("max_steps", -1), unit.number("warmup_steps", 0)
    if limit and warmup and limit > 1 and warmup >= limit:
        fix = set_value(unit["warmup_steps"], max(int(limit * 0.05), 1))
        yield Problem(
            unit["warmup_steps"],
            f"{unit['warmup_steps'].shown} in a run of max_steps {limit:g}",
            fix,
            (unit["max_steps"],),
        )


@rule("HF105", "schedule-without-its-parameters", tools=HF_FAMILY, harm="crash", causes=("scheduler-kwargs",))
def schedule_without_its_parameters(unit: Unit, job: Job) -> Found:
    """Allow schedule-without-its-parameters.

    ## What it does
    Finds `cosine_with_min_lr` without `min_lr` or `min_lr_rate` in `lr_scheduler_kwargs`, or with both, and
    `warmup_stable_decay` without `num_decay_steps`.

    ## Why is this bad?
    The schedule cannot be built: "One of min_lr or min_lr_rate should be set through the `lr_scheduler_kwargs`", "Only
    one of min_lr or min_lr_rate should be set", "missing 1 required positional argument: 'num_decay_steps'".

    ## Example
    ```yaml train.yaml
    output_dir: out
    lr_scheduler_type: cosine_with_min_lr
    learning_rate: 2.0e-5
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    lr_scheduler_type: cosine_with_min_lr
    lr_scheduler_kwargs: {min_lr_rate: 0.1}
    learning_rate: 2.0e-5
    ```

    ## Versions
    All that have them (cosine_with_min_lr since transformers 4.38, warmup_stable_decay since 4.41).

    ## References
    - transformers 5.23.0, optimization.py, get_cosine_with_min_lr_schedule_with_warmup
    """
    schedule, kwargs = lower(unit, "lr_scheduler_type") or "", unit.setting("lr_scheduler_kwargs")
    if kwargs is not None and not (isinstance(kwargs.value, dict) or kwargs.value in (None, "")):
        said = str(kwargs.value) if kwargs.known else "min_lr num_decay_steps"  # JSON in text: its keys are enough
        keys = {
            name for name in ("min_lr", "min_lr_rate", "num_decay_steps") if f'"{name}"' in said or not kwargs.known
        }
    else:
        keys = set(unit.section("lr_scheduler_kwargs"))
    setting = unit.setting("lr_scheduler_type")
    if setting is None or (kwargs is None and unit.open) or (kwargs is not None and not kwargs.known):
        return
    if schedule in MINIMUM and {"min_lr", "min_lr_rate"} <= keys:
        yield Problem(
            kwargs or setting,
            f"{schedule} takes min_lr or min_lr_rate, not both",
            advise("keep one of them"),
            (setting,),
        )
    elif schedule in MINIMUM and not keys & {"min_lr", "min_lr_rate"}:
        fix = (
            add_after(setting, "lr_scheduler_kwargs", {"min_lr_rate": 0.1})
            if kwargs is None and setting.syntax == "json"
            else advise("set lr_scheduler_kwargs: {min_lr_rate: 0.1}")
        )
        yield Problem(setting, f"{setting.shown} needs min_lr or min_lr_rate in lr_scheduler_kwargs", fix)
    elif schedule == "warmup_stable_decay" and "num_decay_steps" not in keys:
        yield Problem(
            setting,
            f"{setting.shown} needs num_decay_steps in lr_scheduler_kwargs",
            advise("set lr_scheduler_kwargs: {num_decay_steps: ...}"),
        )


@rule(
    "HF106", "low-rank-optimizer-without-targets", tools=("hf_trainer", "trl"), harm="crash", causes=("galore-targets",)
)
def low_rank_optimizer_without_targets(unit: Unit, job: Job) -> Found:
    """Allow low-rank-optimizer-without-targets.

    ## What it does
    Finds a GaLore or APOLLO optimizer without `optim_target_modules`.

    ## Why is this bad?
    transformers stops: "You need to define `optim_target_modules` to use galore_adamw optimizers".

    ## Example
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 1
    optim: galore_adamw
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 1
    optim: galore_adamw
    optim_target_modules: [attn, mlp]
    ```

    ## Versions
    GaLore since transformers 4.39, APOLLO since 4.49.

    ## References
    - transformers 5.23.0, trainer_optimizer.py
    """
    optim = lower(unit, "optim") or ""
    if optim.startswith(LOW_RANK) and idle(unit, "optim_target_modules"):
        name = "--optim_target_modules" if unit["optim"].syntax == "shell" else "optim_target_modules"
        fix = add_after(unit["optim"], name, "all-linear")
        yield Problem(unit["optim"], f"{unit['optim'].shown} needs optim_target_modules", fix)


@rule("HF107", "layerwise-optimizer-conflict", tools=("hf_trainer", "trl"), harm="crash", causes=("layerwise-optim",))
def layerwise_optimizer_conflict(unit: Unit, job: Job) -> Found:
    """Allow layerwise-optimizer-conflict.

    ## What it does
    Finds a layer-wise GaLore or APOLLO optimizer with gradient accumulation or more than one process.

    ## Why is this bad?
    It steps inside the backward pass: "Layerwise galore_adamw_layerwise does not support gradient accumulation!",
    "Layer-wise galore_adamw_layerwise does not support DDP at this time".

    ## Example
    ```yaml train.yaml
    output_dir: out
    optim: galore_adamw_layerwise
    optim_target_modules: [attn, mlp]
    gradient_accumulation_steps: 8
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    optim: galore_adamw
    optim_target_modules: [attn, mlp]
    gradient_accumulation_steps: 8
    ```

    ## Versions
    All that have them.

    ## References
    - transformers 5.23.0, trainer_optimizer.py
    """
    optim = lower(unit, "optim") or ""
    if not optim.endswith("_layerwise"):
        return
    steps, world = unit.number("gradient_accumulation_steps", 1), job.world_size(unit)
    setting, fix = unit["optim"], set_value(unit["optim"], optim.removesuffix("_layerwise"))
    if steps and steps > 1:
        also = (unit["gradient_accumulation_steps"],)
        yield Problem(setting, f"{setting.shown} does not go with gradient accumulation", fix, also)
    elif world and world > 1:
        yield Problem(setting, f"{setting.shown} does not go with {world} processes", fix)


@rule(
    "HF108",
    "loss-averaged-by-micro-batch",
    tools=HF_FAMILY,
    harm="wrong_result",
    severity="warning",
    causes=("grad-accum-loss",),
)
def loss_averaged_by_micro_batch(unit: Unit, job: Job) -> Found:
    """Allow loss-averaged-by-micro-batch.

    ## What it does
    Finds gradient accumulation in a version of transformers that averages the loss of each micro batch on its own, or that
    logs it multiplied, and `average_tokens_across_devices: false` with several processes.

    ## Why is this bad?
    The mean of means gives short sequences more weight than a large batch would; the loss differs from the same batch
    without accumulation. 4.46 and 4.47 report the loss multiplied by the accumulation for some models.

    ## Example
    ```yaml train.yaml transformers=4.45.2 world_size=8
    output_dir: out
    per_device_train_batch_size: 1
    gradient_accumulation_steps: 64
    ```

    ## Use instead
    ```yaml train.yaml transformers=4.57.6 world_size=8
    output_dir: out
    per_device_train_batch_size: 1
    gradient_accumulation_steps: 64
    ```

    ## Versions
    transformers 4.0 to 4.47. `average_tokens_across_devices` exists since 4.46 and is on by default since 4.54.

    ## References
    - huggingface/transformers#24725
    - huggingface/transformers#34373
    - huggingface/transformers#35207
    - huggingface/transformers#35438
    - huggingface/blog#2414
    """
    steps, world = unit.number("gradient_accumulation_steps", 1), job.world_size(unit)
    if steps and steps > 1 and named_before(unit, "transformers", "4.48"):
        setting = unit["gradient_accumulation_steps"]
        fix = advise("use transformers 4.48 or newer, or a larger micro batch")
        yield Problem(
            setting,
            f"transformers of this version averages the loss per micro batch: {setting.shown} changes the result",
            fix,
        )
    elif (
        unit.truth("average_tokens_across_devices") is False
        and "average_tokens_across_devices" in unit
        and world
        and world > 1
    ):
        if not named_since(unit, "transformers", "4.46") and named_before(unit, "transformers", "4.46"):
            return
        setting = unit["average_tokens_across_devices"]
        message = f"{setting.shown}: each of {world} processes averages over its own tokens"
        yield Problem(setting, message, set_value(setting, True))
