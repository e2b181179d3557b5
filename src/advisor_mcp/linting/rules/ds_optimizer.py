"""DeepSpeed's optimizer and scheduler sections."""

from __future__ import annotations

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import idle
from advisor_mcp.linting.rules._hf import full, lower, zero_stage
from advisor_mcp.linting.unit import Unit

OWN = {
    "adagrad",
    "adam",
    "adamw",
    "lamb",
    "onebitadam",
    "onebitlamb",
    "zerooneadam",
    "muadam",
    "muadamw",
    "musgd",
    "lion",
    "muon",
}
TORCH = {
    "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "LBFGS", "Muon", "NAdam", "RAdam", "RMSprop",
    "Rprop", "SGD", "SparseAdam",
}  # fmt: skip
TESTED = {"adagrad", "adam", "adamw", "lion", "muadam", "muadamw", "muon"}
ONE_BIT = {"onebitadam", "onebitlamb", "zerooneadam"}
SCHEDULERS = ("WarmupLR", "WarmupDecayLR", "WarmupCosineLR", "OneCycle", "LRRangeTest")
_WARMUP = {"warmup_min_lr", "warmup_max_lr", "warmup_num_steps", "warmup_type", "last_batch_iteration"}
PARAMETERS = {
    "WarmupLR": _WARMUP,
    "WarmupDecayLR": {*_WARMUP, "total_num_steps"},
    "WarmupCosineLR": {
        "total_num_steps", "warmup_min_ratio", "warmup_num_steps", "cos_min_ratio", "warmup_type", "last_batch_iteration",
    },
}  # fmt: skip
NEEDED = {"WarmupDecayLR": "total_num_steps", "WarmupCosineLR": "total_num_steps"}


def _optimizer(unit: Unit) -> str | None:
    """The optimizer's name as DeepSpeed reads it: its own in small letters, PyTorch's as they are spelled."""
    name = unit.text("optimizer.type")
    return None if name is None else name.lower() if name.lower() in OWN else name


@rule("DS201", "clipping-in-optimizer-parameters", tools=("deepspeed",), harm="crash", causes=("max-grad-norm-place",))
def clipping_in_optimizer_parameters(unit: Unit, job: Job) -> Found:
    """Allow clipping-in-optimizer-parameters.

    ## What it does
    Finds `max_grad_norm` among the parameters of DeepSpeed's optimizer.

    ## Why is this bad?
    DeepSpeed stops: "'max_grad_norm' is not supported as an optimizer parameter, please switch to using the deepspeed
    parameter 'gradient_clipping'".

    ## Example
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 1,
      "optimizer": {"type": "Adam", "params": {"lr": 1e-5, "max_grad_norm": 1.0}}
    }
    ```

    ## Use instead
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 1,
      "gradient_clipping": 1.0,
      "optimizer": {"type": "Adam", "params": {"lr": 1e-5}}
    }
    ```

    ## Versions
    Since deepspeed 0.3.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/engine.py, _configure_basic_optimizer
    - deepspeedai/DeepSpeed#205
    """
    if "optimizer.params.max_grad_norm" in unit and "optimizer.type" in unit:
        found = unit["optimizer.params.max_grad_norm"]
        yield Problem(
            found,
            f"{full(found)} belongs to gradient_clipping at the top of the file",
            remove(found, why="and set gradient_clipping"),
        )


@rule("DS202", "untested-optimizer-under-zero", tools=("deepspeed",), harm="crash", causes=("untested-optimizer",))
def untested_optimizer_under_zero(unit: Unit, job: Job) -> Found:
    """Allow untested-optimizer-under-zero.

    ## What it does
    Finds an optimizer that DeepSpeed has not tested with ZeRO, without `zero_allow_untested_optimizer: true`.

    ## Why is this bad?
    DeepSpeed stops: "You are using an untested ZeRO Optimizer. Please add <"zero_allow_untested_optimizer": true>".

    ## Example
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 1,
      "zero_optimization": {"stage": 2},
      "optimizer": {"type": "SGD", "params": {"lr": 0.01}}
    }
    ```

    ## Use instead
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 1,
      "zero_optimization": {"stage": 2},
      "zero_allow_untested_optimizer": true,
      "optimizer": {"type": "SGD", "params": {"lr": 0.01}}
    }
    ```

    ## Versions
    All. Tested are Adam, AdamW, Adagrad and Lion, and Muon where it is part of DeepSpeed.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/zero/utils.py, ZERO_SUPPORTED_OPTIMIZERS
    - deepspeedai/DeepSpeed#173
    """
    name, stage = _optimizer(unit), zero_stage(unit, job)
    allowed = unit.truth("zero_allow_untested_optimizer")
    if name is None or not stage or allowed is not False or (name not in OWN and name not in TORCH):
        return
    if name.lower() not in TESTED and name not in ONE_BIT:
        key = unit.setting("zero_allow_untested_optimizer")
        fix = set_value(key, True) if key else add_after(unit["optimizer"], "zero_allow_untested_optimizer", True)
        setting = unit["optimizer.type"]
        yield Problem(
            setting,
            f"{full(setting)} is not tested with ZeRO stage {stage} and zero_allow_untested_optimizer is off",
            fix,
        )


