"""TRL: the reference model of DPO, KTO, GRPO and RLOO."""

from __future__ import annotations

from advisor_mcp.linting.edits import add_after, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import used
from advisor_mcp.linting.rules._hf import adapter, zero_stage
from advisor_mcp.linting.unit import Unit

TRL = ("trl",)
REFERENCED = ("dpo", "grpo", "kto", "rloo")


@rule("TR101", "synced-reference-with-adapter", tools=TRL, harm="crash", causes=("grpo-sync-ref-peft",))
def synced_reference_with_adapter(unit: Unit, job: Job) -> Found:
    """Allow synced-reference-with-adapter.

    ## What it does
    Finds `sync_ref_model: true` while an adapter is trained.

    ## Why is this bad?
    With PEFT the reference is the model with its adapter off, and there is nothing to synchronise: "You passed
    `sync_ref_model=True` while using a PEFT model, which is currently not supported."

    ## Example
    ```yaml train.yaml
    # trl dpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    use_peft: true
    sync_ref_model: true
    ```

    ## Use instead
    ```yaml train.yaml
    # trl dpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    use_peft: true
    ```

    ## Versions
    All; before TRL 0.28 the message is "You currently cannot use `ref_model=None` with TR-DPO method".

    ## References
    - trl 1.16.0, trainer/dpo_trainer.py
    - trl 0.24.0, trainer/dpo_trainer.py
    """
    sync = unit.on("sync_ref_model")
    if sync is not None and unit.scope in REFERENCED and adapter(unit) is True:
        peft = used(unit, "use_peft")
        yield Problem(
            sync,
            f"{sync.shown} while an adapter is trained: there is no reference model of its own",
            remove(sync),
            (peft,) if peft else (),
        )


@rule("TR102", "synced-reference-that-is-not-used", tools=TRL, harm="crash", causes=("grpo-sync-ref-beta",))
def synced_reference_that_is_not_used(unit: Unit, job: Job) -> Found:
    """Allow synced-reference-that-is-not-used.

    ## What it does
    Finds `sync_ref_model: true` in GRPO or RLOO with `beta: 0`, GRPO's default since TRL 0.19.

    ## Why is this bad?
    Without a KL term no reference model is loaded: "You passed `sync_ref_model=True` while `beta=0.0`".

    ## Example
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    num_generations: 8
    sync_ref_model: true
    ```

    ## Use instead
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    num_generations: 8
    sync_ref_model: true
    beta: 0.04
    ```

    ## Versions
    An error since TRL 0.28.

    ## References
    - trl 1.16.0, trainer/grpo_trainer.py
    """
    sync = unit.on("sync_ref_model")
    if sync is None or unit.scope not in ("grpo", "rloo") or adapter(unit) is True:
        return
    default = 0.05 if unit.scope == "rloo" else 0.0 if unit.since("0.19") else 0.04
    beta = unit.number("beta", None if unit.open else default)
    if beta == 0:
        setting = unit.setting("beta")
        name = "--beta" if sync.syntax == "shell" else "beta"
        fix = set_value(setting, 0.04) if setting else add_after(sync, name, 0.04)
        yield Problem(
            sync, f"{sync.shown}, and beta is 0: no reference model is loaded", fix, (setting,) if setting else ()
        )


@rule("TR103", "synced-reference-computed-before", tools=TRL, harm="crash", causes=("sync-ref-precompute",))
def synced_reference_computed_before(unit: Unit, job: Job) -> Found:
    """Allow synced-reference-computed-before.

    ## What it does
    Finds `sync_ref_model: true` with `precompute_ref_log_probs: true`.

    ## Why is this bad?
    A reference that changes cannot be calculated in advance: "You cannot use `sync_ref_model=True` together with
    `precompute_ref_log_probs=True`."

    ## Example
    ```yaml train.yaml
    # trl dpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    sync_ref_model: true
    precompute_ref_log_probs: true
    ```

    ## Use instead
    ```yaml train.yaml
    # trl dpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    precompute_ref_log_probs: true
    ```

    ## Versions
    All.

    ## References
    - trl 1.16.0, trainer/dpo_trainer.py
    """
    sync, before = unit.on("sync_ref_model"), unit.on("precompute_ref_log_probs")
    if sync and before:
        yield Problem(sync, f"{sync.shown} and {before.shown} exclude each other", remove(sync), (before,))


@rule("TR104", "reference-computed-under-stage-3", tools=TRL, harm="crash", causes=("precompute-zero3",))
def reference_computed_under_stage_3(unit: Unit, job: Job) -> Found:
    """Allow reference-computed-under-stage-3.

    ## What it does
    Finds `precompute_ref_log_probs: true` in DPO under ZeRO stage 3.

    ## Why is this bad?
    TRL stops: "You cannot use `precompute_ref_log_probs=True` with Deepspeed ZeRO-3."

    ## Example
    ```yaml train.yaml trl=0.24.0
    # trl dpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    precompute_ref_log_probs: true
    deepspeed: ds_z3.json
    ```

    ## Use instead
    ```yaml train.yaml trl=0.24.0
    # trl dpo
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    precompute_ref_log_probs: true
    deepspeed: ds_z2.json
    ```

    ## Versions
    Before TRL 0.29.

    ## References
    - trl 0.24.0, trainer/dpo_trainer.py
    """
    before = unit.on("precompute_ref_log_probs")
    if before is not None and unit.scope == "dpo" and unit.before("0.29") and zero_stage(unit, job) == 3:
        yield Problem(before, f"{before.shown} does not go with ZeRO stage 3 in this version of TRL", remove(before))
