"""TRL's GRPO and RLOO: the completions of a group and the loss over them."""

from __future__ import annotations

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import used
from advisor_mcp.linting.rules._hf import GROUPED, accelerated, full, grouped, lower, single
from advisor_mcp.linting.unit import Unit

TRL = ("trl",)
PER_TOKEN = ("bnpo", "dr_grpo", "dapo", "cispo")


@rule("TR007", "sequence-parallelism-with-groups", tools=TRL, harm="crash", causes=("grpo-cp",))
def sequence_parallelism_with_groups(unit: Unit, job: Job) -> Found:
    """Allow sequence-parallelism-with-groups.

    ## What it does
    Finds context or sequence parallelism in GRPO or RLOO, in the trainer's or accelerate's `parallelism_config`.

    ## Why is this bad?
    The inputs are built after generation and cannot be cut: "GRPOTrainer does not support sequence-dim parallelism".

    ## Example
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    num_generations: 8
    parallelism_config: {cp_size: 2}
    ```

    ## Use instead
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    num_generations: 8
    ```

    ## Versions
    Refused since TRL 1.6.

    ## References
    - trl 1.16.0, trainer/grpo_config.py
    """
    if not grouped(unit):
        return
    for other in (unit, *accelerated(unit, job, "accelerate")):
        for kind in ("cp", "sp"):
            found = other.setting(
                f"parallelism_config.{kind}_size", f"parallelism_config.parallelism_config_{kind}_size"
            )
            if found is not None and (other.number(found.name) or 1) > 1:
                yield Problem(found, f"{full(found)} does not go with {unit.scope.upper()}", set_value(found, 1))


@rule("TR010", "completions-for-nobody", tools=TRL, harm="crash", causes=("grpo-log-completions",))
def completions_for_nobody(unit: Unit, job: Job) -> Found:
    """Allow completions-for-nobody.

    ## What it does
    Finds `log_completions_hub_repo` without `log_completions: true`.

    ## Why is this bad?
    TRL stops: "log_completions_hub_repo is set, but log_completions is False."

    ## Example
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    num_generations: 8
    log_completions_hub_repo: me/completions
    ```

    ## Use instead
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    num_generations: 8
    log_completions: true
    log_completions_hub_repo: me/completions
    ```

    ## Versions
    Since TRL 0.29.

    ## References
    - trl 1.16.0, trainer/grpo_config.py
    """
    repository = used(unit, "log_completions_hub_repo")
    if repository is not None and unit.scope in GROUPED and not unit.open and unit.truth("log_completions") is False:
        setting = unit.setting("log_completions")
        name = "--log_completions" if repository.syntax == "shell" else "log_completions"
        fix = set_value(setting, True) if setting else add_after(repository, name, True)
        yield Problem(repository, f"{repository.shown} needs log_completions: true", fix)


@rule("TR011", "liger-loss-limits", tools=TRL, harm="crash", causes=("grpo-liger",))
def liger_loss_limits(unit: Unit, job: Job) -> Found:
    """Allow liger-loss-limits.

    ## What it does
    Finds the Liger loss of GRPO with two-sided clipping (`delta`), an entropy mask (`top_entropy_quantile` below 1) or
    sequence-level importance sampling.

    ## Why is this bad?
    The fused loss knows none of them: "Liger loss does not support two-sided GRPO loss yet.", "Liger Kernels don't
    currently support masking token positions based on entropy."

    ## Example
    ```yaml train.yaml trl=0.24.0
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    num_generations: 8
    use_liger_loss: true
    delta: 1.5
    ```

    ## Use instead
    ```yaml train.yaml trl=0.24.0
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    num_generations: 8
    delta: 1.5
    ```

    ## Versions
    TRL 0.17 to 1.5 (`use_liger_loss`, from 0.28 `use_liger_kernel`); the entropy mask until 1.10. Later versions bring a
    fused loss of their own.

    ## References
    - trl 0.24.0, trainer/grpo_config.py
    - trl 0.24.0, trainer/grpo_trainer.py
    - trl 1.0.0, trainer/grpo_config.py
    """
    liger = unit.on("use_liger_loss" if unit.before("0.28") else "use_liger_kernel")
    if liger is None or unit.scope != "grpo" or unit.since("1.6"):
        return
    sequence = (
        unit.settings.get("importance_sampling_level")
        if lower(unit, "importance_sampling_level") == "sequence"
        else None
    )
    quantile = unit.number("top_entropy_quantile", 1.0)
    masked = unit["top_entropy_quantile"] if quantile is not None and quantile < 1 else None
    for found in (single(unit, ("delta",)), masked, sequence):
        if found is not None:
            yield Problem(liger, f"{liger.shown} does not support {found.shown}", remove(liger), (found,))
            return


