"""torchtitan's schedule, checkpoints, compiler and quantisation."""

from advisor_mcp.linting.edits import advise, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ti import TITAN, whole
from advisor_mcp.linting.unit import Unit


@rule(
    "TI030",
    "warmup-longer-than-the-training",
    tools=TITAN,
    harm="wrong_lr",
    severity="warning",
    causes=("warmup-gt-steps",),
)
def warmup_longer_than_the_training(unit: Unit, job: Job) -> Found:
    """Allow warmup-longer-than-the-training.

    ## What it does
    Checks that warm-up, and warm-up plus decay, fit into the steps of the training (or `lr_scheduler.total_steps`).

    ## Why is this bad?
    torchtitan cuts them with a warning: the learning rate is never reached, or never decays.

    ## Example
    ```toml train.toml
    [lr_scheduler]
    warmup_steps = 2000
    [training]
    steps = 1000
    ```

    ## Use instead
    ```toml train.toml
    [lr_scheduler]
    warmup_steps = 100
    [training]
    steps = 1000
    ```

    ## Versions
    All.

    ## References
    - torchtitan 0.2.2, torchtitan/components/lr_scheduler.py, build_lr_schedulers
    """
    here, warmup = unit.setting("lr_scheduler.warmup_steps"), whole(unit, "lr_scheduler.warmup_steps", 200)
    end = unit.setting("lr_scheduler.total_steps", "training.steps")
    total = whole(unit, end.name) if end is not None else None
    share, ratio = unit.number("lr_scheduler.decay_ratio"), unit.setting("lr_scheduler.decay_ratio")
    if end is None or not total or warmup is None:
        return
    if warmup >= total and total > 1:
        at = here or end
        fix = set_value(here, max(1, total // 10)) if here is not None else advise("set lr_scheduler.warmup_steps")
        was = here.shown if here is not None else f"the default warm-up of {warmup} steps"
        yield Problem(at, f"{was} is not less than {end.shown}", fix, (end,))
    elif ratio is not None and share and here is not None and warmup + round(total * share) > total:
        yield Problem(
            ratio,
            f"{warmup} steps of warm-up and {share:.0%} of {total} steps of decay are more than the training",
            set_value(ratio, round(1 - warmup / total, 3)),
            (here,),
        )


@rule("TI039", "unknown-optimizer", tools=TITAN, harm="crash", causes=("optimizer-name",))
def unknown_optimizer(unit: Unit, job: Job) -> Found:
    """Allow unknown-optimizer.

    ## What it does
    Checks the optimizer's name: Adam or AdamW, in that spelling.

    ## Why is this bad?
    torchtitan stops: "Optimizer adamw not added".

    ## Example
    ```toml train.toml
    [training]
    steps = 1000
    [optimizer]
    name = "adamw"
    ```

    ## Use instead
    ```toml train.toml
    [training]
    steps = 1000
    [optimizer]
    name = "AdamW"
    ```

    ## Versions
    0.2; later versions and forks take more.

    ## References
    - torchtitan 0.2.2, torchtitan/components/optimizer.py, build_optimizers
    """
    here, name = unit.setting("optimizer.name"), unit.text("optimizer.name")
    if (
        here is None
        or not name
        or name in ("Adam", "AdamW")
        or unit.text("job.custom_config_module")
        or unit.text("experimental.custom_import")
    ):
        return
    near = {"adam": "Adam", "adamw": "AdamW"}.get(name.lower())
    if near or name in ("SGD", "sgd", "Adafactor"):
        yield Problem(here, f"{here.shown} is not Adam or AdamW", set_value(here, near or "AdamW"))


@rule(
    "TI040", "endless-validation", tools=("torchtitan",), harm="hang", severity="warning", causes=("validation-steps",)
)
def endless_validation(unit: Unit, job: Job) -> Found:
    """Allow endless-validation.

    ## What it does
    Looks for a validation over all of its data (`steps = -1`, the default), and for one of 0 steps.

    ## Why is this bad?
    Ranks have different numbers of samples; those that are done first wait for the others for ever. 0 is refused.

    ## Example
    ```toml train.toml
    [training]
    steps = 1000
    [validation]
    enable = true
    steps = -1
    ```

    ## Use instead
    ```toml train.toml
    [training]
    steps = 1000
    [validation]
    enable = true
    steps = 100
    ```

    ## Versions
    0.2.

    ## References
    - torchtitan 0.2.2, torchtitan/components/validate.py
    - torchtitan 0.2.2, torchtitan/config/job_config.py, Validation
    """
    enable = unit.setting("validation.enable")
    here, steps = unit.setting("validation.steps") or enable, whole(unit, "validation.steps", -1)
    if enable is None or here is None or unit.truth("validation.enable") is not True or steps is None:
        return
    if steps == 0 or steps < -1:
        yield Problem(
            here,
            "a validation has 1 step or more",
            set_value(here, 100) if here is not enable else None,
            severity="error",
        )
    elif steps == -1:
        fix = set_value(here, 100) if here is not enable else advise("set validation.steps")
        yield Problem(
            here,
            "a validation without a number of steps may wait for ever where ranks have different numbers of samples",
            fix,
        )
