"""LLaMA-Factory: what a training stage allows, and what it is given to do."""

from __future__ import annotations

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import all_used, idle, strategy, unset, used
from advisor_mcp.linting.unit import Setting, Unit


def stage(unit: Unit) -> str | None:
    """The stage: what is written, else sft."""
    return unit.text("stage", "sft")


def method(unit: Unit) -> str | None:
    """The fine-tuning type: what is written, else lora."""
    return unit.text("finetuning_type", "lora")


def trains(unit: Unit) -> bool:
    """Whether it is a training configuration that trains."""
    return used(unit, "do_train") is not None


def beside(unit: Unit, *names: str) -> tuple[Setting, ...]:
    """Those of these settings that are written down."""
    return tuple(unit[name] for name in names if name in unit)


@rule("LF003", "evaluation-without-examples", tools=("llamafactory",), harm="crash", causes=("eval-without-val",))
def evaluation_without_examples(unit: Unit, job: Job) -> Found:
    """Allow evaluation-without-examples.

    ## What it does
    Finds an evaluation (`eval_strategy`, `do_eval`, `do_predict`, `predict_with_generate`) with neither `eval_dataset` nor
    a `val_size` above 0.

    ## Why is this bad?
    There is nothing to evaluate on: "Please make sure eval_dataset be provided or val_size >1e-6", once "Please specify
    dataset for evaluation."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    dataset: identity
    template: qwen
    eval_strategy: steps
    eval_steps: 100
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    dataset: identity
    template: qwen
    val_size: 0.1
    eval_strategy: steps
    eval_steps: 100
    ```

    ## Versions
    All; `predict_with_generate` alone since 0.9.4.

    ## References
    - llamafactory 0.9.5, hparams/parser.py, get_train_args
    """
    names = ("do_eval", "do_predict", *(("predict_with_generate",) if unit.since("0.9.4") else ()))
    asked = used(unit, *names)
    planned = strategy(unit, "eval_strategy")
    if asked is None and planned in ("steps", "epoch"):
        asked = unit["eval_strategy"]
    if (
        asked is None
        or not idle(unit, "eval_dataset", "val_size")
        or (unset(unit, "dataset", "tokenized_path") and not trains(unit))
    ):
        return
    fix = advise("set val_size: 0.1 or an eval_dataset") if "val_size" in unit else add_after(asked, "val_size", 0.1)
    yield Problem(
        asked, f"{asked.shown} needs data, but neither eval_dataset nor val_size is set", fix, beside(unit, "val_size")
    )


@rule("LF004", "two-evaluation-sources", tools=("llamafactory",), harm="crash", causes=("val-and-test-datasets",))
def two_evaluation_sources(unit: Unit, job: Job) -> Found:
    """Allow two-evaluation-sources.

    ## What it does
    Finds a `val_size` above 0 beside `eval_dataset`, or without any `dataset` to cut it from.

    ## Why is this bad?
    "Cannot specify `val_size` if `eval_dataset` is not None.", "Cannot specify `val_size` if `dataset` is None."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    dataset: identity
    template: qwen
    eval_dataset: alpaca_en_demo
    val_size: 0.1
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    dataset: identity
    template: qwen
    eval_dataset: alpaca_en_demo
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, hparams/data_args.py
    """
    size, data = used(unit, "val_size"), used(unit, "eval_dataset")
    if size and data:
        yield Problem(size, f"{size.shown} and {data.shown} both say what to evaluate on", remove(size), (data,))
    elif size and unset(unit, "dataset"):
        yield Problem(size, f"{size.shown} has no dataset to be cut from", remove(size))


@rule("LF005", "option-of-the-sft-stage", tools=("llamafactory",), harm="crash", causes=("stage-options",))
def option_of_the_sft_stage(unit: Unit, job: Job) -> Found:
    """Allow option-of-the-sft-stage.

    ## What it does
    Finds `predict_with_generate`, `neat_packing`, `train_on_prompt` or `mask_history` in another stage than `sft`.

    ## Why is this bad?
    "`neat_packing` cannot be set as True except SFT."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: dpo
    do_train: true
    dataset: dpo_en_demo
    template: qwen
    neat_packing: true
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: dpo
    do_train: true
    dataset: dpo_en_demo
    template: qwen
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, hparams/parser.py, get_train_args
    """
    kind = stage(unit)
    if kind and kind != "sft":
        for found in all_used(unit, ("predict_with_generate", "neat_packing", "train_on_prompt", "mask_history")):
            yield Problem(
                found, f"{found.shown} works in stage sft only, not in {kind}", remove(found), beside(unit, "stage")
            )


