"""LitGPT: the learning rate over a run."""

from __future__ import annotations

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import idle, learning_rate, unset, used
from advisor_mcp.linting.rules.lg_train import script
from advisor_mcp.linting.unit import Unit

WARMUP = {"finetune": 100, "pretrain": 2000}  # the defaults of train.lr_warmup_steps
MIN_LR = 4e-5  # the default of train.min_lr in pretraining


@rule("LG001", "warmup-steps-and-fraction", tools=("litgpt",), harm="crash", causes=("warmup-fraction-and-steps",))
def two_warmups(unit: Unit, job: Job) -> Found:
    """Allow warmup-steps-and-fraction.

    ## What it does
    Finds `train.lr_warmup_fraction` beside `train.lr_warmup_steps`, or a fraction that is no part of an epoch.

    ## Why is this bad?
    Only one of them can say how long the learning rate rises: "Can't provide both `--train.lr_warmup_fraction` and
    `--train.lr_warmup_steps`. Choose one."

    ## Example
    ```yaml pretrain.yaml
    model_name: pythia-160m
    train:
      global_batch_size: 64
      micro_batch_size: 4
      lr_warmup_steps: 200
      lr_warmup_fraction: 0.01
    ```

    ## Use instead
    ```yaml pretrain.yaml
    model_name: pythia-160m
    train:
      global_batch_size: 64
      micro_batch_size: 4
      lr_warmup_steps: 200
    ```

    ## Versions
    All that know the fraction.

    ## References
    - litgpt 0.5.13, args.py, TrainArgs
    """
    fraction, steps = used(unit, "train.lr_warmup_fraction"), used(unit, "train.lr_warmup_steps")
    if fraction is None:
        return
    if steps is not None:
        message = f"{fraction.shown} cannot be used with {steps.shown}"
        yield Problem(fraction, message, remove(fraction), (steps,))
        return
    value = unit.number("train.lr_warmup_fraction")
    if value is not None and not 0 <= value <= 1:
        yield Problem(
            fraction, f"{fraction.shown} must be between 0 and 1", advise("give the part of an epoch, e.g. 0.1")
        )


