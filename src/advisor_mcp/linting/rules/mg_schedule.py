"""Learning rates and lengths of a Megatron training."""

from advisor_mcp.linting.edits import advise, both, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem
from advisor_mcp.linting.rules._mg import (
    LM,
    add,
    find,
    megatron_rule,
    missing,
    number,
    on,
    said,
    text,
)
from advisor_mcp.linting.unit import Unit


@megatron_rule("MG084", "minimum-above-maximum-rate", harm="crash", causes=("lr-min-gt-max",))
def minimum_above_maximum_rate(unit: Unit, job: Job) -> Found:
    """Allow minimum-above-maximum-rate.

    ## What it does
    Checks that the minimum learning rate, and the warm-up's first one, are not above the learning rate.

    ## Why is this bad?
    Megatron stops with a bare assertion.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --lr 3e-5 --min-lr 3e-4
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --lr 3e-4 --min-lr 3e-5
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    - Megatron-LM main d98e8a64, megatron/core/optimizer_param_scheduler.py, __init__
    """
    rate, most = find(unit, "lr"), number(unit, "lr")
    for name in ("min_lr", "lr_warmup_init"):
        here, least = find(unit, name), number(unit, name)
        if here is not None and rate is not None and least is not None and most is not None and least > most:
            swapped = (
                both(set_value(rate, here.at.text or least), set_value(here, rate.at.text or most))
                if name == "min_lr"
                else remove(here)
            )
            yield Problem(here, f"{said(here)} is above {said(rate)}", swapped, (rate,))