@rule("LF006", "prediction-without-generation", tools=("llamafactory",), harm="crash", causes=("predict-generate",))
def prediction_without_generation(unit: Unit, job: Job) -> Found:
    """Allow prediction-without-generation.

    ## What it does
    Finds `do_predict` in stage `sft` without `predict_with_generate`, and the latter together with `compute_accuracy`.

    ## Why is this bad?
    "Please enable `predict_with_generate` to save model predictions.", "Cannot use `predict_with_generate` and
    `compute_accuracy` together."

    ## Example
    ```yaml predict.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_predict: true
    template: qwen
    eval_dataset: identity
    ```

    ## Use instead
    ```yaml predict.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_predict: true
    template: qwen
    eval_dataset: identity
    predict_with_generate: true
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, hparams/parser.py, get_train_args
    """
    predict, generate = used(unit, "do_predict"), used(unit, "predict_with_generate")
    if predict and stage(unit) == "sft" and idle(unit, "predict_with_generate"):
        off = unit.settings.get("predict_with_generate")
        fix = set_value(off, True) if off else add_after(predict, "predict_with_generate", True)
        yield Problem(predict, "do_predict needs predict_with_generate: true", fix, (off,) if off else ())
    if generate and (accuracy := used(unit, "compute_accuracy")):
        yield Problem(
            accuracy, "compute_accuracy does not go with predict_with_generate", remove(accuracy), (generate,)
        )
    if generate and unit.before("0.9.4") and idle(unit, "eval_dataset") and (predict or used(unit, "do_eval")):
        yield Problem(
            generate, "predict_with_generate needs eval_dataset before llamafactory 0.9.4", advise("set eval_dataset")
        )


@rule("LF007", "best-model-of-a-reward-stage", tools=("llamafactory",), harm="crash", causes=("rm-best-model",))
def best_model_of_a_reward_stage(unit: Unit, job: Job) -> Found:
    """Allow best-model-of-a-reward-stage.

    ## What it does
    Finds `load_best_model_at_end: true` in the stages `rm` and `ppo`.

    ## Why is this bad?
    The value head is saved beside the model and would not be loaded with it: "RM and PPO stages do not support
    `load_best_model_at_end`."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: rm
    do_train: true
    dataset: dpo_en_demo
    template: qwen
    load_best_model_at_end: true
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: rm
    do_train: true
    dataset: dpo_en_demo
    template: qwen
    ```

    ## Versions
    All.

    ## References
    - hiyouga/LlamaFactory#1422
    - llamafactory 0.9.5, hparams/parser.py, get_train_args
    """
    best = used(unit, "load_best_model_at_end")
    if best and stage(unit) in ("rm", "ppo"):
        yield Problem(
            best, f"load_best_model_at_end does not work in stage {stage(unit)}", remove(best), beside(unit, "stage")
        )


@rule("LF008", "incomplete-ppo", tools=("llamafactory",), harm="crash", causes=("ppo-reward-model", "ppo-options"))
def incomplete_ppo(unit: Unit, job: Job) -> Found:
    """Allow incomplete-ppo.

    ## What it does
    Checks what the stage `ppo` needs: a `reward_model`, of a `reward_model_type` that fits `finetuning_type`; `do_train`; a
    logger that it knows; no `shift_attn`; no Unsloth with a LoRA reward model.

    ## Why is this bad?
    "`reward_model` is necessary for PPO training.", "`reward_model_type` cannot be lora for Freeze/Full PPO training.",
    "PPO only accepts wandb or tensorboard logger."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: ppo
    do_train: true
    finetuning_type: lora
    dataset: identity
    template: qwen
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: ppo
    do_train: true
    finetuning_type: lora
    dataset: identity
    template: qwen
    reward_model: saves/qwen/reward
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, hparams/finetuning_args.py and hparams/parser.py
    """
    if stage(unit) != "ppo":
        return
    where = unit.setting("stage") or unit
    if unset(unit, "reward_model"):
        yield Problem(where, "stage ppo needs a reward_model", advise("set reward_model"))
    kind, how = unit.text("reward_model_type", "lora"), method(unit)
    if kind in ("lora", "oft") and how and how != kind and used(unit, "reward_model"):
        message = f"reward_model_type {kind} does not go with finetuning_type: {how}"
        written = unit.settings.get("reward_model_type")
        fix = set_value(written, "full") if written else add_after(unit["reward_model"], "reward_model_type", "full")
        yield Problem(written or unit["reward_model"], message, fix, beside(unit, "finetuning_type"))
    if shift := used(unit, "shift_attn"):
        yield Problem(shift, "shift_attn does not work in stage ppo", remove(shift))
    if kind == "lora" and (unsloth := used(unit, "use_unsloth")):
        yield Problem(
            unsloth,
            "use_unsloth does not work with a LoRA reward model",
            set_value(unsloth, False),
            beside(unit, "reward_model_type"),
        )
    loggers = [str(item) for item in unit.items("report_to") or []]
    if loggers and any(name not in ("wandb", "tensorboard", "trackio", "none") for name in loggers):
        yield Problem(
            unit["report_to"],
            f"stage ppo does not log to {', '.join(loggers)}",
            set_value(unit["report_to"], "tensorboard"),
        )
    if unset(unit, "do_train") or (used(unit, "do_eval", "do_predict") and not trains(unit)):
        yield Problem(
            where, "stage ppo only trains; it needs do_train: true", advise("set do_train: true, evaluate in stage sft")
        )


