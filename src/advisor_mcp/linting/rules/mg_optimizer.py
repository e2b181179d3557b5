"""Megatron's optimizer, its overlaps and its learning rate schedule."""

from advisor_mcp.linting.edits import advise, both, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem
from advisor_mcp.linting.rules._mg import add, find, flag, megatron_rule, missing, number, off, on, said, size, switch, text
from advisor_mcp.linting.unit import Unit

_LM = ("megatron-lm",)


@megatron_rule("MG080", "overlapped-gather-without-its-optimizer", harm="crash", causes=("overlap-needs-distopt",))
def overlapped_gather_without_its_optimizer(unit: Unit, job: Job) -> Found:
    """Allow overlapped-gather-without-its-optimizer.

    ## What it does
    Checks that `--overlap-param-gather` comes with the distributed optimizer (or Megatron-FSDP) and with
    `--overlap-grad-reduce`.

    ## Why is this bad?
    Parameters are only gathered where the optimizer is distributed. Megatron stops: "--overlap-param-gather only
    supported with distributed optimizer".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --overlap-param-gather --overlap-grad-reduce
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --use-distributed-optimizer --overlap-param-gather --overlap-grad-reduce
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here, kind = switch(unit, "overlap_param_gather"), text(unit, "optimizer", "adam")
    if here is None:
        return
    instead = switch(unit, "use_megatron_fsdp", "use_custom_fsdp") or (kind or "").startswith("dist_")
    lacking = [name for name in ("use_distributed_optimizer", "overlap_grad_reduce") if off(unit, name)]
    lacking = [name for name in lacking if not (instead and name == "use_distributed_optimizer")]
    sharded = text(unit, "data_parallel_sharding_strategy") in ("optim_grads", "optim_grads_params")
    lacking = [name for name in lacking if not (sharded and name == "overlap_grad_reduce")]
    if lacking:
        fix = both(*(add(here, name) for name in lacking)) if unit.tool == "megatron-lm" else advise("turn on " + " and ".join(lacking))
        yield Problem(here, f"{here.written} needs {' and '.join(flag(unit, name) for name in lacking)}", fix)


@megatron_rule("MG081", "overlapped-optimizer-step", harm="crash", causes=("overlap-optimizer-step",), tools=_LM)
def overlapped_optimizer_step(unit: Unit, job: Job) -> Found:
    """Allow overlapped-optimizer-step.

    ## What it does
    Checks what `--overlap-param-gather-with-optimizer-step` needs: the overlapped gather, virtual pipeline stages, and
    the legacy checkpoint format.

    ## Why is this bad?
    Megatron stops at start. The default checkpoint format is a distributed one.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --use-distributed-optimizer --overlap-grad-reduce --overlap-param-gather --overlap-param-gather-with-optimizer-step
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --use-distributed-optimizer --overlap-grad-reduce --overlap-param-gather
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here = switch(unit, "overlap_param_gather_with_optimizer_step")
    if here is None:
        return
    virtual = ("num_layers_per_virtual_pipeline_stage", "num_virtual_stages_per_pipeline_rank", "pipeline_model_parallel_layout", "hybrid_layer_pattern")
    if off(unit, "overlap_param_gather"):
        yield Problem(here, f"{here.written} needs --overlap-param-gather", remove(here))
    elif missing(unit, *virtual):
        yield Problem(here, f"{here.written} needs virtual pipeline stages", remove(here))
    elif text(unit, "ckpt_format", None if unit.open else "torch_dist") not in (None, "torch"):
        yield Problem(here, f"{here.written} needs --ckpt-format torch", remove(here))


