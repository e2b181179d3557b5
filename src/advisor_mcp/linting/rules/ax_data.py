"""Axolotl: data sets, chat templates, tokenizers, and options that were taken away."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.linting.edits import advise, remove, rename, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity, rule
from advisor_mcp.linting.rules._ft import all_used, idle, used
from advisor_mcp.linting.unit import Setting, Unit

# option -> (the first version that refuses it, what to use)
REMOVED: dict[str, tuple[str, str]] = {
    "max_packed_sequence_len": ("0.1", "use sample_packing: true with sequence_len"),
    "rope_scaling": ("0.5", "write it under overrides_of_model_config"),
    "unsloth_cross_entropy_loss": ("0.17", "use the cut_cross_entropy plugin"),
    "unsloth_lora_mlp": ("0.17", "use lora_mlp_kernel: true"),
    "unsloth_lora_qkv": ("0.17", "use lora_qkv_kernel: true"),
    "unsloth_lora_o": ("0.17", "use lora_o_kernel: true"),
    "unsloth_rms_norm": ("0.17", "use the liger plugin with liger_rms_norm: true"),
    "unsloth_rope": ("0.17", "use the liger plugin with liger_rope: true"),
    "s2_attention": ("0.17", "there is nothing in its place"),
    "flash_attn_rms_norm": ("0.17", "use the liger plugin with liger_rms_norm: true"),
    "dpo_use_logits_to_keep": ("0.15", "TRL 0.29 has no such option"),
    "dpo_generate_during_eval": ("0.15", "TRL 0.29 has no such option"),
    "dpo_norm_loss": ("0.16", "TRL 0.29 has no such option"),
    "rpo_alpha": ("0.16", "list the losses in dpo_loss_type"),
}
REFUSED_WHEN_SET = ("dpo_use_logits_to_keep", "dpo_generate_during_eval", "dpo_norm_loss", "rpo_alpha")
MISTRAL_COMMON = ("special_tokens", "tokens", "added_tokens_overrides", "chat_template", "processor_kwargs")


def datasets(unit: Unit) -> Iterator[str]:
    """The names of the data sets in a configuration: ``datasets.0``, ``test_datasets.1``."""
    seen = dict.fromkeys(
        ".".join(name.split(".")[:2]) for name in unit.settings if name.startswith(("datasets.", "test_datasets."))
    )
    return (name for name in seen if name.rsplit(".", 1)[1].isdigit())


@rule("AX601", "removed-sharegpt-type", tools=("axolotl",), harm="crash", causes=("removed-sharegpt",))
def removed_sharegpt_type(unit: Unit, job: Job) -> Found:
    """Allow removed-sharegpt-type.

    ## What it does
    Finds a data set of `type: sharegpt`, with or without a variant behind it.

    ## Why is this bad?
    It was taken away: "`type: sharegpt.*` is deprecated. Please use `type: chat_template` instead."

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    datasets:
      - path: data/conversations.json
        type: sharegpt
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    datasets:
      - path: data/conversations.json
        type: chat_template
        field_messages: conversations
        message_property_mappings:
          role: from
          content: value
    ```

    ## Versions
    axolotl 0.6 and later.

    ## References
    - axolotl-ai-cloud/axolotl#2021
    - axolotl 0.21.0, utils/schemas/validation.py, deprecate_sharegpt_datasets
    """
    for name in datasets(unit) if unit.since("0.6") else ():
        kind = unit.settings.get(f"{name}.type")
        if kind and isinstance(kind.value, str) and kind.value.startswith("sharegpt") and name.startswith("datasets."):
            why = "and add field_messages: conversations with message_property_mappings role: from, content: value"
            yield Problem(kind, "the type sharegpt is gone", set_value(kind, "chat_template", why=why))


@rule("AX602", "template-without-text", tools=("axolotl",), harm="crash", causes=("chat-template-jinja",))
def template_without_text(unit: Unit, job: Job) -> Found:
    """Allow template-without-text.

    ## What it does
    Finds `chat_template: jinja` without `chat_template_jinja`, at the top or in a data set.

    ## Why is this bad?
    `jinja` means "my own": "chat_template_jinja is required when chat_template is set to jinja".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    chat_template: jinja
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    chat_template: jinja
    chat_template_jinja: ./template.jinja
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_chat_template_config
    - axolotl 0.21.0, utils/schemas/datasets.py, check_chat_template_config
    """
    for prefix in ("", *(f"{name}." for name in datasets(unit))):
        if unit.text(f"{prefix}chat_template") == "jinja" and idle(unit, f"{prefix}chat_template_jinja"):
            setting = unit[f"{prefix}chat_template"]
            yield Problem(
                setting,
                "chat_template: jinja needs chat_template_jinja",
                advise("give the template in chat_template_jinja"),
            )


@rule("AX603", "contradicting-message-fields", tools=("axolotl",), harm="crash", causes=("message-fields",))
def contradicting_message_fields(unit: Unit, job: Job) -> Found:
    """Allow contradicting-message-fields.

    ## What it does
    Finds a data set whose `message_field_role` or `message_field_content` names another field than its
    `message_property_mappings`.

    ## Why is this bad?
    The first two are the old names of the mapping: "Conflicting message role fields".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    datasets:
      - path: data/conversations.json
        type: chat_template
        message_field_role: from
        message_property_mappings:
          role: speaker
          content: value
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    datasets:
      - path: data/conversations.json
        type: chat_template
        message_property_mappings:
          role: speaker
          content: value
    ```

    ## Versions
    axolotl 0.7 and later.

    ## References
    - axolotl 0.21.0, utils/schemas/utils.py, handle_legacy_message_fields_logic
    """
    for name in datasets(unit):
        for part in ("role", "content"):
            old, new = (
                unit.settings.get(f"{name}.message_field_{part}"),
                unit.settings.get(f"{name}.message_property_mappings.{part}"),
            )
            if old and new and old.known and new.known and old.value != new.value:
                yield Problem(
                    old, f"{old.shown} contradicts message_property_mappings, {new.shown}", remove(old), (new,)
                )


@rule("AX604", "refused-option", tools=("axolotl",), harm="crash", causes=("removed-option", "deprecated-option"))
def refused_option(unit: Unit, job: Job) -> Found:
    """Allow refused-option.

    ## What it does
    Finds options that Axolotl still knows, but only to refuse them: `max_packed_sequence_len`, `rope_scaling`, `unsloth_*`,
    `s2_attention`, `flash_attn_rms_norm`, `rpo_alpha` and others.

    ## Why is this bad?
    The run stops at once, for example with "`rope_scaling` is no longer supported, it should now be a key under
    `model_config`".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    s2_attention: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    ```

    ## Versions
    `rope_scaling`: all since 0.5. `dpo_*`, `rpo_alpha`: 0.15 and 0.16. `s2_attention`, `flash_attn_rms_norm`,
    `unsloth_*`: 0.17.

    ## References
    - axolotl 0.21.0, utils/schemas/deprecated.py
    - axolotl 0.21.0, utils/schemas/validation.py, check_deprecated_unsloth_fields
    """
    for name, (since, advice) in REMOVED.items():
        found = used(unit, name)
        if (
            found is None
            and name in REFUSED_WHEN_SET
            and name in unit
            and unit[name].known
            and unit[name].value is not None
        ):
            found = unit[name]
        if found and unit.since(since):
            version = "" if since == "0.1" else f" since axolotl {since}"
            severity: Severity | None = "warning" if unit.version is None and since != "0.1" else None
            yield Problem(found, f"{found.written} is refused{version}", remove(found, why=advice), severity=severity)


@rule("AX605", "pickled-checkpoints", tools=("axolotl",), harm="crash", causes=("save-safetensors",))
def pickled_checkpoints(unit: Unit, job: Job) -> Found:
    """Allow pickled-checkpoints.

    ## What it does
    Finds `save_safetensors: false`.

    ## Why is this bad?
    Transformers 5 writes safetensors only: "save_safetensors=False is not supported in Transformers V5."

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    save_safetensors: false
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    ```

    ## Versions
    axolotl 0.14 and later.

    ## References
    - axolotl 0.21.0, utils/schemas/model.py, validate_save_safetensors
    """
    found = unit.settings.get("save_safetensors")
    if found and found.known and found.value is False and unit.since("0.14"):
        yield Problem(found, "save_safetensors: false is refused since axolotl 0.14", remove(found))


@rule("AX606", "edited-mistral-tokenizer", tools=("axolotl",), harm="crash", causes=("mistral-common",))
def edited_mistral_tokenizer(unit: Unit, job: Job) -> Found:
    """Allow edited-mistral-tokenizer.

    ## What it does
    Finds `tokenizer_use_mistral_common: true` with `special_tokens`, `tokens`, `added_tokens_overrides` or `chat_template`.

    ## Why is this bad?
    Mistral's own tokenizer cannot be edited: "special_tokens override is not supported with mistral-common tokenizer".

    ## Example
    ```yaml axolotl.yaml
    base_model: mistralai/Magistral-Small-2506
    micro_batch_size: 2
    tokenizer_use_mistral_common: true
    chat_template: chatml
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: mistralai/Magistral-Small-2506
    micro_batch_size: 2
    tokenizer_use_mistral_common: true
    ```

    ## Versions
    axolotl 0.11 and later.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_mistral_common_incompatible_options
    """
    if common := used(unit, "tokenizer_use_mistral_common"):
        for found in all_used(unit, MISTRAL_COMMON):
            yield Problem(found, f"{found.written} cannot be changed with {common.shown}", remove(found), (common,))


@rule("AX607", "push-without-token", tools=("axolotl",), harm="crash", causes=("hub-token",))
def push_without_token(unit: Unit, job: Job) -> Found:
    """Allow push-without-token.

    ## What it does
    Finds `push_dataset_to_hub` without `hf_use_auth_token: true`, and `hub_model_id` where nothing is ever saved.

    ## Why is this bad?
    "Require cfg.hf_use_auth_token to be True for push_dataset_to_hub". With `save_strategy: no` there is no model to push.

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    push_dataset_to_hub: me/prepared
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    push_dataset_to_hub: me/prepared
    hf_use_auth_token: true
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_push_ds_auth
    """
    push = used(unit, "push_dataset_to_hub")
    if push and idle(unit, "hf_use_auth_token"):
        yield Problem(push, "push_dataset_to_hub needs hf_use_auth_token: true", advise("set hf_use_auth_token: true"))


@rule("AX608", "deduplication-that-never-runs", tools=("axolotl",), harm="crash", causes=("dedup-skip-prepare",))
def deduplication_that_never_runs(unit: Unit, job: Job) -> Found:
    """Allow deduplication-that-never-runs.

    ## What it does
    Finds `dataset_exact_deduplication` with `skip_prepare_dataset: true`.

    ## Why is this bad?
    Deduplication is a part of the preparation that is skipped: "dataset_exact_deduplication=True has no effect when
    skip_prepare_dataset=True".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    skip_prepare_dataset: true
    dataset_exact_deduplication: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    dataset_exact_deduplication: true
    ```

    ## Versions
    axolotl 0.15 and later.

    ## References
    - axolotl 0.21.0, utils/schemas/config.py, check_deduplication_with_skip_prepare
    """
    unique, skipped = used(unit, "dataset_exact_deduplication"), used(unit, "skip_prepare_dataset")
    if unique and skipped and unit.since("0.15"):
        yield Problem(
            unique,
            "dataset_exact_deduplication does nothing with skip_prepare_dataset: true",
            remove(unique),
            (skipped,),
        )


@rule("AX609", "two-memory-limits", tools=("axolotl",), harm="crash", causes=("memory-limits",))
def two_memory_limits(unit: Unit, job: Job) -> Found:
    """Allow two-memory-limits.

    ## What it does
    Finds `max_memory` and `gpu_memory_limit` in one configuration.

    ## Why is this bad?
    "max_memory and gpu_memory_limit are mutually exclusive and cannot be used together."

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    gpu_memory_limit: 20GiB
    max_memory:
      0: 20GiB
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    gpu_memory_limit: 20GiB
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_mem_mismatch
    """
    first, second = used(unit, "max_memory"), used(unit, "gpu_memory_limit")
    if first and second:
        yield Problem(first, "max_memory and gpu_memory_limit are both set", remove(first), (second,))


@rule("AX610", "noise-set-twice", tools=("axolotl",), harm="crash", causes=("neftune", "renamed-option"))
def noise_set_twice(unit: Unit, job: Job) -> Found:
    """Allow noise-set-twice.

    ## What it does
    Finds `noisy_embedding_alpha` beside its new name `neftune_noise_alpha`, and an alpha that is not above 0; the same for
    `pretrain_multipack_buffer_size` and `streaming_multipack_buffer_size`.

    ## Why is this bad?
    "noisy_embedding_alpha is deprecated, use neftune_noise_alpha; both are set", "neftune_noise_alpha must be > 0.0".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    noisy_embedding_alpha: 5
    neftune_noise_alpha: 5
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    neftune_noise_alpha: 5
    ```

    ## Versions
    All; the buffer's name since axolotl 0.13.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_neftune, validate_neftune_noise_alpha, check_multipack_buffer_size
    """
    pairs = [("noisy_embedding_alpha", "neftune_noise_alpha")]
    if unit.since("0.13"):
        pairs.append(("pretrain_multipack_buffer_size", "streaming_multipack_buffer_size"))
    for old, new in pairs:
        first, second = used(unit, old), used(unit, new)
        if first and second:
            yield Problem(first, f"{old} and its new name {new} are both set", remove(first), (second,))
    alpha = unit.number("neftune_noise_alpha")
    if alpha is not None and alpha <= 0:
        yield Problem(
            unit["neftune_noise_alpha"],
            f"neftune_noise_alpha is {alpha}; it must be above 0",
            remove(unit["neftune_noise_alpha"]),
        )


@rule(
    "AX611",
    "length-groups-of-a-stream",
    tools=("axolotl",),
    harm="slow",
    severity="warning",
    causes=("group-by-length",),
)
def length_groups_of_a_stream(unit: Unit, job: Job) -> Found:
    """Allow length-groups-of-a-stream.

    ## What it does
    Finds `group_by_length: true` with a streamed data set, or together with `sample_packing`.

    ## Why is this bad?
    To group a stream by length, all of it must be downloaded first. Packed rows all have the same length, so sorting them
    costs time for nothing.

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    pretraining_dataset: allenai/c4
    max_steps: 1000
    group_by_length: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    pretraining_dataset: allenai/c4
    max_steps: 1000
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_pretraining_w_group_by_length
    """
    grouped, stream = used(unit, "group_by_length"), used(unit, "pretraining_dataset", "streaming")
    if grouped and stream:
        yield Problem(
            grouped, f"group_by_length downloads all of the stream ({stream.written})", remove(grouped), (stream,)
        )
    elif grouped and (packing := used(unit, "sample_packing")):
        yield Problem(grouped, "group_by_length does nothing for packed rows", remove(grouped), (packing,), "info")


@rule(
    "AX612",
    "sharded-split-written-the-old-way",
    tools=("axolotl",),
    harm="ignored",
    severity="warning",
    causes=("train-on-split", "removed-option"),
)
def sharded_split_written_the_old_way(unit: Unit, job: Job) -> Found:
    """Allow sharded-split-written-the-old-way.

    ## What it does
    Finds `train_on_split` in a data set.

    ## Why is this bad?
    The option is called `split`; the old one is dropped without a word, and the split `train` is used.

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    datasets:
      - path: me/data
        type: alpaca
        train_on_split: train_small
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    datasets:
      - path: me/data
        type: alpaca
        split: train_small
    ```

    ## Versions
    axolotl 0.9 and later; it was an option before.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_ebft_strided_dataset_split
    """
    for name in datasets(unit):
        found: Setting | None = used(unit, f"{name}.train_on_split")
        if found and unit.since("0.9"):
            yield Problem(found, "train_on_split does nothing; the option is split", rename(found, "split", safe=False))
