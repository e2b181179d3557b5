"""Axolotl: FSDP."""

from __future__ import annotations

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity, rule
from advisor_mcp.linting.rules._ft import all_used, used
from advisor_mcp.linting.rules.ax_parallel import BITSANDBYTES, fsdp_config
from advisor_mcp.linting.unit import Setting, Unit


def fsdp_version(unit: Unit) -> int | None:
    """Which FSDP it is: what is written, else 2 since axolotl 0.20 and 1 before; None where it is not known."""
    for name in ("fsdp_version", "fsdp_config.fsdp_version", "fsdp_config.version"):
        if name in unit and unit[name].value is not None:
            found = unit.number(name)
            return int(found) if found is not None else None
    return 2 if unit.since("0.20") else 1


def _version_setting(unit: Unit) -> Setting | None:
    return unit.setting("fsdp_version", "fsdp_config.fsdp_version", "fsdp_config.version")


def in_fsdp(unit: Unit, name: str) -> Setting | None:
    """A setting of `fsdp_config` that is in use, with or without the old prefix."""
    return used(unit, f"fsdp_config.{name}", f"fsdp_config.fsdp_{name}")


@rule("AX301", "removed-fsdp1", tools=("axolotl",), harm="crash", causes=("fsdp1-removed", "removed-option"))
def removed_fsdp1(unit: Unit, job: Job) -> Found:
    """Allow removed-fsdp1.

    ## What it does
    Finds the list `fsdp:`, which chose the strategies of FSDP1, and an `fsdp_version` other than 2.

    ## Why is this bad?
    Axolotl has FSDP2 only: "The top-level `fsdp` list is no longer supported, it configured FSDP1 sharding strategies."

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    fsdp:
      - full_shard
      - auto_wrap
    fsdp_config:
      transformer_layer_cls_to_wrap: LlamaDecoderLayer
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    fsdp_version: 2
    fsdp_config:
      transformer_layer_cls_to_wrap: LlamaDecoderLayer
      reshard_after_forward: true
    ```

    ## Versions
    axolotl 0.20 and later. Where no version is named and the file already says `fsdp_version: 2`, the left-over list is a
    warning: releases from 0.9 to 0.19 took it.

    ## References
    - axolotl-ai-cloud/axolotl#2469
    - axolotl 0.20.0, utils/schemas/validation.py, check_fsdp_version
    """
    if unit.before("0.20"):
        return
    if old := used(unit, "fsdp"):
        ready = fsdp_config(unit) is not None and fsdp_version(unit) == 2 and _version_setting(unit) is not None
        severity: Severity | None = "warning" if ready and unit.version is None else None
        fix = remove(old) if fsdp_config(unit) else advise("use fsdp_version: 2 and fsdp_config")
        yield Problem(
            old, "the fsdp list chose FSDP1's strategies and is not accepted since axolotl 0.20", fix, (), severity
        )
    elif fsdp_config(unit) and fsdp_version(unit) not in (None, 2) and (found := _version_setting(unit)):
        yield Problem(found, f"{found.shown} is gone from axolotl 0.20, which has FSDP2 only", set_value(found, 2))


@rule("AX302", "fsdp1-option", tools=("axolotl",), harm="crash", causes=("fsdp2-options",))
def fsdp1_option(unit: Unit, job: Job) -> Found:
    """Allow fsdp1-option.

    ## What it does
    Finds options of FSDP1 in `fsdp_config`: `sharding_strategy` and `forward_prefetch`, which are refused, and
    `sync_module_states`, `backward_prefetch`, `use_orig_params` and `limit_all_gathers`, which are dropped.

    ## Why is this bad?
    "fsdp_config.sharding_strategy is an FSDP1-only option and FSDP1 has been removed from Axolotl. Use
    `reshard_after_forward` instead".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    fsdp_version: 2
    fsdp_config:
      sharding_strategy: FULL_SHARD
      transformer_layer_cls_to_wrap: LlamaDecoderLayer
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    fsdp_version: 2
    fsdp_config:
      reshard_after_forward: true
      transformer_layer_cls_to_wrap: LlamaDecoderLayer
    ```

    ## Versions
    axolotl 0.20 and later.

    ## References
    - axolotl 0.20.0, utils/schemas/validation.py, FSDP1_ONLY_REJECTED_KEYS and FSDP1_ONLY_IGNORED_KEYS
    """
    if unit.before("0.20") or used(unit, "fsdp"):
        return
    for name in ("sharding_strategy", "forward_prefetch"):
        for found in _spellings(unit, name):
            why = "reshard_after_forward says it in FSDP2" if name == "sharding_strategy" else ""
            yield Problem(
                found, f"{found.written} is an option of FSDP1, which axolotl 0.20 removed", remove(found, why=why)
            )
    ignored = (
        "sync_module_states",
        "backward_prefetch",
        "backward_prefetch_policy",
        "limit_all_gathers",
        "use_orig_params",
    )
    for found in (setting for name in ignored for setting in _spellings(unit, name)):
        yield Problem(
            found,
            f"{found.written} is an option of FSDP1 and does nothing under FSDP2",
            remove(found, safe=True),
            (),
            "info",
        )