@megatron_rule("MG082", "fsdp2-conflict", harm="crash", causes=("fsdp2-conflict", "fsdp2-options"), tools=_LM)
def fsdp2_conflict(unit: Unit, job: Job) -> Found:
    """Allow fsdp2-conflict.

    ## What it does
    Checks what `--use-torch-fsdp2` excludes (pipeline and expert parallelism, the distributed optimizer, fp16, muon)
    and needs (`--no-gradient-accumulation-fusion`, `--untie-embeddings-and-output-weights`, a distributed checkpoint).

    ## Why is this bad?
    Megatron stops at start, at one after the other.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --use-torch-fsdp2 --use-distributed-optimizer --no-gradient-accumulation-fusion --untie-embeddings-and-output-weights
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --use-torch-fsdp2 --no-gradient-accumulation-fusion --untie-embeddings-and-output-weights
    ```

    ## Versions
    All, with torch 2.4 or later.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here = switch(unit, "use_torch_fsdp2")
    if here is None:
        return
    for name in ("pipeline_model_parallel_size", "expert_model_parallel_size"):
        found = find(unit, name)
        if found is not None and (size(unit, name) or 1) > 1:
            yield Problem(found, f"{said(found)} cannot be used with {here.written}", set_value(found, 1), (here,))
            return
    for name in ("use_distributed_optimizer", "fp16", "use_megatron_fsdp"):
        found = switch(unit, name)
        if found is not None:
            yield Problem(found, f"{found.written} cannot be used with {here.written}", remove(found), (here,))
            return
    form = find(unit, "ckpt_format")
    if form is not None and text(unit, "ckpt_format") not in (None, "torch_dist", "torch_dcp"):
        yield Problem(form, f"{here.written} needs --ckpt-format torch_dist, not {form.value}", set_value(form, "torch_dist"), (here,))
    for name in ("no_gradient_accumulation_fusion", "untie_embeddings_and_output_weights"):
        if off(unit, name):
            yield Problem(here, f"{here.written} needs --{name.replace('_', '-')}", add(here, name))
            return


@megatron_rule("MG083", "megatron-fsdp-conflict", harm="crash", causes=("megatron-fsdp-conflict",), tools=("megatron-lm", "megatron-bridge"))
def megatron_fsdp_conflict(unit: Unit, job: Job) -> Found:
    """Allow megatron-fsdp-conflict.

    ## What it does
    Checks `--use-megatron-fsdp`: the checkpoint format must be `fsdp_dtensor`, the optimizer Adam or SGD, and no other
    FSDP beside it. And that `fsdp_dtensor` is not used without it.

    ## Why is this bad?
    Megatron stops: "Megatron-FSDP requires the `fsdp_dtensor` checkpointing format". The default format is another.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --use-distributed-optimizer --use-megatron-fsdp --ckpt-format torch_dist
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --use-distributed-optimizer --use-megatron-fsdp --ckpt-format fsdp_dtensor
    ```

    ## Versions
    From core 0.14 on.

    ## References
    - Megatron-LM core_v0.14.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    - megatron-bridge 0.6.2, megatron/bridge/training/config.py, ConfigContainer.validate
    """
    here, form, kind = switch(unit, "use_megatron_fsdp"), find(unit, "ckpt_format"), text(unit, "ckpt_format")
    if here is not None and form is not None and kind not in (None, "fsdp_dtensor") and unit.since("0.14"):
        yield Problem(form, f"{here.written} needs the checkpoint format fsdp_dtensor, not {kind}", set_value(form, "fsdp_dtensor"), (here,))
    elif here is not None and missing(unit, "ckpt_format") and find(unit, "save", "load") is not None and unit.since("0.16"):
        yield Problem(here, f"{here.written} needs --ckpt-format fsdp_dtensor, and torch_dist is the default", add(here, "ckpt_format", "fsdp_dtensor"))
    elif form is not None and kind == "fsdp_dtensor" and off(unit, "use_megatron_fsdp") and unit.tool == "megatron-lm":
        yield Problem(form, f"{said(form)} needs --use-megatron-fsdp", set_value(form, "torch_dist"))
    optimizer, torch = find(unit, "optimizer"), switch(unit, "use_torch_fsdp2")
    if here is not None and optimizer is not None and isinstance(optimizer.value, str) and optimizer.value not in ("adam", "sgd"):
        yield Problem(optimizer, f"{here.written} cannot be used with {said(optimizer)}", set_value(optimizer, "adam"), (here,))
    if here is not None and torch is not None and unit.tool == "megatron-bridge":
        yield Problem(torch, f"{torch.written} and {here.written} cannot both be on", set_value(torch, False), (here,))


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
            swapped = both(set_value(rate, here.at.text or least), set_value(here, rate.at.text or most)) if name == "min_lr" else remove(here)
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
            yield Problem(here, f"{said(here)} is not less than {said(end)}", fix, (end,), severity=None if unit.tool == "megatron-lm" else "warning")
    share, part = find(unit, "lr_warmup_fraction"), number(unit, "lr_warmup_fraction")
    if share is not None and part is not None and part >= 1:
        yield Problem(share, f"{said(share)} is the whole training or more; it is a fraction", set_value(share, 0.01))


@megatron_rule("MG086", "iterations-and-samples", harm="crash", causes=("iters-and-samples",), tools=("megatron-lm", "megatron-bridge"))
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
                yield Problem(here, f"{said(here)} counts {other}, and {said(base)} counts {mine}", remove(here), (base,))


@megatron_rule("MG087", "two-warmups", harm="crash", causes=("warmup-both",), tools=("megatron-lm", "megatron-bridge"))
def two_warmups(unit: Unit, job: Job) -> Found:
    """Allow two-warmups.

    ## What it does
    Looks for a warm-up as a fraction beside one in iterations or samples.

    ## Why is this bad?
    Megatron stops: "can only specify one of lr-warmup-fraction and lr-warmup-iters".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --train-iters 1000 --lr-warmup-fraction 0.01 --lr-warmup-iters 100
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


@megatron_rule("MG088", "stable-decay-without-length", harm="crash", causes=("wsd-decay",), tools=_LM)
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
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --train-iters 1000 --lr-decay-style WSD --lr-wsd-decay-iters 100
    ```

    ## Versions
    All; Megatron-Bridge decays over the whole training then.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/core/optimizer_param_scheduler.py, __init__
    """
    here = find(unit, "lr_decay_style")
    if here is not None and text(unit, "lr_decay_style") == "WSD" and missing(unit, "lr_wsd_decay_iters", "lr_wsd_decay_samples"):
        total = number(unit, "train_iters")
        fix = add(here, "lr_wsd_decay_iters", max(1, int(total // 10))) if total else advise("set --lr-wsd-decay-iters or --lr-wsd-decay-samples")
        yield Problem(here, f"{said(here)} needs --lr-wsd-decay-iters or --lr-wsd-decay-samples", fix)


@megatron_rule("MG089", "weight-decay-schedule", harm="crash", causes=("weight-decay-incr",), tools=_LM)
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
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --start-weight-decay 0.01 --end-weight-decay 0.1 --weight-decay-incr-style linear
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
    elif named is not None and style in ("linear", "cosine") and (missing(unit, "start_weight_decay") or missing(unit, "end_weight_decay")):
        yield Problem(named, f"{said(named)} needs --start-weight-decay and --end-weight-decay", remove(named))


@megatron_rule("MG090", "training-after-the-decay", harm="wrong_lr", severity="info", causes=("lr-decay-short",), tools=_LM)
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
        here, decay, total = find(unit, f"lr_decay_{kind}"), number(unit, f"lr_decay_{kind}"), number(unit, f"train_{kind}")
        floor = number(unit, "min_lr", 0.0)
        if here is not None and decay and total and decay < 0.8 * total and floor == 0 and text(unit, "lr_decay_style", "linear") not in (None, "constant"):
            yield Problem(here, f"{said(here)} ends before the training's {total:,}; the rest runs at a learning rate of 0", set_value(here, total))


@megatron_rule("MG091", "emerging-optimizer-conflict", harm="crash", causes=("muon-conflict",), tools=_LM)
def emerging_optimizer_conflict(unit: Unit, job: Job) -> Found:
    """Allow emerging-optimizer-conflict.

    ## What it does
    Looks for muon and the other newer optimizers with FSDP, or with a checkpoint format they cannot write.

    ## Why is this bad?
    Megatron stops: "Emerging optimizer does not support Torch-FSDP2 for now".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --optimizer muon --ckpt-format torch_dcp
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --optimizer muon --ckpt-format torch_dist
    ```

    ## Versions
    From core 0.16 on.

    ## References
    - Megatron-LM main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here, kind = find(unit, "optimizer"), text(unit, "optimizer", "adam")
    if here is None or kind in (None, "adam", "sgd"):
        return
    fsdp, form = switch(unit, "use_torch_fsdp2"), find(unit, "ckpt_format")
    if fsdp is not None:
        yield Problem(here, f"{said(here)} cannot be used with {fsdp.written}", set_value(here, "adam"), (fsdp,))
    elif form is not None and text(unit, "ckpt_format") not in (None, "torch", "torch_dist"):
        yield Problem(form, f"{said(here)} needs --ckpt-format torch_dist, not {form.value}", set_value(form, "torch_dist"), (here,))
