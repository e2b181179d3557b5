"""TRL's SFT: packing, padding and how long a sequence may be."""

from __future__ import annotations

from advisor_mcp.linting.edits import add_after, advise, remove, rename, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity, rule
from advisor_mcp.linting.rules._hf import attention, flash_attention, full, lower
from advisor_mcp.linting.unit import Unit, as_truth

TRL = ("trl",)
LENGTH = ("max_length", "max_seq_length")


def _packs(unit: Unit) -> bool | None:
    """Whether it packs; None where it is not known."""
    return None if unit.open and "packing" not in unit else unit.truth("packing", False)


@rule("TR201", "padding-free-without-packing", tools=TRL, harm="crash", causes=("padding-free-no-packing",))
def padding_free_without_packing(unit: Unit, job: Job) -> Found:
    """Allow padding-free-without-packing.

    ## What it does
    Finds `padding_free: true` without packing while `max_length` is set, as it is by default.

    ## Why is this bad?
    Nothing would cut the sequences: "When `padding_free=True` without packing, `max_length` is not enforced."

    ## Example
    ```yaml train.yaml
    # trl sft
    model_name_or_path: Qwen/Qwen2.5-0.5B
    output_dir: out
    padding_free: true
    packing: false
    max_length: 2048
    ```

    ## Use instead
    ```yaml train.yaml
    # trl sft
    model_name_or_path: Qwen/Qwen2.5-0.5B
    output_dir: out
    padding_free: true
    packing: true
    max_length: 2048
    ```

    ## Versions
    An error since TRL 1.0.

    ## References
    - trl 1.16.0, trainer/sft_trainer.py
    """
    free = unit.on("padding_free")
    if unit.scope != "sft" or free is None or _packs(unit) is not False or not unit.since("1.0"):
        return
    length = unit.setting("max_length")
    if length is not None and (
        not length.known or length.value is None or lower(unit, "max_length") in ("none", "null")
    ):
        return
    packing = unit.setting("packing")
    name = "--packing" if free.syntax == "shell" else "packing"
    fix = set_value(packing, True) if packing else add_after(free, name, True)
    said = length.shown if length else "max_length, 1024 by default,"
    yield Problem(
        free, f"{free.shown} without packing: {said} is not enforced", fix, tuple(s for s in (packing, length) if s)
    )


@rule(
    "TR202", "padding-free-of-one", tools=TRL, harm="unintended", severity="warning", causes=("padding-free-batch-1",)
)
def padding_free_of_one(unit: Unit, job: Job) -> Found:
    """Allow padding-free-of-one.

    ## What it does
    Finds `padding_free: true` without packing at a micro batch of 1.

    ## Why is this bad?
    A single sequence has no padding; TRL warns that it "annihilates the benefits of padding-free training".

    ## Example
    ```yaml train.yaml
    # trl sft
    model_name_or_path: Qwen/Qwen2.5-0.5B
    output_dir: out
    padding_free: true
    max_length: null
    per_device_train_batch_size: 1
    ```

    ## Use instead
    ```yaml train.yaml
    # trl sft
    model_name_or_path: Qwen/Qwen2.5-0.5B
    output_dir: out
    padding_free: true
    max_length: null
    per_device_train_batch_size: 4
    ```

    ## Versions
    Since TRL 0.16.

    ## References
    - trl 1.16.0, trainer/sft_trainer.py
    """
    free, size = unit.on("padding_free"), unit.whole("per_device_train_batch_size")
    if unit.scope == "sft" and free is not None and size == 1 and _packs(unit) is False:
        setting = unit["per_device_train_batch_size"]
        message = f"{setting.shown} has no padding that {free.shown} could save"
        yield Problem(setting, message, remove(free), (free,))


@rule(
    "TR203",
    "packed-without-borders",
    tools=TRL,
    harm="wrong_result",
    severity="warning",
    causes=("packing-contamination",),
)
def packed_without_borders(unit: Unit, job: Job) -> Found:
    """Allow packed-without-borders.

    ## What it does
    Finds packing or padding-free batches without FlashAttention.

    ## Why is this bad?
    Sequences of one row are told apart by their positions, which other implementations did not read: tokens attend to the
    sequences before theirs. TRL warns of "cross-contamination between samples".

    ## Example
    ```yaml train.yaml trl=0.24.0
    # trl sft
    model_name_or_path: Qwen/Qwen2.5-0.5B
    output_dir: out
    packing: true
    attn_implementation: sdpa
    ```

    ## Use instead
    ```yaml train.yaml trl=0.24.0
    # trl sft
    model_name_or_path: Qwen/Qwen2.5-0.5B
    output_dir: out
    packing: true
    attn_implementation: flash_attention_2
    ```

    ## Versions
    TRL 0.19 to 1.11 warn. Newer ones leave it to transformers, which masks packed sequences for all implementations; there
    it is information only where eager attention is asked for.

    ## References
    - trl 0.24.0, trainer/sft_trainer.py
    - transformers 5.23.0, masking_utils.py
    """
    packing = unit.on("packing", "padding_free")
    if (
        unit.scope != "sft"
        or packing is None
        or unit.open
        or flash_attention(unit)
        or lower(unit, "packing_strategy") == "wrapped"
    ):
        return
    chosen = attention(unit)
    text = lower(unit, chosen.name) if chosen else "sdpa"
    if text is None or text not in ("sdpa", "eager") or (unit.since("1.12") and text != "eager"):
        return
    fix = set_value(chosen, "flash_attention_2") if chosen else advise("set attn_implementation: flash_attention_2")
    severity: Severity | None = "info" if unit.since("1.12") else None
    yield Problem(
        packing,
        f"{packing.shown} with {text} attention lets packed samples see each other",
        fix,
        (chosen,) if chosen else (),
        severity,
    )


