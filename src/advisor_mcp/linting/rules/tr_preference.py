"""TRL's trainers on preferences: DPO, KTO and reward models."""

from __future__ import annotations

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import used
from advisor_mcp.linting.rules._hf import adapter, lower, numbers
from advisor_mcp.linting.unit import Unit

TRL = ("trl",)
LOSSES = {
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_pair", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
}  # fmt: skip
UNSMOOTHED = {"hinge", "ipo", "bco_pair", "sppo_hard", "nca_pair", "apo_zero", "apo_down"}
DIVERGENCE = {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"}


def _losses(unit: Unit) -> list[str] | None:
    """The losses of a DPO run; sigmoid where none is named."""
    if "loss_type" not in unit:
        return None if unit.open else ["sigmoid"]
    items = unit.items("loss_type")
    return None if items is None else [str(item).strip("\"'[] ").lower() for item in items]


@rule("TR105", "losses-and-weights", tools=TRL, harm="crash", causes=("dpo-loss-weights",))
def losses_and_weights(unit: Unit, job: Job) -> Found:
    """Allow losses-and-weights.

    ## What it does
    Compares the number of `loss_weights` with the number of DPO's losses.

    ## Why is this bad?
    TRL stops: "`loss_weights` must have the same length as `loss_type` when combining multiple losses."

    ## Example
    ```yaml train.yaml
    # trl dpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    loss_type: [sigmoid, bco_pair, sft]
    loss_weights: [0.8, 0.2]
    ```

    ## Use instead
    ```yaml train.yaml
    # trl dpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    loss_type: [sigmoid, bco_pair, sft]
    loss_weights: [0.8, 0.2, 1.0]
    ```

    ## Versions
    Since TRL 0.21.

    ## References
    - trl 1.16.0, trainer/dpo_config.py
    """
    losses, weights = _losses(unit), numbers(unit, "loss_weights")
    if unit.scope == "dpo" and losses is not None and weights is not None and len(losses) != len(weights):
        also = tuple(unit[name] for name in ("loss_type",) if name in unit)
        yield Problem(
            unit["loss_weights"],
            f"{len(weights)} weights for {len(losses)} losses",
            advise("give one weight for each loss"),
            also,
        )


@rule("TR106", "loss-that-needs-smoothing", tools=TRL, harm="crash", causes=("dpo-exo-smoothing",))
def loss_that_needs_smoothing(unit: Unit, job: Job) -> Found:
    """Allow loss-that-needs-smoothing.

    ## What it does
    Finds DPO's `exo_pair` loss with `label_smoothing: 0`, the default.

    ## Why is this bad?
    It takes the logarithm of the smoothing: "Label smoothing must be greater than 0.0 when using 'exo_pair' loss. The EXO
    paper recommends a value of 1e-3."

    ## Example
    ```yaml train.yaml
    # trl dpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    loss_type: exo_pair
    ```

    ## Use instead
    ```yaml train.yaml
    # trl dpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    loss_type: exo_pair
    label_smoothing: 0.001
    ```

    ## Versions
    Refused since TRL 0.29; before it 0 was replaced by 1e-3.

    ## References
    - trl 1.16.0, trainer/dpo_trainer.py
    """
    smoothing = unit.number("label_smoothing", None if unit.open else 0)
    if unit.scope == "dpo" and "exo_pair" in (_losses(unit) or ()) and smoothing == 0 and unit.since("0.29"):
        setting, loss = unit.setting("label_smoothing"), unit["loss_type"]
        name = "--label_smoothing" if loss.syntax == "shell" else "label_smoothing"
        fix = set_value(setting, 0.001) if setting else add_after(loss, name, 0.001)
        yield Problem(loss, f"{loss.shown} needs label_smoothing above 0", fix, (setting,) if setting else ())


@rule(
    "TR107",
    "smoothing-that-is-ignored",
    tools=TRL,
    harm="ignored",
    severity="warning",
    causes=("dpo-smoothing-ignored",),
)
def smoothing_that_is_ignored(unit: Unit, job: Job) -> Found:
    """Allow smoothing-that-is-ignored.

    ## What it does
    Finds `label_smoothing` with a DPO loss that has none (hinge, ipo, bco_pair, sppo_hard, nca_pair, apo), and a value of
    0.5 or more with the robust loss.

    ## Why is this bad?
    It is ignored, or turns the preference round: "The `label_smoothing` parameter should lie in [0.0, 0.5) for the
    'robust' loss".

    ## Example
    ```yaml train.yaml
    # trl dpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    loss_type: ipo
    label_smoothing: 0.1
    ```

    ## Use instead
    ```yaml train.yaml
    # trl dpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    loss_type: ipo
    ```

    ## Versions
    All.

    ## References
    - trl 0.24.0, trainer/dpo_trainer.py
    - trl 1.16.0, trainer/dpo_trainer.py
    """
    losses, smoothing = _losses(unit), unit.number("label_smoothing", 0)
    if unit.scope != "dpo" or not losses or not smoothing or smoothing < 0:
        return
    setting, also = unit["label_smoothing"], tuple(unit[name] for name in ("loss_type",) if name in unit)
    if set(losses) <= UNSMOOTHED:
        yield Problem(setting, f"{setting.shown} is ignored by the loss {', '.join(losses)}", remove(setting), also)
    elif "robust" in losses and smoothing >= 0.5:
        yield Problem(
            setting, f"{setting.shown} is outside 0 to 0.5 for the robust loss", set_value(setting, 0.1), also
        )


@rule("TR108", "loss-that-sorts-its-samples", tools=TRL, harm="crash", causes=("dpo-weighting-aot", "dpo-f-divergence"))
def loss_that_sorts_its_samples(unit: Unit, job: Job) -> Found:
    """Allow loss-that-sorts-its-samples.

    ## What it does
    Finds DPO losses with options they cannot have: `use_weighting` with aot, and an `f_divergence_type` other than
    reverse_kl with losses that look at chosen and rejected separately.

    ## Why is this bad?
    TRL stops: "WPO-style weighting is not implemented for 'aot' or 'aot_unpaired'", "`f_divergence_type='js_divergence'`
    is only supported for the following loss types".

    ## Example
    ```yaml train.yaml
    # trl dpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    loss_type: aot
    use_weighting: true
    ```

    ## Use instead
    ```yaml train.yaml
    # trl dpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    loss_type: aot
    ```

    ## Versions
    Since TRL 0.29 and 1.x.

    ## References
    - trl 1.16.0, trainer/dpo_trainer.py
    """
    losses = set(_losses(unit) or ())
    if unit.scope != "dpo" or not losses or not unit.since("1.0"):
        return
    weighting, divergence = unit.on("use_weighting"), lower(unit, "f_divergence_type", "reverse_kl")
    also = tuple(unit[name] for name in ("loss_type",) if name in unit)
    if weighting is not None and losses & {"aot", "aot_unpaired"}:
        yield Problem(
            weighting, f"{weighting.shown} does not go with aot, which sorts its samples", remove(weighting), also
        )
    if divergence not in (None, "reverse_kl") and losses - DIVERGENCE and losses <= LOSSES:
        setting = unit["f_divergence_type"]
        others = ", ".join(sorted(losses - DIVERGENCE))
        yield Problem(
            setting, f"{setting.shown} does not go with the loss {others}", set_value(setting, "reverse_kl"), also
        )


@rule("TR109", "unknown-preference-loss", tools=TRL, harm="crash", causes=("dpo-loss-unknown",))
def unknown_preference_loss(unit: Unit, job: Job) -> Found:
    """Allow unknown-preference-loss.

    ## What it does
    Finds a `loss_type` that DPO does not have; `kto_pair` is KTO's trainer.

    ## Why is this bad?
    TRL stops in the first step: "Unknown loss type: dpo. Should be one of ['sigmoid', 'hinge', 'ipo', ...".

    ## Example
    ```yaml train.yaml
    # trl dpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    loss_type: kto_pair
    ```

    ## Use instead
    ```yaml train.yaml
    # trl dpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    loss_type: apo_zero
    ```

    ## Versions
    All; `kto_pair` went with TRL 0.10.

    ## References
    - trl 1.16.0, trainer/dpo_trainer.py
    - trl 0.24.0, trainer/dpo_trainer.py
    """
    unknown = [loss for loss in _losses(unit) or () if loss and loss not in LOSSES]
    if unit.scope == "dpo" and unknown:
        setting = unit["loss_type"]
        fix = advise("use TRL's KTO trainer" if unknown[0] == "kto_pair" else "use sigmoid, the loss of the DPO paper")
        yield Problem(setting, f"DPO has no loss {unknown[0]!r}", fix)


@rule("TR110", "padding-free-preferences", tools=TRL, harm="ignored", severity="warning", causes=("dpo-padding-free",))
def padding_free_preferences(unit: Unit, job: Job) -> Found:
    """Allow padding-free-preferences.

    ## What it does
    Finds `padding_free: true` in DPO.

    ## Why is this bad?
    TRL falls back to padding: "`padding_free=True` is temporarily unavailable after a refactor and is currently disabled."

    ## Example
    ```yaml train.yaml
    # trl dpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    padding_free: true
    ```

    ## Use instead
    ```yaml train.yaml
    # trl dpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    ```

    ## Versions
    TRL 0.29 to 1.16.

    ## References
    - trl 1.16.0, trainer/dpo_trainer.py
    """
    free = unit.on("padding_free")
    if free is not None and unit.scope == "dpo" and unit.since("0.29"):
        yield Problem(free, f"{free.shown} is switched off in this version's DPO trainer", remove(free))


@rule("TR111", "single-example-in-kto", tools=TRL, harm="crash", causes=("kto-batch-size",))
def single_example_in_kto(unit: Unit, job: Job) -> Found:
    """Allow single-example-in-kto.

    ## What it does
    Finds `per_device_train_batch_size: 1` in KTO.

    ## Why is this bad?
    The KL term compares an example with its neighbours in the micro batch: "Actual (not effective) batch size must be > 1.
    KTO will not work properly because the KL term will be equivalent to the implied reward."

    ## Example
    ```yaml train.yaml
    # trl kto
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    per_device_train_batch_size: 1
    ```

    ## Use instead
    ```yaml train.yaml
    # trl kto
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    per_device_train_batch_size: 4
    ```

    ## Versions
    All; not for `loss_type: apo_zero_unpaired`, which has no KL term.

    ## References
    - trl 1.16.0, trainer/kto_trainer.py
    - trl 0.15.2, trainer/kto_trainer.py
    """
    size = unit.whole("per_device_train_batch_size")
    if unit.scope == "kto" and size is not None and size <= 1 and lower(unit, "loss_type", "kto") == "kto":
        setting = unit["per_device_train_batch_size"]
        yield Problem(
            setting, f"{setting.shown}: KTO's KL term needs at least 2 examples in a micro batch", set_value(setting, 2)
        )


@rule("TR112", "shuffled-pairs-in-kto", tools=TRL, harm="crash", causes=("kto-sampling",))
def shuffled_pairs_in_kto(unit: Unit, job: Job) -> Found:
    """Allow shuffled-pairs-in-kto.

    ## What it does
    Finds a `train_sampling_strategy` other than sequential in KTO.

    ## Why is this bad?
    The KL examples are paired in a fixed order: "requires `train_sampling_strategy='sequential'`".

    ## Example
    ```yaml train.yaml
    # trl kto
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    train_sampling_strategy: group_by_length
    ```

    ## Use instead
    ```yaml train.yaml
    # trl kto
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    train_sampling_strategy: sequential
    ```

    ## Versions
    TRL 1.x with transformers 5.

    ## References
    - trl 1.16.0, trainer/kto_trainer.py
    """
    kind = lower(unit, "train_sampling_strategy")
    if (
        unit.scope == "kto"
        and kind not in (None, "sequential")
        and lower(unit, "loss_type", "kto") == "kto"
        and unit.since("1.0")
    ):
        setting = unit["train_sampling_strategy"]
        yield Problem(setting, f"{setting.shown}: KTO pairs its examples in order", set_value(setting, "sequential"))


@rule(
    "TR113",
    "reward-adapter-of-a-language-model",
    tools=TRL,
    harm="wrong_result",
    severity="warning",
    causes=("reward-task-type",),
)
def reward_adapter_of_a_language_model(unit: Unit, job: Job) -> Found:
    """Allow reward-adapter-of-a-language-model.

    ## What it does
    Finds LoRA for a reward model without `lora_task_type: SEQ_CLS`.

    ## Why is this bad?
    PEFT then neither trains nor saves the new score layer: the reward model keeps a random head.

    ## Example
    ```yaml train.yaml
    # trl reward
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    use_peft: true
    lora_r: 32
    ```

    ## Use instead
    ```yaml train.yaml
    # trl reward
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    use_peft: true
    lora_r: 32
    lora_task_type: SEQ_CLS
    ```

    ## Versions
    All.

    ## References
    - trl 1.16.0, trainer/model_config.py, lora_task_type
    - peft 0.21.2, peft_model.py, PeftModelForSequenceClassification
    """
    if (
        unit.scope != "reward"
        or adapter(unit) is not True
        or unit.open
        or unit.text("lora_task_type", "CAUSAL_LM") != "CAUSAL_LM"
    ):
        return
    setting, peft = unit.setting("lora_task_type"), used(unit, "use_peft")
    if used(unit, "lora_modules_to_save") or peft is None:
        return
    name = "--lora_task_type" if peft.syntax == "shell" else "lora_task_type"
    fix = set_value(setting, "SEQ_CLS") if setting else add_after(peft, name, "SEQ_CLS")
    yield Problem(
        setting or peft, "a reward model's adapter needs lora_task_type SEQ_CLS, or its score layer is not trained", fix
    )


@rule(
    "TR114",
    "prompt-as-long-as-the-sequence",
    tools=TRL,
    harm="wrong_result",
    severity="warning",
    causes=("dpo-prompt-length",),
)
def prompt_as_long_as_the_sequence(unit: Unit, job: Job) -> Found:
    """Allow prompt-as-long-as-the-sequence.

    ## What it does
    Finds `max_prompt_length` that leaves no room for a completion in `max_length`, and `max_new_tokens` that fill
    `max_length` in online DPO.

    ## Why is this bad?
    What does not fit is cut: the loss then sees prompts without answers, or answers without prompts.

    ## Example
    ```yaml train.yaml trl=0.24.0
    # trl dpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    max_prompt_length: 1024
    max_length: 1024
    ```

    ## Use instead
    ```yaml train.yaml trl=0.24.0
    # trl dpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    max_prompt_length: 512
    max_length: 1024
    ```

    ## Versions
    All that have the options (DPO before TRL 0.28). Both are 512 and 1024 by default.

    ## References
    - trl 0.24.0, trainer/dpo_config.py
    - trl 0.24.0, trainer/online_dpo_config.py
    """
    short = "max_new_tokens" if unit.scope == "online_dpo" else "max_prompt_length"
    if unit.scope not in ("dpo", "cpo", "orpo", "kto", "online_dpo") or short not in unit:
        return
    part, length = (
        unit.number(short),
        unit.number("max_length", None if unit.open else 512 if unit.scope == "online_dpo" else 1024),
    )
    if part and length and part >= length:
        setting, other = unit[short], unit.setting("max_length")
        also = (other,) if other else ()
        yield Problem(
            setting,
            f"{setting.shown} leaves no room in max_length {length:g}",
            set_value(setting, int(length // 2)),
            also,
        )