@rule("DS203", "one-bit-optimizer-under-zero", tools=("deepspeed",), harm="crash", causes=("onebit-zero",))
def one_bit_optimizer_under_zero(unit: Unit, job: Job) -> Found:
    """Allow one-bit-optimizer-under-zero.

    ## What it does
    Finds OneBitAdam, ZeroOneAdam or OneBitLamb with a ZeRO stage of 1 or more.

    ## Why is this bad?
    They compress the gradients that ZeRO shards: "1bit-Adam is not compatible with ZeRO".

    ## Example
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 4,
      "fp16": {"enabled": true},
      "zero_optimization": {"stage": 1},
      "optimizer": {"type": "OneBitAdam", "params": {"lr": 1e-4, "freeze_step": 1000}}
    }
    ```

    ## Use instead
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 4,
      "fp16": {"enabled": true},
      "optimizer": {"type": "OneBitAdam", "params": {"lr": 1e-4, "freeze_step": 1000}}
    }
    ```

    ## Versions
    All.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/engine.py, _configure_basic_optimizer
    """
    name, stage, key = _optimizer(unit), zero_stage(unit, job), unit.setting("zero_optimization.stage")
    if name in ONE_BIT and stage:
        fix = set_value(key, 0, why="or use Adam") if key else None
        yield Problem(
            unit["optimizer.type"],
            f"{name} does not go with ZeRO, and the stage is {stage}",
            fix,
            (key,) if key else (),
        )


@rule("DS204", "unknown-deepspeed-optimizer", tools=("deepspeed",), harm="crash", causes=("ds-optimizer-unknown",))
def unknown_deepspeed_optimizer(unit: Unit, job: Job) -> Found:
    """Allow unknown-deepspeed-optimizer.

    ## What it does
    Finds an `optimizer.type` that neither DeepSpeed nor `torch.optim` has.

    ## Why is this bad?
    DeepSpeed stops: "AdamW8bit is not a supported DeepSpeed Optimizer". Names of `torch.optim` count as they are spelled
    there.

    ## Example
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 1,
      "zero_optimization": {"stage": 2},
      "optimizer": {"type": "AdamW8bit", "params": {"lr": 1e-5}}
    }
    ```

    ## Use instead
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 1,
      "zero_optimization": {"stage": 2},
      "optimizer": {"type": "AdamW", "params": {"lr": 1e-5}}
    }
    ```

    ## Versions
    All.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/engine.py, _is_supported_optimizer
    """
    name = _optimizer(unit)
    if name is None or name in OWN or name in TORCH or name == "auto":
        return
    near = next((known for known in sorted(TORCH) if known.lower() == name.lower()), None)
    setting = unit["optimizer.type"]
    fix = (
        set_value(setting, near, safe=True)
        if near
        else advise("use AdamW, or leave the section out and choose the optimizer in the trainer")
    )
    yield Problem(setting, f"{full(setting)} is no optimizer of DeepSpeed or torch.optim", fix)


@rule("DS205", "static-loss-scale-with-lamb", tools=("deepspeed",), harm="crash", causes=("lamb-loss-scale",))
def static_loss_scale_with_lamb(unit: Unit, job: Job) -> Found:
    """Allow static-loss-scale-with-lamb.

    ## What it does
    Finds Lamb or OneBitLamb with a fixed `fp16.loss_scale`.

    ## Why is this bad?
    DeepSpeed stops: "DeepSpeed lamb optimizer requires dynamic loss scaling".

    ## Example
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 4,
      "fp16": {"enabled": true, "loss_scale": 128},
      "optimizer": {"type": "Lamb", "params": {"lr": 1e-3}}
    }
    ```

    ## Use instead
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 4,
      "fp16": {"enabled": true, "loss_scale": 0},
      "optimizer": {"type": "Lamb", "params": {"lr": 1e-3}}
    }
    ```

    ## Versions
    All.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/engine.py, _do_sanity_check
    """
    scale = unit.number("fp16.loss_scale", 0)
    if _optimizer(unit) in ("lamb", "onebitlamb") and scale and scale > 0:
        found = unit["fp16.loss_scale"]
        yield Problem(
            found,
            f"{full(found)} is a fixed loss scale, and Lamb needs a dynamic one",
            set_value(found, 0),
            (unit["optimizer.type"],),
        )