@rule(
    "LG002",
    "warmup-longer-than-run",
    tools=("litgpt",),
    harm="wrong_lr",
    severity="warning",
    causes=("warmup-exceeds-steps",),
)
def warmup_longer_than_run(unit: Unit, job: Job) -> Found:
    """Allow warmup-longer-than-run.

    ## What it does
    Finds `train.max_steps` that is not larger than `train.lr_warmup_steps`, the default of 100 (fine-tuning) or 2000
    (pretraining) included.

    ## Why is this bad?
    The run ends before the learning rate has reached its value, and there is no decay at all. LitGPT only warns.

    ## Example
    ```yaml finetune.yaml
    checkpoint_dir: checkpoints/meta-llama/Llama-3.2-1B
    lora_r: 16
    train:
      global_batch_size: 16
      micro_batch_size: 1
      max_steps: 50
      lr_warmup_steps: 100
    ```

    ## Use instead
    ```yaml finetune.yaml
    checkpoint_dir: checkpoints/meta-llama/Llama-3.2-1B
    lora_r: 16
    train:
      global_batch_size: 16
      micro_batch_size: 1
      max_steps: 50
      lr_warmup_steps: 5
    ```

    ## Versions
    All.

    ## References
    - litgpt 0.5.13, args.py, TrainArgs
    """
    kind, limit = script(unit), used(unit, "train.max_steps")
    steps = unit.whole("train.max_steps")
    if kind is None or limit is None or not steps:
        return
    warmup = unit.whole("train.lr_warmup_steps", WARMUP[kind])
    if not warmup or warmup < steps or used(unit, "train.lr_warmup_fraction"):
        return
    written = unit.settings.get("train.lr_warmup_steps")
    tenth = max(1, steps // 10)
    said = f"the learning rate rises for {warmup} steps and the run has {steps}"
    if written is not None:
        yield Problem(written, said, set_value(written, tenth), (limit,))
    else:
        yield Problem(
            limit, f"{said} (the default of lr_warmup_steps)", advise(f"set train.lr_warmup_steps to {tenth}")
        )


@rule("LG003", "no-warmup-steps", tools=("litgpt",), harm="crash", causes=("warmup-zero",))
def no_warmup_steps(unit: Unit, job: Job) -> Found:
    """Allow no-warmup-steps.

    ## What it does
    Finds `train.lr_warmup_steps` of 0 or null in a fine-tuning configuration.

    ## Why is this bad?
    The fine-tuning scripts divide by it to build the scheduler: "ZeroDivisionError: division by zero".

    ## Example
    ```yaml finetune.yaml
    checkpoint_dir: checkpoints/meta-llama/Llama-3.2-1B
    lora_r: 16
    train:
      global_batch_size: 16
      micro_batch_size: 1
      lr_warmup_steps: 0
    ```

    ## Use instead
    ```yaml finetune.yaml
    checkpoint_dir: checkpoints/meta-llama/Llama-3.2-1B
    lora_r: 16
    train:
      global_batch_size: 16
      micro_batch_size: 1
      lr_warmup_steps: 1
    ```

    ## Versions
    All.

    ## References
    - litgpt 0.5.13, finetune/lora.py, get_lr_scheduler
    """
    warmup = unit.settings.get("train.lr_warmup_steps")
    if script(unit) == "finetune" and warmup is not None and idle(unit, "train.lr_warmup_steps"):
        yield Problem(warmup, f"the fine-tuning scheduler divides by {warmup.shown}", set_value(warmup, 1))


@rule(
    "LG012", "rising-learning-rate", tools=("litgpt",), harm="wrong_lr", severity="warning", causes=("min-lr-above-lr",)
)
def rising_learning_rate(unit: Unit, job: Job) -> Found:
    """Allow rising-learning-rate.

    ## What it does
    Finds a learning rate for pretraining below `train.min_lr`, the default of 4e-5 included.

    ## Why is this bad?
    The cosine runs from `lr` to `min_lr`: where the second is larger, the learning rate rises until the end of the run.
    Continued pretraining with a small `lr` and the default `min_lr` does that.

    ## Example
    ```yaml pretrain.yaml
    model_name: pythia-160m
    initial_checkpoint_dir: checkpoints/EleutherAI/pythia-160m
    train:
      global_batch_size: 64
      micro_batch_size: 4
      min_lr: 4.0e-5
    optimizer:
      class_path: torch.optim.AdamW
      init_args:
        lr: 1.0e-5
    ```

    ## Use instead
    ```yaml pretrain.yaml
    model_name: pythia-160m
    initial_checkpoint_dir: checkpoints/EleutherAI/pythia-160m
    train:
      global_batch_size: 64
      micro_batch_size: 4
      min_lr: 1.0e-6
    optimizer:
      class_path: torch.optim.AdamW
      init_args:
        lr: 1.0e-5
    ```

    ## Versions
    All. Fine-tuning decays to zero and does not read `min_lr`.

    ## References
    - litgpt 0.5.13, pretrain.py, get_lr
    """
    rate = learning_rate(unit, "optimizer.init_args.lr")
    if rate is None or script(unit) != "pretrain":
        return
    written = unit["optimizer.init_args.lr"]
    if unset(unit, "train.min_lr"):
        if rate < MIN_LR:
            message = f"{written.shown} is below the default min_lr of {MIN_LR:g}: the learning rate rises to it"
            yield Problem(written, message, advise(f"set train.min_lr to {rate / 10:g}"))
        return
    least = learning_rate(unit, "train.min_lr")
    if least is not None and rate < least:
        setting = unit["train.min_lr"]
        yield Problem(
            setting,
            f"{setting.shown} is above {written.shown}: the learning rate rises to it",
            set_value(setting, rate / 10),
            (written,),
        )