def _spellings(unit: Unit, name: str) -> list[Setting]:
    return [unit[key] for key in (f"fsdp_config.{name}", f"fsdp_config.fsdp_{name}") if key in unit]


@rule("AX303", "fsdp-beside-deepspeed", tools=("axolotl",), harm="crash", causes=("fsdp-and-deepspeed",))
def fsdp_beside_deepspeed(unit: Unit, job: Job) -> Found:
    """Allow fsdp-beside-deepspeed.

    ## What it does
    Finds `deepspeed` and `fsdp_config` (or `fsdp`) in one configuration.

    ## Why is this bad?
    Both shard the same weights: "deepspeed and fsdp cannot be used together."

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    deepspeed: deepspeed_configs/zero3_bf16.json
    fsdp_version: 2
    fsdp_config:
      transformer_layer_cls_to_wrap: LlamaDecoderLayer
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    deepspeed: deepspeed_configs/zero3_bf16.json
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_fsdp_deepspeed
    """
    deepspeed, sharded = used(unit, "deepspeed"), all_used(unit, ("fsdp_config", "fsdp"))
    if deepspeed and sharded:
        yield Problem(
            deepspeed,
            f"deepspeed and {sharded[0].written} are both set, and both shard the model",
            remove(deepspeed),
            (sharded[0],),
        )


@rule("AX304", "eight-bit-optimizer-under-fsdp", tools=("axolotl",), harm="crash", causes=("fsdp2-8bit-optim",))
def eight_bit_optimizer_under_fsdp(unit: Unit, job: Job) -> Found:
    """Allow eight-bit-optimizer-under-fsdp.

    ## What it does
    Finds bitsandbytes' 8-bit Adam under FSDP2, and any 8-bit optimizer under FSDP1 with offloading.

    ## Why is this bad?
    bitsandbytes' state tensors do not know sharded parameters: "FSDP2 not compatible with adamw_bnb_8bit, use
    `adamw_torch_8bit` instead", "FSDP Offload not compatible with ...".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    fsdp_version: 2
    fsdp_config:
      transformer_layer_cls_to_wrap: LlamaDecoderLayer
    optimizer: adamw_bnb_8bit
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    fsdp_version: 2
    fsdp_config:
      transformer_layer_cls_to_wrap: LlamaDecoderLayer
    optimizer: adamw_torch_8bit
    ```

    ## Versions
    FSDP2: axolotl 0.9 and later. FSDP1: up to 0.19.

    ## References
    - axolotl-ai-cloud/axolotl#2469
    - axolotl 0.21.0, utils/schemas/validation.py, check_fsdp2_w_8bit_optimizer
    - axolotl 0.18.0, utils/schemas/validation.py, check_fsdp_offload_w_8bit_optimizer
    """
    config, optimizer = fsdp_config(unit), unit.text("optimizer")
    version = fsdp_version(unit)
    if config is None or optimizer is None or version is None:
        return
    fix = set_value(unit["optimizer"], "adamw_torch_8bit")
    if version == 2 and optimizer in BITSANDBYTES and unit.since("0.9"):
        yield Problem(unit["optimizer"], f"optimizer: {optimizer} does not work under FSDP2", fix, (config,))
    elif version == 1 and unit.before("0.20") and "8bit" in optimizer and (offload := in_fsdp(unit, "offload_params")):
        other = set_value(unit["optimizer"], "adamw_torch_fused")
        yield Problem(
            unit["optimizer"], f"optimizer: {optimizer} does not work with FSDP1's offloading", other, (offload,)
        )