@megatron_rule("MG085", "warmup-as-long-as-the-decay", harm="crash", causes=("warmup-gt-steps",))
def warmup_as_long_as_the_decay(unit: Unit, job: Job) -> Found:
    """Allow warmup-as-long-as-the-decay.

    ## What it does
    Checks that the warm-up is shorter than the decay, which is as long as the training where it is not set.

    ## Why is this bad?
    Megatron-LM stops with a bare assertion. Megatron-Bridge shortens the warm-up and never reaches a decay.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --train-iters 1000 --lr-warmup-iters 2000
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --train-iters 1000 --lr-warmup-iters 100
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/core/optimizer_param_scheduler.py, __init__
    - megatron-bridge 0.6.2, megatron/bridge/training/config.py, _calculate_scheduler_steps
    """
    for kind in ("iters", "samples"):
        here, warmup = find(unit, f"lr_warmup_{kind}"), number(unit, f"lr_warmup_{kind}")
        end = find(unit, f"lr_decay_{kind}", f"train_{kind}")
        total = number(unit, f"lr_decay_{kind}") or number(unit, f"train_{kind}")
        if here is not None and end is not None and warmup and total and warmup >= total:
            fix = set_value(here, max(1, int(total // 10)))
            yield Problem(
                here,
                f"{said(here)} is not less than {said(end)}",
                fix,
                (end,),
                severity=None if unit.tool == "megatron-lm" else "warning",
            )
    share, part = find(unit, "lr_warmup_fraction"), number(unit, "lr_warmup_fraction")
    if share is not None and part is not None and part >= 1:
        yield Problem(share, f"{said(share)} is the whole training or more; it is a fraction", set_value(share, 0.01))


@megatron_rule(
    "MG086",
    "iterations-and-samples",
    harm="crash",
    causes=("iters-and-samples",),
    tools=("megatron-lm", "megatron-bridge"),
)
def iterations_and_samples(unit: Unit, job: Job) -> Found:
    """Allow iterations-and-samples.

    ## What it does
    Looks for options that count samples in a run that counts iterations, and the other way round.

    ## Why is this bad?
    Megatron stops: "expected iteration-based training" (learning rate decay, warm-up).

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --train-iters 1000 --lr-decay-samples 100000
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --train-iters 1000 --lr-decay-iters 1000
    ```

    ## Versions
    All; not with `--skip-train` in the newest.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    - megatron-bridge 0.6.2, megatron/bridge/training/config.py, _validate_training_scheduler_compatibility
    """
    if on(unit, "skip_train"):
        return
    for mine, other in (("iters", "samples"), ("samples", "iters")):
        base = find(unit, f"train_{mine}")
        if base is None or not number(unit, f"train_{mine}"):
            continue
        for name in (f"train_{other}", f"lr_decay_{other}", f"lr_warmup_{other}"):
            here = find(unit, name)
            if here is not None and number(unit, name) and not (name.startswith("train_") and mine == "samples"):
                yield Problem(
                    here, f"{said(here)} counts {other}, and {said(base)} counts {mine}", remove(here), (base,)
                )


@megatron_rule("MG087", "two-warmups", harm="crash", causes=("warmup-both",), tools=("megatron-lm", "megatron-bridge"))
def two_warmups(unit: Unit, job: Job) -> Found:
    """Allow two-warmups.

    ## What it does
    Looks for a warm-up as a fraction beside one in iterations or samples.

    ## Why is this bad?
    Megatron stops: "can only specify one of lr-warmup-fraction and lr-warmup-iters".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --train-iters 1000 --lr-warmup-fraction 0.01 \\
      --lr-warmup-iters 100
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --train-iters 1000 --lr-warmup-iters 100
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here = find(unit, "lr_warmup_fraction")
    for name in ("lr_warmup_iters", "lr_warmup_samples"):
        other = find(unit, name)
        if here is not None and other is not None and number(unit, name):
            yield Problem(here, f"{said(here)} and {said(other)} both set the warm-up", remove(here), (other,))


@megatron_rule("MG088", "stable-decay-without-length", harm="crash", causes=("wsd-decay",), tools=LM)
def stable_decay_without_length(unit: Unit, job: Job) -> Found:
    """Allow stable-decay-without-length.

    ## What it does
    Looks for `--lr-decay-style WSD` without the length of its decay.

    ## Why is this bad?
    Warm-up, stable, decay: the last part has no default. Megatron stops with a bare assertion.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --train-iters 1000 --lr-decay-style WSD
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --train-iters 1000 --lr-decay-style WSD \\
      --lr-wsd-decay-iters 100
    ```

    ## Versions
    All; Megatron-Bridge decays over the whole training then.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/core/optimizer_param_scheduler.py, __init__
    """
    here = find(unit, "lr_decay_style")
    if (
        here is not None
        and text(unit, "lr_decay_style") == "WSD"
        and missing(unit, "lr_wsd_decay_iters", "lr_wsd_decay_samples")
    ):
        total = number(unit, "train_iters")
        fix = (
            add(here, "lr_wsd_decay_iters", max(1, int(total // 10)))
            if total
            else advise("set --lr-wsd-decay-iters or --lr-wsd-decay-samples")
        )
        yield Problem(here, f"{said(here)} needs --lr-wsd-decay-iters or --lr-wsd-decay-samples", fix)


@megatron_rule("MG089", "weight-decay-schedule", harm="crash", causes=("weight-decay-incr",), tools=LM)
def weight_decay_schedule(unit: Unit, job: Job) -> Found:
    """Allow weight-decay-schedule.

    ## What it does
    Checks that a growing weight decay has a start and an end, and a constant one neither.

    ## Why is this bad?
    Megatron stops with a bare assertion. Constant is the default.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --start-weight-decay 0.01 --end-weight-decay 0.1
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --start-weight-decay 0.01 --end-weight-decay 0.1 \\
      --weight-decay-incr-style linear
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    style = text(unit, "weight_decay_incr_style", None if unit.open else "constant")
    here, named = find(unit, "start_weight_decay", "end_weight_decay"), find(unit, "weight_decay_incr_style")
    if style == "constant" and here is not None:
        fix = set_value(named, "linear") if named is not None else add(here, "weight_decay_incr_style", "linear")
        yield Problem(here, f"{said(here)} needs a growing weight decay, and the style is constant", fix)
    elif (
        named is not None
        and style in ("linear", "cosine")
        and (missing(unit, "start_weight_decay") or missing(unit, "end_weight_decay"))
    ):
        yield Problem(named, f"{said(named)} needs --start-weight-decay and --end-weight-decay", remove(named))


@megatron_rule(
    "MG090", "training-after-the-decay", harm="wrong_lr", severity="info", causes=("lr-decay-short",), tools=LM
)
def training_after_the_decay(unit: Unit, job: Job) -> Found:
    """Allow training-after-the-decay.

    ## What it does
    Looks for a learning rate decay that ends well before the training does.

    ## Why is this bad?
    The rest runs at the minimum learning rate, which is 0 where it is not set: those steps train nothing.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --train-iters 10000 --lr-decay-iters 5000 --lr 3e-4
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --train-iters 10000 --lr-decay-iters 10000 --lr 3e-4
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/core/optimizer_param_scheduler.py, get_lr
    """
    for kind in ("iters", "samples"):
        here, decay, total = (
            find(unit, f"lr_decay_{kind}"),
            number(unit, f"lr_decay_{kind}"),
            number(unit, f"train_{kind}"),
        )
        floor = number(unit, "min_lr", 0.0)
        if (
            here is not None
            and decay
            and total
            and decay < 0.8 * total
            and floor == 0
            and text(unit, "lr_decay_style", "linear") not in (None, "constant")
        ):
            yield Problem(
                here,
                f"{said(here)} ends before the training's {total:,}; the rest runs at a learning rate of 0",
                set_value(here, total),
            )