@rule("DS206", "muon-with-reduce-scatter", tools=("deepspeed",), harm="crash", causes=("muon-reduce-scatter",))
def muon_with_reduce_scatter(unit: Unit, job: Job) -> Found:
    """Allow muon-with-reduce-scatter.

    ## What it does
    Finds the Muon optimizer with `reduce_scatter` on, the default, under ZeRO stage 3, or under stage 1 and 2 with
    optimizer offload.

    ## Why is this bad?
    Muon needs whole gradient matrices: "Muon and reduce scatter cannot be used together".

    ## Example
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 1,
      "zero_optimization": {"stage": 3},
      "optimizer": {"type": "Muon", "params": {"lr": 1e-3}}
    }
    ```

    ## Use instead
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 1,
      "zero_optimization": {"stage": 3, "reduce_scatter": false},
      "optimizer": {"type": "Muon", "params": {"lr": 1e-3}}
    }
    ```

    ## Versions
    Since deepspeed 0.18, which brought Muon to these stages.

    ## References
    - deepspeed 0.19.6, deepspeed/runtime/zero/stage3.py, DeepSpeedZeroOptimizer_Stage3.__init__
    - deepspeed 0.19.6, deepspeed/runtime/zero/stage_1_and_2.py, DeepSpeedZeroOptimizer.__init__
    """
    stage, offloaded = zero_stage(unit, job), not idle(unit, "zero_optimization.offload_optimizer")
    scatters = unit.truth("zero_optimization.reduce_scatter", True)
    if _optimizer(unit) == "muon" and scatters and (stage == 3 or (stage in (1, 2) and offloaded)):
        key, section = unit.setting("zero_optimization.reduce_scatter"), unit["zero_optimization.stage"]
        fix = set_value(key, False) if key else add_after(section, "reduce_scatter", False)
        yield Problem(
            unit["optimizer.type"],
            f"Muon does not go with reduce_scatter, which is on under ZeRO stage {stage}",
            fix,
            (key or section,),
        )


@rule(
    "DS207",
    "warmup-beyond-schedule",
    tools=("deepspeed",),
    harm="wrong_lr",
    severity="warning",
    causes=("scheduler-total-steps",),
)
def warmup_beyond_schedule(unit: Unit, job: Job) -> Found:
    """Allow warmup-beyond-schedule.

    ## What it does
    Finds a DeepSpeed schedule whose `warmup_num_steps` is not below its `total_num_steps`.

    ## Why is this bad?
    The learning rate never reaches its peak and never decays; DeepSpeed only logs "total_num_steps 1000 is less than
    warmup_num_steps 2000".

    ## Example
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 8,
      "zero_optimization": {"stage": 2},
      "scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 1000, "warmup_num_steps": 2000}}
    }
    ```

    ## Use instead
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 8,
      "zero_optimization": {"stage": 2},
      "scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 1000, "warmup_num_steps": 30}}
    }
    ```

    ## Versions
    All.

    ## References
    - https://deepspeed.readthedocs.io/en/latest/schedulers.html
    - deepspeed 0.19.8, deepspeed/runtime/lr_schedules.py, WarmupDecayLR
    """
    total = unit.number("scheduler.params.total_num_steps")
    warmup = unit.number("scheduler.params.warmup_num_steps")
    if total and warmup and warmup >= total:
        found, other = unit["scheduler.params.warmup_num_steps"], unit["scheduler.params.total_num_steps"]
        fix = advise("make warmup_num_steps a few percent of total_num_steps")
        yield Problem(
            found, f"a warm-up of {warmup:g} steps in a schedule of {total:g} never reaches the peak", fix, (other,)
        )