@rule("AX305", "rank0-loading-of-4-bit-weights", tools=("axolotl",), harm="hang", causes=("fsdp-qlora-loading",))
def rank0_loading_of_4_bit_weights(unit: Unit, job: Job) -> Found:
    """Allow rank0-loading-of-4-bit-weights.

    ## What it does
    Finds `load_in_4bit` under FSDP2 with `cpu_ram_efficient_loading: true`.

    ## Why is this bad?
    Only rank 0 quantises, the other ranks wait for tensors of another shape and the scatter never ends. Axolotl refuses
    it: "FSDP2 does not support `cpu_ram_efficient_loading` with load_in_4bit".

    ## Example
    ```yaml axolotl.yaml axolotl=0.19.0
    base_model: NousResearch/Llama-3.2-1B
    adapter: qlora
    load_in_4bit: true
    fsdp_version: 2
    fsdp_config:
      cpu_ram_efficient_loading: true
      transformer_layer_cls_to_wrap: LlamaDecoderLayer
    ```

    ## Use instead
    ```yaml axolotl.yaml axolotl=0.19.0
    base_model: NousResearch/Llama-3.2-1B
    adapter: qlora
    load_in_4bit: true
    fsdp_version: 2
    fsdp_config:
      cpu_ram_efficient_loading: false
      transformer_layer_cls_to_wrap: LlamaDecoderLayer
    ```

    ## Versions
    axolotl 0.19. Since 0.20 QLoRA is staged over the CPU by itself, unless `qlora_sharded_model_loading: false`.

    ## References
    - axolotl 0.19.0, utils/schemas/validation.py, check_fsdp2_cpu_ram_efficient_loading_w_4bit
    - axolotl 0.20.0, utils/schemas/validation.py, check_fsdp2_cpu_ram_efficient_loading_w_4bit
    """
    loading, four = in_fsdp(unit, "cpu_ram_efficient_loading"), used(unit, "load_in_4bit")
    if not (loading and four and unit.since("0.19") and fsdp_version(unit) == 2):
        return
    staged = unit.settings.get("qlora_sharded_model_loading")
    if unit.before("0.20") or (staged is not None and staged.value is False) or unit.text("adapter") == "lora":
        yield Problem(
            loading, f"{loading.shown} deadlocks with load_in_4bit under FSDP2", set_value(loading, False), (four,)
        )


@rule("AX306", "quantised-preference-tuning-under-fsdp", tools=("axolotl",), harm="crash", causes=("fsdp-quant-rl",))
def quantised_preference_tuning_under_fsdp(unit: Unit, job: Job) -> Found:
    """Allow quantised-preference-tuning-under-fsdp.

    ## What it does
    Finds `rl: dpo`, `kto`, `orpo` or `ipo` on a 4-bit or 8-bit base under FSDP2.

    ## Why is this bad?
    "FSDP2 does not support load_in_8bit or load_in_4bit with dpo. Please use DeepSpeed instead."

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    rl: dpo
    adapter: qlora
    load_in_4bit: true
    fsdp_version: 2
    fsdp_config:
      transformer_layer_cls_to_wrap: LlamaDecoderLayer
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    rl: dpo
    adapter: qlora
    load_in_4bit: true
    deepspeed: deepspeed_configs/zero2.json
    ```

    ## Versions
    axolotl 0.12 and later.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_fsdp2_base_model_quant_rl
    """
    config, method = fsdp_config(unit), unit.text("rl")
    if config and method in ("dpo", "kto", "orpo", "ipo") and unit.since("0.12") and fsdp_version(unit) == 2:
        for found in all_used(unit, ("load_in_8bit", "load_in_4bit"))[:1]:
            yield Problem(
                found,
                f"{found.shown} does not work with rl: {method} under FSDP2",
                advise("use DeepSpeed"),
                (unit["rl"], config),
            )


