"""DeepSpeed beside transformers' Trainer: what is set in both files, and what one of them silently loses."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.linting.concepts import HF_FAMILY
from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import idle, used
from advisor_mcp.linting.rules._hf import accelerated, deepspeed_of, full, lower, numbers, trainer_of
from advisor_mcp.linting.unit import Setting, Unit, as_number

PAIRS = {
    "train_micro_batch_size_per_gpu": "per_device_train_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "gradient_clipping": "max_grad_norm",
    "optimizer.params.lr": "learning_rate",
    "optimizer.params.eps": "adam_epsilon",
    "optimizer.params.weight_decay": "weight_decay",
    "scheduler.params.warmup_max_lr": "learning_rate",
    "deepspeed_config.gradient_accumulation_steps": "gradient_accumulation_steps",
    "deepspeed_config.gradient_clipping": "max_grad_norm",
}
# what TrainingArguments takes where nothing is said; TRL's trainers have learning rates of their own
DEFAULTS = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "max_grad_norm": 1.0}
OWN_DEFAULTS = {"learning_rate": 5e-5, "adam_epsilon": 1e-8, "weight_decay": 0.0}
SCHEDULES = {"linear": "WarmupDecayLR", "constant_with_warmup": "WarmupLR", "cosine": "WarmupCosineLR"}
ADAM = ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw_apex_fused")


def _argument(trainer: Unit, name: str) -> float | None:
    """A number of TrainingArguments, its default where it is not set."""
    if name in trainer:
        return trainer.number(name)
    defaults = DEFAULTS if trainer.tool == "trl" else DEFAULTS | OWN_DEFAULTS
    return defaults.get(name) if trainer.absent(name) else None


@rule("DS401", "disagreeing-with-trainer", tools=("deepspeed", "accelerate"), harm="crash", causes=("ds-hf-mismatch",))
def disagreeing_with_trainer(unit: Unit, job: Job) -> Found:
    """Allow disagreeing-with-trainer.

    ## What it does
    Compares what a DeepSpeed configuration and TrainingArguments both set: batch sizes, accumulation, clipping, learning
    rate, Adam's parameters, warm-up, steps, and the half-precision format.

    ## Why is this bad?
    transformers stops before the first step: "Please correct the following DeepSpeed config values that mismatch
    TrainingArguments values".

    ## Example
    ```json ds_config.json world_size=8
    {"train_micro_batch_size_per_gpu": 4, "zero_optimization": {"stage": 2}}
    ```
    ```yaml train.yaml
    output_dir: out
    deepspeed: ds_config.json
    per_device_train_batch_size: 2
    ```

    ## Use instead
    ```json ds_config.json world_size=8
    {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2}}
    ```
    ```yaml train.yaml
    output_dir: out
    deepspeed: ds_config.json
    per_device_train_batch_size: 2
    ```

    ## Versions
    All. A value that TrainingArguments does not set has its default there.

    ## References
    - transformers 5.23.0, integrations/deepspeed.py, HfTrainerDeepSpeedConfig
    - huggingface/transformers#27830
    - huggingface/transformers#12021
    - deepspeedai/DeepSpeed#1107
    """
    trainer = trainer_of(unit, job)
    if trainer is None or used(unit, "deepspeed_config.deepspeed_config_file"):
        return
    for name, argument in PAIRS.items():
        ours, theirs = as_number(unit.value(name)), _argument(trainer, argument)
        if ours is not None and theirs is not None and abs(ours - theirs) > 1e-9 * max(abs(ours), abs(theirs)):
            yield _disagreement(unit[name], argument, f"{theirs:g}", trainer)
    yield from _formats(unit, trainer)
    yield from _derived(unit, trainer, job.world_size(unit) or job.world_size(trainer))


def _disagreement(setting: Setting, argument: str, value: str, trainer: Unit) -> Problem:
    also = (trainer[argument],) if argument in trainer else ()
    said = value if also else f"{value}, its default"
    fix = set_value(setting, "auto") if setting.syntax == "json" else remove(setting, why="transformers fills it in")
    return Problem(setting, f"{full(setting)}, and {argument} of the trainer is {said}", fix, also)


def _formats(unit: Unit, trainer: Unit) -> Iterator[Problem]:
    for kind in ("fp16", "bf16"):
        ours = unit.value(f"{kind}.enabled")
        default = None if trainer.open or (trainer.tool == "trl" and kind == "bf16") else False
        theirs = trainer.truth(kind, default)
        whole = trainer.truth(f"{kind}_full_eval")
        if isinstance(ours, bool) and theirs is not None and whole is False and ours is not theirs:
            yield _disagreement(unit[f"{kind}.enabled"], kind, str(theirs).lower(), trainer)


def _derived(unit: Unit, trainer: Unit, world: int | None) -> Iterator[Problem]:
    """What transformers computes before it compares."""
    total, micro = as_number(unit.value("train_batch_size")), _argument(trainer, "per_device_train_batch_size")
    steps = _argument(trainer, "gradient_accumulation_steps")
    if total is not None and micro and steps and (world is not None or total % (micro * steps)):
        theirs = int(micro * steps * (world or 1))
        if total != theirs:
            text = f"{int(micro)} x {int(steps)} x {world or 'the ranks'}" + (f" = {theirs}" if world else "")
            setting = unit["train_batch_size"]
            also = tuple(
                trainer[n] for n in ("per_device_train_batch_size", "gradient_accumulation_steps") if n in trainer
            )
            yield Problem(
                setting, f"{full(setting)}, and the trainer calculates {text}", set_value(setting, "auto"), also
            )
    warmup, ratio = as_number(unit.value("scheduler.params.warmup_num_steps")), used(trainer, "warmup_ratio")
    theirs_warmup = trainer.number("warmup_steps", None if trainer.open else 0)
    whole = theirs_warmup is not None and (theirs_warmup >= 1 or theirs_warmup == 0)
    if (
        warmup is not None
        and theirs_warmup is not None
        and whole
        and not ratio
        and warmup != max(theirs_warmup, min(warmup, 1))
    ):
        yield _disagreement(unit["scheduler.params.warmup_num_steps"], "warmup_steps", f"{theirs_warmup:g}", trainer)
    limit, length = as_number(unit.value("scheduler.params.total_num_steps")), trainer.number("max_steps", -1)
    if limit is not None and length is not None and length > 0 and limit != length:
        yield _disagreement(unit["scheduler.params.total_num_steps"], "max_steps", f"{length:g}", trainer)
    betas = numbers(unit, "optimizer.params.betas")
    for index, name in enumerate(("adam_beta1", "adam_beta2")):
        theirs_beta = trainer.number(name)
        if betas and index < len(betas) and theirs_beta is not None and betas[index] != theirs_beta:
            yield _disagreement(unit["optimizer.params.betas"], name, f"{theirs_beta:g}", trainer)
            return


@rule(
    "DS402",
    "clipping-lost-to-deepspeed",
    tools=("deepspeed",),
    harm="ignored",
    severity="warning",
    causes=("ds-clipping-ignored",),
)
def clipping_lost_to_deepspeed(unit: Unit, job: Job) -> Found:
    """Allow clipping-lost-to-deepspeed.

    ## What it does
    Finds `max_grad_norm` in TrainingArguments while the DeepSpeed file beside it has no `gradient_clipping`.

    ## Why is this bad?
    Under DeepSpeed the trainer does not clip; DeepSpeed does, by its own option, whose default is 0 (off). The norm is
    still logged, so nothing looks wrong.

    ## Example
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2}}
    ```
    ```yaml train.yaml
    output_dir: out
    deepspeed: ds_config.json
    max_grad_norm: 0.5
    ```

    ## Use instead
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": "auto", "gradient_clipping": "auto", "zero_optimization": {"stage": 2}}
    ```
    ```yaml train.yaml
    output_dir: out
    deepspeed: ds_config.json
    max_grad_norm: 0.5
    ```

    ## Versions
    All.

    ## References
    - accelerate 1.15.0, accelerator.py, clip_grad_norm_
    - transformers 5.23.0, integrations/deepspeed.py, trainer_config_process
    """
    trainer = trainer_of(unit, job)
    norm = trainer.number("max_grad_norm", 0) if trainer is not None else None
    if trainer is None or not norm or not unit.absent("gradient_clipping"):
        return
    place = unit.setting("train_micro_batch_size_per_gpu", "train_batch_size", "zero_optimization")
    fix = (
        add_after(place, "gradient_clipping", "auto")
        if place
        else advise('set "gradient_clipping": "auto" in the DeepSpeed file')
    )
    setting = trainer["max_grad_norm"]
    yield Problem(
        setting, f"{full(setting)} is not applied: the DeepSpeed file has no gradient_clipping", fix, (unit.span,)
    )


@rule(
    "DS403",
    "two-learning-rate-schedules",
    tools=("deepspeed",),
    harm="wrong_lr",
    severity="warning",
    causes=("ds-scheduler-overrides",),
)
def two_learning_rate_schedules(unit: Unit, job: Job) -> Found:
    """Allow two-learning-rate-schedules.

    ## What it does
    Finds `lr_scheduler_type` in TrainingArguments beside a `scheduler` section of DeepSpeed that does something else.

    ## Why is this bad?
    DeepSpeed's section wins without a word. WarmupLR, for one, never decays.

    ## Example
    ```json ds_config.json
    {
      "zero_optimization": {"stage": 2},
      "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": "auto", "warmup_max_lr": "auto"}}
    }
    ```
    ```yaml train.yaml
    output_dir: out
    deepspeed: ds_config.json
    lr_scheduler_type: cosine
    ```

    ## Use instead
    ```json ds_config.json
    {"zero_optimization": {"stage": 2}}
    ```
    ```yaml train.yaml
    output_dir: out
    deepspeed: ds_config.json
    lr_scheduler_type: cosine
    ```

    ## Versions
    All.

    ## References
    - transformers 5.23.0, integrations/deepspeed.py, deepspeed_optim_sched
    """
    trainer, theirs = trainer_of(unit, job), unit.text("scheduler.type")
    ours = lower(trainer, "lr_scheduler_type") if trainer is not None else None
    if trainer is not None and theirs and ours and SCHEDULES.get(ours) != theirs:
        setting = trainer["lr_scheduler_type"]
        message = f"{full(setting)} is not used: the DeepSpeed file's scheduler is {theirs}"
        yield Problem(
            setting,
            message,
            remove(unit["scheduler"], why="then the trainer's schedule counts"),
            (unit["scheduler.type"],),
        )


@rule(
    "DS404",
    "two-optimizers",
    tools=("deepspeed",),
    harm="ignored",
    severity="warning",
    causes=("ds-optimizer-overrides",),
)
def two_optimizers(unit: Unit, job: Job) -> Found:
    """Allow two-optimizers.

    ## What it does
    Finds `optim` in TrainingArguments beside an `optimizer` section of DeepSpeed with another optimizer.

    ## Why is this bad?
    DeepSpeed's section wins without a word: the 8-bit or Adafactor states that the memory was planned for never exist.

    ## Example
    ```json ds_config.json
    {"zero_optimization": {"stage": 2}, "optimizer": {"type": "AdamW", "params": {"lr": "auto"}}}
    ```
    ```yaml train.yaml
    output_dir: out
    deepspeed: ds_config.json
    optim: adafactor
    ```

    ## Use instead
    ```json ds_config.json
    {"zero_optimization": {"stage": 2}}
    ```
    ```yaml train.yaml
    output_dir: out
    deepspeed: ds_config.json
    optim: adafactor
    ```

    ## Versions
    All.

    ## References
    - transformers 5.23.0, integrations/deepspeed.py, deepspeed_optim_sched
    """
    trainer, theirs = trainer_of(unit, job), unit.text("optimizer.type")
    ours = lower(trainer, "optim") if trainer is not None else None
    if trainer is None or not theirs or not ours:
        return
    same = ours in ADAM if theirs.lower() in ("adam", "adamw") else theirs.lower() in ours and "bit" not in ours
    if not same:
        setting = trainer["optim"]
        message = f"{full(setting)} is not used: the DeepSpeed file's optimizer is {theirs}"
        yield Problem(
            setting,
            message,
            remove(unit["optimizer"], why="then the trainer's optimizer counts"),
            (unit["optimizer.type"],),
        )


@rule(
    "DS405",
    "gpu-optimizer-with-offload",
    tools=HF_FAMILY,
    harm="ignored",
    severity="warning",
    causes=("offload-optimizer",),
)
def gpu_optimizer_with_offload(unit: Unit, job: Job) -> Found:
    """Allow gpu-optimizer-with-offload.

    ## What it does
    Finds an `optim` other than AdamW while DeepSpeed offloads the optimizer and has no `optimizer` section.

    ## Why is this bad?
    The offloaded step runs in DeepSpeedCPUAdam only. accelerate replaces the optimizer by it without a word, for an 8-bit
    AdamW even by Adam with L2 decay; where it does not, DeepSpeed stops: "You are using ZeRO-Offload with a client
    provided optimizer which in most cases will yield poor performance".

    ## Example
    ```yaml train.yaml
    output_dir: out
    optim: adamw_bnb_8bit
    per_device_train_batch_size: 1
    deepspeed: ds_config.json
    ```
    ```json ds_config.json
    {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}}, "train_micro_batch_size_per_gpu": "auto"}
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    optim: adamw_torch
    per_device_train_batch_size: 1
    deepspeed: ds_config.json
    ```
    ```json ds_config.json
    {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}}, "train_micro_batch_size_per_gpu": "auto"}
    ```

    ## Versions
    All; accelerate replaces the optimizer since 0.20, its kind is kept for 32-bit Lion and Adagrad since 1.1.

    ## References
    - accelerate 1.15.0, utils/deepspeed.py, map_pytorch_optim_to_deepspeed
    - deepspeed 0.19.8, deepspeed/runtime/engine.py, _configure_optimizer
    - bitsandbytes-foundation/bitsandbytes#596
    - deepspeedai/Megatron-DeepSpeed#298
    """
    optim = lower(unit, "optim")
    if not optim or optim in (*ADAM, "adagrad", "lion_32bit"):
        return
    deepspeed = deepspeed_of(unit, job)
    if deepspeed is not None and idle(deepspeed, "optimizer") and deepspeed.truth("zero_force_ds_cpu_optimizer", True):
        device = used(deepspeed, "zero_optimization.offload_optimizer.device")
    else:
        device = next(
            (
                found
                for other in accelerated(unit, job, "accelerate")
                if (found := used(other, "deepspeed_config.offload_optimizer_device"))
            ),
            None,
        )
    if device is not None and device.value in ("cpu", "nvme"):
        fix = set_value(unit["optim"], "adamw_torch", why="or do not offload the optimizer")
        yield Problem(
            unit["optim"],
            f"{full(unit['optim'])} is not what runs when DeepSpeed offloads the optimizer ({full(device)})",
            fix,
            (device,),
        )