@rule("TR204", "packing-to-no-length", tools=TRL, harm="crash", causes=("packing-no-length",))
def packing_to_no_length(unit: Unit, job: Job) -> Found:
    """Allow packing-to-no-length.

    ## What it does
    Finds `packing: true` with `max_length: null`.

    ## Why is this bad?
    Rows need a length: "When packing is enabled, `max_length` can't be `None`."

    ## Example
    ```yaml train.yaml
    # trl sft
    model_name_or_path: Qwen/Qwen2.5-0.5B
    output_dir: out
    packing: true
    max_length: null
    ```

    ## Use instead
    ```yaml train.yaml
    # trl sft
    model_name_or_path: Qwen/Qwen2.5-0.5B
    output_dir: out
    packing: true
    max_length: 4096
    ```

    ## Versions
    All.

    ## References
    - trl 1.16.0, trainer/sft_trainer.py
    """
    packing = unit.on("packing")
    for name in LENGTH:
        if unit.scope == "sft" and packing and name in unit and unit[name].known and unit[name].value is None:
            yield Problem(
                unit[name],
                f"{unit[name].written} is null, and packing needs a length",
                set_value(unit[name], 4096),
                (packing,),
            )


@rule(
    "TR205",
    "length-that-is-not-the-one-set",
    tools=TRL,
    harm="ignored",
    severity="warning",
    causes=("silent-truncation-1024",),
)
def length_that_is_not_the_one_set(unit: Unit, job: Job) -> Found:
    """Allow length-that-is-not-the-one-set.

    ## What it does
    Finds sequences that are cut at TRL's default of 1,024 tokens: `max_seq_length` in the versions that brought
    `max_length`, and, as information, no length at all.

    ## Why is this bad?
    Longer sequences lose their end without a word. While `max_seq_length` was being replaced by `max_length` (TRL's
    development versions of 0.15), the default of the new name won over the old one.

    ## Example
    ```yaml train.yaml trl=0.15.2
    # trl sft
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    max_seq_length: 16384
    ```

    ## Use instead
    ```yaml train.yaml trl=0.16.1
    # trl sft
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    output_dir: out
    max_length: 16384
    ```

    ## Versions
    The old name: TRL 0.15 and its development versions; 0.16 to 0.19 take it with a warning, 0.20 refuses it.

    ## References
    - huggingface/open-r1#419
    - huggingface/trl#2947
    - unslothai/unsloth#2904
    """
    if unit.scope != "sft":
        return
    old, length = unit.setting("max_seq_length"), unit.whole("max_seq_length")
    if old is not None and "max_length" not in unit:
        named = unit.target is not None and unit.since("0.15") and unit.before("0.16")
        if named and length and length > 1024:
            said = f"{old.shown} loses to max_length, 1024 by default, in development versions of this release"
            yield Problem(old, said, rename(old, "max_length", safe=False))
    elif unit.absent(*LENGTH):
        place = unit.setting("packing", "dataset_name", "model_name_or_path")
        if place is not None:
            name = "--max_length" if place.syntax == "shell" else "max_length"
            fix = add_after(place, name, 4096, why="or what the data and memory need")
            yield Problem(place, "no max_length: sequences are cut at 1024 tokens", fix, severity="info")


@rule("TR206", "selective-checkpointing-alone", tools=TRL, harm="crash", causes=("sft-selective-checkpointing",))
def selective_checkpointing_alone(unit: Unit, job: Job) -> Found:
    """Allow selective-checkpointing-alone.

    ## What it does
    Finds `selective: true` in `gradient_checkpointing_kwargs` with gradient checkpointing off or reentrant.

    ## Why is this bad?
    TRL stops: "`gradient_checkpointing_kwargs={'selective': True}` requires `gradient_checkpointing=True`", "requires
    non-reentrant gradient checkpointing".

    ## Example
    ```yaml train.yaml
    # trl sft
    model_name_or_path: Qwen/Qwen2.5-0.5B
    output_dir: out
    gradient_checkpointing_kwargs: {"selective": true, "use_reentrant": true}
    ```

    ## Use instead
    ```yaml train.yaml
    # trl sft
    model_name_or_path: Qwen/Qwen2.5-0.5B
    output_dir: out
    gradient_checkpointing_kwargs: {"selective": true, "use_reentrant": false}
    ```

    ## Versions
    TRL 1.16.

    ## References
    - trl 1.16.0, trainer/sft_trainer.py
    """
    selective = unit.on("gradient_checkpointing_kwargs.selective")
    if selective is None or unit.scope != "sft":
        return
    reentrant, on_at_all = (
        unit.setting("gradient_checkpointing_kwargs.use_reentrant"),
        unit.truth("gradient_checkpointing", True),
    )
    if reentrant is not None and as_truth(reentrant.value) is True:
        yield Problem(
            reentrant,
            f"{full(reentrant)} does not go with selective checkpointing",
            set_value(reentrant, False),
            (selective,),
        )
    elif on_at_all is False:
        setting = unit["gradient_checkpointing"]
        yield Problem(
            setting, f"{setting.shown}, and selective checkpointing needs it", set_value(setting, True), (selective,)
        )