@rule("AX307", "incomplete-fsdp-options", tools=("axolotl",), harm="crash", causes=("fsdp-incomplete",))
def incomplete_fsdp_options(unit: Unit, job: Job) -> Found:
    """Allow incomplete-fsdp-options.

    ## What it does
    Finds `cpu_offload_pin_memory: false` without `offload_params`, and `auto_wrap_policy: SIZE_BASED_WRAP` without
    `min_num_params`.

    ## Why is this bad?
    "disabling cpu_offload_pin_memory requires enabling offload_params", "fsdp_config.min_num_params is required when
    auto_wrap_policy is SIZE_BASED_WRAP".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    fsdp_version: 2
    fsdp_config:
      auto_wrap_policy: SIZE_BASED_WRAP
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    fsdp_version: 2
    fsdp_config:
      auto_wrap_policy: SIZE_BASED_WRAP
      min_num_params: 100000000
    ```

    ## Versions
    axolotl 0.14 and later; `min_num_params` since 0.18.

    ## References
    - axolotl 0.21.0, utils/schemas/fsdp.py, validate_size_based_wrap
    - axolotl 0.21.0, utils/schemas/validation.py, check_fsdp2_cpu_offload_pin_memory
    """
    if fsdp_config(unit) is None:
        return
    policy = in_fsdp(unit, "auto_wrap_policy")
    if policy and policy.value == "SIZE_BASED_WRAP" and unit.since("0.18") and in_fsdp(unit, "min_num_params") is None:
        fix = add_after(policy, "min_num_params", 100000000)
        yield Problem(policy, "SIZE_BASED_WRAP needs min_num_params", fix)
    pinned = unit.setting("fsdp_config.cpu_offload_pin_memory", "fsdp_config.fsdp_cpu_offload_pin_memory")
    if pinned and pinned.value is False and unit.since("0.14") and in_fsdp(unit, "offload_params") is None:
        yield Problem(pinned, "cpu_offload_pin_memory: false needs offload_params: true", remove(pinned))


@rule(
    "AX308", "sharded-checkpoint-as-safetensors", tools=("axolotl",), harm="crash", causes=("fsdp-sharded-safetensors",)
)
def sharded_checkpoint_as_safetensors(unit: Unit, job: Job) -> Found:
    """Allow sharded-checkpoint-as-safetensors.

    ## What it does
    Finds FSDP's SHARDED_STATE_DICT with `save_safetensors: true`.

    ## Why is this bad?
    Old releases refuse it: "FSDP SHARDED_STATE_DICT not compatible with save_safetensors".

    ## Example
    ```yaml axolotl.yaml axolotl=0.9.2
    base_model: NousResearch/Llama-3.2-1B
    fsdp: [full_shard, auto_wrap]
    save_safetensors: true
    fsdp_config:
      fsdp_state_dict_type: SHARDED_STATE_DICT
    micro_batch_size: 2
    ```

    ## Use instead
    ```yaml axolotl.yaml axolotl=0.9.2
    base_model: NousResearch/Llama-3.2-1B
    fsdp: [full_shard, auto_wrap]
    save_safetensors: false
    fsdp_config:
      fsdp_state_dict_type: SHARDED_STATE_DICT
    micro_batch_size: 2
    ```

    ## Versions
    Up to axolotl 0.11.

    ## References
    - axolotl 0.9.2, utils/schemas/config.py, check_fsdp_sharded_state_dict_w_safetensors
    """
    kind, safe = in_fsdp(unit, "state_dict_type"), used(unit, "save_safetensors")
    if unit.before("0.12") and kind and safe and kind.value == "SHARDED_STATE_DICT":
        yield Problem(
            safe, "save_safetensors does not go with FSDP's SHARDED_STATE_DICT", set_value(safe, False), (kind,)
        )


@rule("AX309", "model-that-cannot-be-sharded", tools=("axolotl",), harm="crash", causes=("model-restriction",))
def model_that_cannot_be_sharded(unit: Unit, job: Job) -> Found:
    """Allow model-that-cannot-be-sharded.

    ## What it does
    Finds FSDP with a Falcon model, and gradient checkpointing with an MPT model.

    ## Why is this bad?
    Axolotl goes by the model's name: "FSDP is not supported for falcon models", "gradient_checkpointing is not supported
    for MPT models".

    ## Example
    ```yaml axolotl.yaml
    base_model: tiiuae/falcon-7b
    micro_batch_size: 2
    fsdp_version: 2
    fsdp_config:
      transformer_layer_cls_to_wrap: FalconDecoderLayer
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: tiiuae/falcon-7b
    micro_batch_size: 2
    deepspeed: deepspeed_configs/zero3_bf16.json
    ```

    ## Versions
    All; before axolotl 0.20 only the list `fsdp` counts for Falcon.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_falcon_fsdp and check_mpt_checkpointing
    """
    model = (unit.text("base_model") or "").lower()
    if "falcon" in model and (config := used(unit, "fsdp_config" if unit.since("0.20") else "fsdp")):
        yield Problem(
            config,
            "FSDP is not supported for Falcon models",
            remove(config, why="use DeepSpeed"),
            (unit["base_model"],),
        )
    if "mpt" in model and (checkpointing := used(unit, "gradient_checkpointing")):
        yield Problem(
            checkpointing,
            "gradient_checkpointing is not supported for MPT models",
            set_value(checkpointing, False),
            (unit["base_model"],),
        )
