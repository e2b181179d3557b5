"""TrainingArguments: when it evaluates, saves and logs, and which checkpoint is the best."""

from __future__ import annotations

from advisor_mcp.linting.concepts import HF_FAMILY
from advisor_mcp.linting.edits import Fix, add_after, advise, remove, rename, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import strategy, used
from advisor_mcp.linting.rules._hf import single, transformers_since
from advisor_mcp.linting.unit import Setting, Unit

EVAL = ("eval_strategy", "evaluation_strategy")
LOSSES = ("loss", "perplexity", "wer", "cer", "mse", "mae", "rmse", "error")
SCORES = (
    "accuracy",
    "acc",
    "f1",
    "precision",
    "recall",
    "auc",
    "bleu",
    "rouge1",
    "rouge2",
    "rougel",
    "rougelsum",
    "exact_match",
    "reward",
)


def _evaluates(unit: Unit) -> str | None:
    """When it evaluates: no, steps or epoch; `no` where nothing is said, None where it is not known."""
    if not any(name in unit for name in EVAL):
        return None if unit.open else "no"
    return strategy(unit, *EVAL)


def _saves(unit: Unit) -> str | None:
    if "save_strategy" not in unit:
        return None if unit.open else "steps"
    return strategy(unit, "save_strategy")


def _eval_steps(unit: Unit) -> float | None:
    """Steps between evaluations; those of logging where none are said."""
    steps = unit.number("eval_steps", 0)
    default = 10 if unit.tool == "trl" else 500
    return steps if steps is None or steps else unit.number("logging_steps", default)


@rule("HF001", "best-model-without-matching-saves", tools=HF_FAMILY, harm="crash", causes=("best-model-strategy",))
def best_model_without_matching_saves(unit: Unit, job: Job) -> Found:
    """Allow best-model-without-matching-saves.

    ## What it does
    Finds `load_best_model_at_end: true` where checkpoints are not saved when the model is evaluated: different
    strategies, or `save_steps` that is no multiple of `eval_steps`.

    ## Why is this bad?
    The best checkpoint must exist: "--load_best_model_at_end requires the save and eval strategy to match", "requires the
    saving steps to be a round multiple of the evaluation steps".

    ## Example
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 4
    load_best_model_at_end: true
    eval_strategy: "no"
    save_strategy: epoch
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 4
    load_best_model_at_end: true
    eval_strategy: epoch
    save_strategy: epoch
    ```

    ## Versions
    All; `save_strategy: best` (transformers 4.47) needs no match. `evaluation_strategy` is `eval_strategy` since transformers
    4.41 and nothing else since 4.51. Ratios and absolute steps cannot be mixed.

    ## References
    - transformers 5.23.0, training_args.py, _validate_args
    - huggingface/transformers#12786
    - hiyouga/LlamaFactory#8133
    """
    best, evaluates, saves = unit.on("load_best_model_at_end"), _evaluates(unit), _saves(unit)
    if best is None or evaluates is None or saves is None or saves == "best":
        return
    old = unit.setting("evaluation_strategy")
    if (
        old is not None
        and "eval_strategy" not in unit
        and evaluates == saves != "no"
        and transformers_since(unit, "4.51")
    ):
        said = f"{old.shown} no longer sets eval_strategy, and without evaluation there is no best model"
        yield Problem(old, said, rename(old, "eval_strategy"), (best,))
    elif evaluates != saves:
        setting = unit.setting(*EVAL)
        wanted = "steps" if saves == "no" else saves
        fix = set_value(setting, wanted) if setting and saves != "no" else _matching(unit, best, evaluates, saves)
        also = tuple(found for found in (setting, unit.setting("save_strategy")) if found)
        yield Problem(
            best, f"the best model is kept by evaluation, which is {evaluates!r}, but saving is {saves!r}", fix, also
        )
    elif evaluates == "steps":
        yield from _steps(unit, best)


def _matching(unit: Unit, best: Setting, evaluates: str, saves: str) -> Fix:
    save = unit.setting("save_strategy")
    if saves == "no" and save is not None:
        return set_value(save, evaluates)
    return add_after(best, "--eval_strategy" if best.syntax == "shell" else "eval_strategy", saves)