@rule(
    "LF009", "label-smoothing-of-another-loss", tools=("llamafactory",), harm="crash", causes=("dpo-label-smoothing",)
)
def label_smoothing_of_another_loss(unit: Unit, job: Job) -> Found:
    """Allow label-smoothing-of-another-loss.

    ## What it does
    Finds `dpo_label_smoothing` above 0 with a `pref_loss` other than `sigmoid`.

    ## Why is this bad?
    "`dpo_label_smoothing` is only valid for sigmoid loss function."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: dpo
    do_train: true
    dataset: dpo_en_demo
    template: qwen
    pref_loss: simpo
    dpo_label_smoothing: 0.1
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: dpo
    do_train: true
    dataset: dpo_en_demo
    template: qwen
    pref_loss: simpo
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, hparams/finetuning_args.py
    """
    smoothing, loss = used(unit, "dpo_label_smoothing"), unit.text("pref_loss", "sigmoid")
    if smoothing and stage(unit) == "dpo" and loss not in ("sigmoid", None):
        yield Problem(
            smoothing,
            f"dpo_label_smoothing needs pref_loss: sigmoid, not {loss}",
            remove(smoothing),
            (unit["pref_loss"],),
        )


@rule(
    "LF010", "nothing-to-do", tools=("llamafactory",), harm="ignored", severity="warning", causes=("do-train-missing",)
)
def nothing_to_do(unit: Unit, job: Job) -> Found:
    """Allow nothing-to-do.

    ## What it does
    Finds a training configuration (a stage, data, a learning rate) without `do_train`, `do_eval` or `do_predict`.

    ## Why is this bad?
    All three are off unless they are set: the model is loaded, the data is tokenised, and the run ends without a step.

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    dataset: identity
    template: qwen
    learning_rate: 1.0e-4
    num_train_epochs: 3.0
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    dataset: identity
    template: qwen
    learning_rate: 1.0e-4
    num_train_epochs: 3.0
    ```

    ## Versions
    All. The web interface sets it by itself.

    ## References
    - llamafactory 0.9.5, train/sft/workflow.py, run_sft
    """
    plan = used(unit, "learning_rate", "num_train_epochs", "max_steps")
    if plan and used(unit, "stage") and used(unit, "dataset") and unset(unit, "do_train", "do_eval", "do_predict"):
        planned = strategy(unit, "eval_strategy")
        if planned not in ("steps", "epoch"):
            yield Problem(
                unit["stage"],
                "neither do_train nor do_eval is set, so nothing is trained",
                add_after(unit["stage"], "do_train", True),
            )


@rule("LF011", "training-without-data", tools=("llamafactory",), harm="crash", causes=("no-dataset",))
def training_without_data(unit: Unit, job: Job) -> Found:
    """Allow training-without-data.

    ## What it does
    Finds `do_train: true` without a `dataset`.

    ## Why is this bad?
    "Please specify dataset for training." A `tokenized_path` alone is not enough.

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    template: qwen
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    dataset: identity
    template: qwen
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, hparams/parser.py, get_train_args
    """
    if trains(unit) and unset(unit, "dataset") and used(unit, "stage", "finetuning_type", "template"):
        yield Problem(unit["do_train"], "do_train needs a dataset", advise("name a dataset of dataset_info.json"))