@rule("TR012", "empty-clipping-range", tools=TRL, harm="crash", causes=("grpo-importance-clip",))
def empty_clipping_range(unit: Unit, job: Job) -> Found:
    """Allow empty-clipping-range.

    ## What it does
    Finds `vllm_importance_sampling_clip_min` that is not below `vllm_importance_sampling_clip_max`.

    ## Why is this bad?
    TRL stops: "vllm_importance_sampling_clip_min (3.0) must be less than vllm_importance_sampling_clip_max (2.0)."

    ## Example
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    num_generations: 8
    vllm_importance_sampling_clip_min: 3.0
    vllm_importance_sampling_clip_max: 2.0
    ```

    ## Use instead
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    num_generations: 8
    vllm_importance_sampling_clip_min: 0.5
    vllm_importance_sampling_clip_max: 2.0
    ```

    ## Versions
    Since TRL 1.6.

    ## References
    - trl 1.16.0, trainer/grpo_config.py
    """
    low, high = unit.number("vllm_importance_sampling_clip_min"), unit.number("vllm_importance_sampling_clip_max")
    if low is not None and high is not None and low >= high:
        setting = unit["vllm_importance_sampling_clip_min"]
        yield Problem(
            setting,
            f"{setting.shown} is not below the maximum of {high:g}",
            advise("make it smaller"),
            (unit["vllm_importance_sampling_clip_max"],),
        )


@rule(
    "TR013",
    "sequence-weights-in-a-token-loss",
    tools=TRL,
    harm="wrong_result",
    severity="warning",
    causes=("grpo-sequence-loss",),
)
def sequence_weights_in_a_token_loss(unit: Unit, job: Job) -> Found:
    """Allow sequence-weights-in-a-token-loss.

    ## What it does
    Finds `importance_sampling_level: sequence` with a loss that sums over tokens (bnpo, dr_grpo, cispo, or dapo, the
    default).

    ## Why is this bad?
    Each sequence then counts by its length, which is not the objective of GSPO; its paper's setup is `loss_type: grpo`.

    ## Example
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    num_generations: 8
    importance_sampling_level: sequence
    ```

    ## Use instead
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    num_generations: 8
    importance_sampling_level: sequence
    loss_type: grpo
    ```

    ## Versions
    Since TRL 0.20; it warns since 1.11.

    ## References
    - trl 1.16.0, trainer/grpo_trainer.py
    """
    loss = lower(unit, "loss_type", None if unit.open else "dapo")
    if unit.scope == "grpo" and lower(unit, "importance_sampling_level") == "sequence" and loss in PER_TOKEN:
        setting, chosen = unit["importance_sampling_level"], unit.setting("loss_type")
        name = "--loss_type" if setting.syntax == "shell" else "loss_type"
        fix = set_value(chosen, "grpo") if chosen else add_after(setting, name, "grpo")
        yield Problem(
            setting,
            f"{setting.shown} with the loss {loss}, which weights sequences by their length",
            fix,
            (chosen,) if chosen else (),
        )


@rule("TR014", "identical-completions", tools=TRL, harm="wrong_result", causes=("grpo-temperature",))
def identical_completions(unit: Unit, job: Job) -> Found:
    """Allow identical-completions.

    ## What it does
    Finds a sampling `temperature` of 0 in GRPO, RLOO or online DPO.

    ## Why is this bad?
    The completions of a prompt are then the same, all advantages are 0 and nothing is learned; transformers' own
    generation refuses it: "`temperature` (=0.0) has to be a strictly positive float".

    ## Example
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    num_generations: 8
    temperature: 0.0
    ```

    ## Use instead
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    num_generations: 8
    temperature: 1.0
    ```

    ## Versions
    All.

    ## References
    - trl 1.16.0, trainer/grpo_config.py, temperature
    - transformers 5.23.0, generation/logits_process.py, TemperatureLogitsWarper
    """
    temperature = unit.number("temperature", 1)
    if unit.scope in (*GROUPED, "online_dpo") and temperature is not None and temperature <= 0:
        yield Problem(
            unit["temperature"],
            f"{unit['temperature'].shown} gives the same completion every time",
            set_value(unit["temperature"], 1.0),
        )


@rule(
    "TR015", "columns-that-rewards-need", tools=TRL, harm="unintended", severity="info", causes=("grpo-remove-columns",)
)
def columns_that_rewards_need(unit: Unit, job: Job) -> Found:
    """Allow columns-that-rewards-need.

    ## What it does
    Finds `remove_unused_columns: true` in GRPO or RLOO.

    ## Why is this bad?
    Reward functions that read a column, such as the solution, do not get it.

    ## Example
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    num_generations: 8
    remove_unused_columns: true
    ```

    ## Use instead
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    num_generations: 8
    remove_unused_columns: false
    ```

    ## Versions
    All; off is TRL's default.

    ## References
    - trl 1.16.0, trainer/grpo_config.py, remove_unused_columns
    """
    removes = unit.on("remove_unused_columns")
    if removes is not None and grouped(unit):
        yield Problem(
            removes, f"{removes.shown} takes the columns away that reward functions read", set_value(removes, False)
        )