def _steps(unit: Unit, best: Setting) -> Found:
    every, save = _eval_steps(unit), unit.number("save_steps", 500)
    place = unit.setting("save_steps", "eval_steps") or best
    if not every or not save:
        return
    if (every < 1) != (save < 1):
        yield Problem(
            place,
            f"save_steps {save:g} and eval_steps {every:g}: one is a share of the run and one a number of steps",
            advise("give both as steps"),
            (best,),
        )
    elif round(save * 10**6) % max(round(every * 10**6), 1):
        fix = (
            set_value(place, int(max(save // every, 1) * every))
            if every >= 1 and place.name == "save_steps"
            else advise("make save_steps a multiple of eval_steps")
        )
        also = tuple(found for found in (unit.setting("eval_steps", "logging_steps"), best) if found)
        yield Problem(
            place,
            f"save_steps {save:g} is no multiple of eval_steps {every:g}, as load_best_model_at_end needs",
            fix,
            also,
        )


@rule(
    "HF002",
    "run-too-short-to-save",
    tools=HF_FAMILY,
    harm="lost_work",
    severity="warning",
    causes=("best-model-never-saved",),
)
def run_too_short_to_save(unit: Unit, job: Job) -> Found:
    """Allow run-too-short-to-save.

    ## What it does
    Finds `load_best_model_at_end: true` in a run whose `max_steps` ends before the first checkpoint or evaluation, or that
    neither saves nor evaluates.

    ## Why is this bad?
    No checkpoint is compared, so there is no best model to load; `best_model_checkpoint` stays None and nobody says so.

    ## Example
    ```yaml train.yaml
    output_dir: out
    load_best_model_at_end: true
    eval_strategy: steps
    save_strategy: steps
    eval_steps: 500
    save_steps: 500
    max_steps: 300
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    load_best_model_at_end: true
    eval_strategy: steps
    save_strategy: steps
    eval_steps: 100
    save_steps: 100
    max_steps: 300
    ```

    ## Versions
    All.

    ## References
    - huggingface/transformers#28500
    """
    best, evaluates, saves = unit.on("load_best_model_at_end"), _evaluates(unit), _saves(unit)
    if best is None or evaluates != saves:
        return
    if saves == "no":
        yield Problem(best, f"{best.shown} in a run that neither evaluates nor saves", remove(best))
        return
    limit, save = unit.number("max_steps", -1), unit.number("save_steps", 500)
    if saves == "steps" and limit and save and 0 < limit < save:
        place = unit.setting("save_steps", "max_steps") or best
        yield Problem(
            place,
            f"max_steps {limit:g} ends before the first checkpoint at step {save:g}",
            advise("save and evaluate more often"),
            (unit["max_steps"], best),
        )


@rule(
    "HF003",
    "evaluation-after-the-end",
    tools=HF_FAMILY,
    harm="ignored",
    severity="warning",
    causes=("eval-never-runs",),
)
def evaluation_after_the_end(unit: Unit, job: Job) -> Found:
    """Allow evaluation-after-the-end.

    ## What it does
    Finds `eval_steps` beyond `max_steps`.

    ## Why is this bad?
    The run ends before its first evaluation.

    ## Example
    ```yaml train.yaml
    output_dir: out
    eval_strategy: steps
    eval_steps: 500
    max_steps: 200
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    eval_strategy: steps
    eval_steps: 50
    max_steps: 200
    ```

    ## Versions
    All.

    ## References
    - transformers 5.23.0, trainer_callback.py, DefaultFlowCallback
    """
    limit, every = unit.number("max_steps", -1), unit.number("eval_steps")
    if (
        _evaluates(unit) == "steps"
        and unit.on("load_best_model_at_end") is None
        and limit
        and every
        and 0 < limit < every
    ):
        yield Problem(
            unit["eval_steps"],
            f"{unit['eval_steps'].shown} is beyond the end of the run at max_steps {limit:g}",
            advise("evaluate more often"),
            (unit["max_steps"],),
        )


@rule(
    "HF004",
    "evaluation-steps-without-evaluation",
    tools=HF_FAMILY,
    harm="ignored",
    severity="info",
    causes=("eval-steps-ignored",),
)
def evaluation_steps_without_evaluation(unit: Unit, job: Job) -> Found:
    """Allow evaluation-steps-without-evaluation.

    ## What it does
    Finds `eval_steps` without `eval_strategy: steps`.

    ## Why is this bad?
    The default strategy is "no": the run is never evaluated and the number of steps says nothing.

    ## Example
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 4
    eval_steps: 100
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 4
    eval_strategy: steps
    eval_steps: 100
    ```

    ## Versions
    All.

    ## References
    - transformers 5.23.0, training_args.py, eval_strategy
    """
    steps = single(unit, ("eval_steps",))
    if steps is not None and _evaluates(unit) in ("no", "epoch") and unit.on("do_predict") is None:
        setting = unit.setting(*EVAL)
        name = "--eval_strategy" if steps.syntax == "shell" else "eval_strategy"
        fix = set_value(setting, "steps") if setting else add_after(steps, name, "steps")
        said = setting.shown if setting else 'the default, eval_strategy "no"'
        yield Problem(
            steps,
            f"{steps.shown} counts with eval_strategy steps only, and {said} is in force",
            fix,
            (setting,) if setting else (),
        )


@rule("HF005", "schedule-without-evaluation", tools=HF_FAMILY, harm="crash", causes=("plateau-without-eval",))
def schedule_without_evaluation(unit: Unit, job: Job) -> Found:
    """Allow schedule-without-evaluation.

    ## What it does
    Finds a learning rate schedule that follows a metric (`reduce_lr_on_plateau`, `greedy`) without evaluation.

    ## Why is this bad?
    transformers stops: "lr_scheduler_type reduce_lr_on_plateau requires an eval strategy".

    ## Example
    ```yaml train.yaml
    output_dir: out
    lr_scheduler_type: reduce_lr_on_plateau
    eval_strategy: "no"
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    lr_scheduler_type: reduce_lr_on_plateau
    eval_strategy: epoch
    ```

    ## Versions
    All; `greedy` since transformers 5.

    ## References
    - transformers 5.23.0, training_args.py, _validate_args
    """
    schedule = unit.setting("lr_scheduler_type")
    if (
        schedule is not None
        and unit.text("lr_scheduler_type") in ("reduce_lr_on_plateau", "greedy")
        and _evaluates(unit) == "no"
    ):
        setting = unit.setting(*EVAL)
        name = "--eval_strategy" if schedule.syntax == "shell" else "eval_strategy"
        fix = set_value(setting, "epoch") if setting else add_after(schedule, name, "epoch")
        yield Problem(schedule, f"{schedule.shown} needs evaluation, which is off", fix, (setting,) if setting else ())


@rule("HF006", "steps-out-of-range", tools=HF_FAMILY, harm="crash", causes=("steps-range",))
def steps_out_of_range(unit: Unit, job: Job) -> Found:
    """Allow steps-out-of-range.

    ## What it does
    Finds steps between logs, evaluations or checkpoints that are 0 or no whole number above 1, and
    `torch_empty_cache_steps` below 1.

    ## Why is this bad?
    transformers stops: "logging strategy steps requires non-zero --logging_steps", "--eval_steps must be an integer if
    bigger than 1", "`torch_empty_cache_steps` must be an integer bigger than 0".

    ## Example
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 4
    logging_steps: 0
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 4
    logging_steps: 10
    ```

    ## Versions
    All. Below 1 is a share of the run.

    ## References
    - transformers 5.23.0, training_args.py, _validate_args
    """
    counted = {
        "logging_steps": strategy(unit, "logging_strategy") or "steps",
        "save_steps": _saves(unit),
        "eval_steps": _evaluates(unit),
    }
    for name, when in counted.items():
        value = unit.number(name)
        if value is None or when != "steps":
            continue
        if name == "logging_steps" and value == 0:
            yield Problem(
                unit[name],
                f"{unit[name].shown} with logging_strategy steps",
                set_value(unit[name], 10, why='or logging_strategy: "no"'),
            )
        elif value > 1 and value != int(value):
            yield Problem(unit[name], f"{unit[name].shown} is no whole number", set_value(unit[name], int(value)))
    empty = unit.number("torch_empty_cache_steps")
    if empty is not None and (empty < 1 or empty != int(empty)):
        found = unit["torch_empty_cache_steps"]
        yield Problem(found, f"{found.shown} is no whole number above 0", remove(found))


@rule(
    "HF007",
    "best-by-the-wrong-direction",
    tools=HF_FAMILY,
    harm="wrong_result",
    severity="warning",
    causes=("best-metric-direction",),
)
def best_by_the_wrong_direction(unit: Unit, job: Job) -> Found:
    """Allow best-by-the-wrong-direction.

    ## What it does
    Finds `greater_is_better: true` for a loss or an error rate, and `false` for an accuracy, F1, BLEU or the like.

    ## Why is this bad?
    The worst checkpoint is kept and loaded as the best one.

    ## Example
    ```yaml train.yaml
    output_dir: out
    eval_strategy: epoch
    save_strategy: epoch
    load_best_model_at_end: true
    metric_for_best_model: eval_loss
    greater_is_better: true
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    eval_strategy: epoch
    save_strategy: epoch
    load_best_model_at_end: true
    metric_for_best_model: eval_loss
    greater_is_better: false
    ```

    ## Versions
    All. Where it is not set, transformers takes every metric that does not end in "loss" for one to maximise.

    ## References
    - transformers 5.23.0, training_args.py, greater_is_better
    """
    metric = (unit.text("metric_for_best_model", "loss") or "").lower().removeprefix("eval_")
    greater = unit.truth("greater_is_better", None)
    setting = unit.setting("greater_is_better", "metric_for_best_model")
    if setting is None or not (used(unit, "load_best_model_at_end") or strategy(unit, "save_strategy") == "best"):
        return
    down = metric.endswith("loss") or metric in LOSSES
    also = tuple(unit[name] for name in ("metric_for_best_model",) if name in unit and unit[name] is not setting)
    if down and (
        greater is True or ("greater_is_better" not in unit and not unit.open and not metric.endswith("loss"))
    ):
        fix = (
            set_value(setting, False)
            if setting.name == "greater_is_better"
            else add_after(setting, "greater_is_better", False)
        )
        yield Problem(setting, f"{metric} is better when it is small, and greater_is_better is on", fix, also)
    elif metric in SCORES and greater is False:
        yield Problem(
            setting,
            f"{metric} is better when it is large, and greater_is_better is off",
            set_value(setting, True),
            also,
        )