@rule("DS208", "unknown-deepspeed-scheduler", tools=("deepspeed",), harm="crash", causes=("ds-scheduler-unknown",))
def unknown_deepspeed_scheduler(unit: Unit, job: Job) -> Found:
    """Allow unknown-deepspeed-scheduler.

    ## What it does
    Finds a `scheduler.type` that is none of DeepSpeed's and, by its form, none of `torch.optim.lr_scheduler`.

    ## Why is this bad?
    DeepSpeed stops: "DeepSpeed does not recognize LR scheduler cosine". The names are classes: WarmupLR, WarmupDecayLR,
    WarmupCosineLR, OneCycle, LRRangeTest, or PyTorch's such as CosineAnnealingLR.

    ## Example
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 8,
      "zero_optimization": {"stage": 2},
      "scheduler": {"type": "cosine", "params": {"warmup_num_steps": 100}}
    }
    ```

    ## Use instead
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 8,
      "zero_optimization": {"stage": 2},
      "scheduler": {"type": "WarmupCosineLR", "params": {"warmup_num_steps": 100, "total_num_steps": 5000}}
    }
    ```

    ## Versions
    All.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/engine.py, _scheduler_from_config
    """
    name = unit.text("scheduler.type")
    if name is None or name in SCHEDULERS or name == "auto":
        return
    torch = name[:1].isupper() and (name.endswith("LR") or name in ("ReduceLROnPlateau", "CosineAnnealingWarmRestarts"))
    near = next((known for known in SCHEDULERS if known.lower() == name.lower()), None)
    if near or not torch or name.startswith("Warmup"):
        setting = unit["scheduler.type"]
        fix = set_value(setting, near, safe=True) if near else advise(f"use one of {', '.join(SCHEDULERS)}")
        yield Problem(setting, f"{full(setting)} is no schedule of DeepSpeed", fix)


@rule("DS209", "wrong-scheduler-parameters", tools=("deepspeed",), harm="crash", causes=("ds-scheduler-params",))
def wrong_scheduler_parameters(unit: Unit, job: Job) -> Found:
    """Allow wrong-scheduler-parameters.

    ## What it does
    Finds parameters that the chosen DeepSpeed schedule does not take, and `total_num_steps` missing where it needs it.

    ## Why is this bad?
    They are passed to the class as they stand: "WarmupLR.__init__() got an unexpected keyword argument
    'total_num_steps'", or "missing 1 required positional argument: 'total_num_steps'". WarmupCosineLR takes ratios
    (`warmup_min_ratio`, `cos_min_ratio`) and no learning rates.

    ## Example
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 8,
      "zero_optimization": {"stage": 2},
      "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 100, "total_num_steps": 5000}}
    }
    ```

    ## Use instead
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 8,
      "zero_optimization": {"stage": 2},
      "scheduler": {"type": "WarmupDecayLR", "params": {"warmup_num_steps": 100, "total_num_steps": 5000}}
    }
    ```

    ## Versions
    All; WarmupCosineLR since deepspeed 0.13.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/lr_schedules.py
    """
    name = unit.text("scheduler.type") or ""
    known = PARAMETERS.get(name)
    if known is None:
        return
    for key, found in unit.section("scheduler.params").items():
        if key not in known:
            takers = [other for other, takes in PARAMETERS.items() if key in takes and other != name]
            fix = set_value(unit["scheduler.type"], takers[0]) if key == "total_num_steps" else remove(found)
            yield Problem(
                found,
                f"{name} takes no {key}; {', '.join(takers) or 'none of the schedules'} does",
                fix,
                (unit["scheduler.type"],),
            )
    needed = NEEDED.get(name)
    if needed and unit.absent(f"scheduler.params.{needed}"):
        params = unit.setting("scheduler.params", "scheduler.type")
        yield Problem(
            params or unit, f"{name} needs {needed}", advise(f'set {needed}, or "auto" where transformers fills it in')
        )


@rule("DS210", "warmup-of-no-steps", tools=("deepspeed",), harm="crash", causes=("ds-warmup-zero",))
def no_warmup_steps(unit: Unit, job: Job) -> Found:
    """Allow warmup-of-no-steps.

    ## What it does
    Finds a `warmup_num_steps` of 0 or less in a DeepSpeed schedule.

    ## Why is this bad?
    DeepSpeed refuses it: "warmup_num_steps must be a positive integer, got 0". Older versions made two steps of it.

    ## Example
    ```json ds_config.json deepspeed=0.19.8
    {
      "train_micro_batch_size_per_gpu": 8,
      "zero_optimization": {"stage": 2},
      "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 0}}
    }
    ```

    ## Use instead
    ```json ds_config.json deepspeed=0.19.8
    {
      "train_micro_batch_size_per_gpu": 8,
      "zero_optimization": {"stage": 2},
      "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 1}}
    }
    ```

    ## Versions
    Since deepspeed 0.19.6.

    ## References
    - deepspeed 0.19.6, deepspeed/runtime/lr_schedules.py, WarmupLR
    - transformers 5.23.0, integrations/deepspeed.py, trainer_config_finalize
    """
    steps = unit.number("scheduler.params.warmup_num_steps", 1)
    kind = lower(unit, "scheduler.type") or ""
    if steps is not None and steps <= 0 and kind.startswith("warmup") and unit.since("0.19.6"):
        found = unit["scheduler.params.warmup_num_steps"]
        yield Problem(found, f"{full(found)} is refused: a warm-up has at least one step", set_value(found, 1))
