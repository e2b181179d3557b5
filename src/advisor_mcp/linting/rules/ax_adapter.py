"""Axolotl: LoRA and its relatives: targets, kernels, learning rates."""

from __future__ import annotations

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import all_used, idle, learning_rate, used
from advisor_mcp.linting.unit import Unit

KERNELS = ("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel")


def adapter_of(unit: Unit) -> str | None:
    """The adapter in use: its name, an empty text for a full fine-tune, None where it is not known."""
    found = used(unit, "adapter")
    return str(found.value) if found else "" if idle(unit, "adapter") else None


@rule("AX104", "new-tokens-left-random", tools=("axolotl",), harm="crash", causes=("new-tokens-not-saved",))
def new_tokens_left_random(unit: Unit, job: Job) -> Found:
    """Allow new-tokens-left-random.

    ## What it does
    Finds `tokens` with an adapter whose `lora_modules_to_save` does not hold the embedding and the output layer.

    ## Why is this bad?
    New tokens get new, random rows in both layers, and LoRA leaves those layers frozen. Axolotl refuses it:
    "`lora_modules_to_save` not properly set when adding new tokens".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-2-7b-hf
    adapter: lora
    lora_target_modules: [q_proj, v_proj]
    tokens: ["<|im_start|>"]
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-2-7b-hf
    adapter: lora
    lora_target_modules: [q_proj, v_proj]
    lora_modules_to_save: [embed_tokens, lm_head]
    tokens: ["<|im_start|>"]
    ```

    ## Versions
    All. The layers have other names in GPT-NeoX (`embed_in`, `embed_out`) and Falcon (`word_embeddings`).

    ## References
    - axolotl 0.21.0, loaders/utils.py, check_model_config
    - huggingface/peft#1298
    - JIA-Lab-research/LongLoRA#79
    """
    tokens, saved = used(unit, "tokens"), unit.items("lora_modules_to_save") or []
    if (
        not tokens
        or not adapter_of(unit)
        or ("lora_modules_to_save" in unit and not unit["lora_modules_to_save"].known)
    ):
        return
    names = {str(name) for name in saved}
    embeds = names & {"embed_tokens", "embed_in", "word_embeddings", "wte"}
    if embeds and names & {"lm_head", "embed_out", "output"}:
        return
    wanted = ["embed_tokens", "lm_head"]
    held = unit.settings.get("lora_modules_to_save")
    if held is None:
        fix = add_after(tokens, "lora_modules_to_save", wanted)
    else:
        fix = set_value(held, [*(n for n in map(str, saved) if n not in wanted), *wanted])
    yield Problem(
        tokens,
        "tokens adds rows that stay random: lora_modules_to_save must hold embed_tokens and lm_head",
        fix,
        (held,) if held else (),
    )


@rule("AX105", "adapter-without-targets", tools=("axolotl",), harm="crash", causes=("lora-targets",))
def adapter_without_targets(unit: Unit, job: Job) -> Found:
    """Allow adapter-without-targets.

    ## What it does
    Finds `adapter: lora` or `qlora` without `lora_target_modules`, `lora_target_linear: true` or `lora_target_parameters`.

    ## Why is this bad?
    Axolotl passes PEFT an empty list, which is not the same as none: PEFT looks for no module at all and stops.

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    lora_r: 16
    lora_alpha: 32
    learning_rate: 2e-4
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    lora_r: 16
    lora_alpha: 32
    lora_target_linear: true
    learning_rate: 2e-4
    ```

    ## Versions
    All. An adapter that is loaded (`lora_model_dir`) brings its own targets.

    ## References
    - axolotl 0.21.0, loaders/adapter.py, load_lora
    - peft 0.21.2, tuners/tuners_utils.py, inject_adapter
    """
    if adapter_of(unit) not in ("lora", "qlora") or not used(unit, "learning_rate"):
        return
    if idle(
        unit, "lora_target_modules", "lora_target_linear", "lora_target_parameters", "lora_model_dir"
    ) and not unit.section("lora_target_modules"):
        fix = add_after(unit["adapter"], "lora_target_linear", True)
        yield Problem(
            unit["adapter"],
            f"{unit['adapter'].shown} has nothing to adapt: no lora_target_modules, no lora_target_linear",
            fix,
        )


@rule("AX106", "lora-rate-for-all-weights", tools=("axolotl",), harm="nan", severity="warning", causes=("lr-full-ft",))
def lora_rate_for_all_weights(unit: Unit, job: Job) -> Found:
    """Allow lora-rate-for-all-weights.

    ## What it does
    Finds a full fine-tune (no `adapter`) with an Adam optimizer and a learning rate of 1e-4 or more.

    ## Why is this bad?
    That is a rate for LoRA, where about ten times as much is best as for all weights. The loss of a full fine-tune
    jumps, or the model forgets what it knew.

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    optimizer: adamw_torch_fused
    learning_rate: 2e-4
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    optimizer: adamw_torch_fused
    learning_rate: 2e-5
    ```

    ## Versions
    All. Not for training from scratch (`pretraining_dataset`, `reinit_weights`) or a part of the weights
    (`unfrozen_parameters`).

    ## References
    - https://thinkingmachines.ai/blog/lora/
    - hiyouga/LlamaFactory#5261
    """
    rate = learning_rate(unit)
    if adapter_of(unit) != "" or rate is None or rate < 1e-4 or rate >= 1:
        return
    optimizer = (unit.text("optimizer", "adamw_torch_fused") or "").lower()
    partial = (
        "pretraining_dataset",
        "reinit_weights",
        "unfrozen_parameters",
        "lisa_step_interval",
        "rl",
        "plugins",
        "diffusion_lm",
        "diffusion",
        "use_onebitllms",
    )
    if (
        "adam" in optimizer
        and "galore" not in optimizer
        and all(not used(unit, name) or name == "plugins" for name in partial)
    ):
        setting = unit["learning_rate"]
        fix = advise(f"use about a tenth, such as {rate / 10:.0e}")
        yield Problem(
            setting, f"{setting.shown} is a rate for LoRA, but no adapter is set and all weights are trained", fix
        )


@rule("AX107", "lora-kernels-on-8-bit", tools=("axolotl",), harm="crash", causes=("lora-kernels-8bit",))
def lora_kernels_on_8_bit(unit: Unit, job: Job) -> Found:
    """Allow lora-kernels-on-8-bit.

    ## What it does
    Finds `lora_mlp_kernel`, `lora_qkv_kernel` or `lora_o_kernel` with `adapter: lora` on an 8-bit base.

    ## Why is this bad?
    The fused kernels know 16-bit and 4-bit weights only: "lora_mlp_kernel, lora_qkv_kernel, and lora_o_kernel are not
    compatible with 8-bit LoRA".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    load_in_8bit: true
    lora_mlp_kernel: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    load_in_8bit: true
    ```

    ## Versions
    axolotl 0.7 and later.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_lora_kernels_8bit
    """
    eight = used(unit, "load_in_8bit")
    if adapter_of(unit) == "lora" and eight and (kernels := all_used(unit, KERNELS)):
        yield Problem(kernels[0], f"{kernels[0].shown} does not work on an 8-bit base", remove(*kernels), (eight,))


@rule("AX108", "lora-kernels-on-remote-code", tools=("axolotl",), harm="crash", causes=("lora-kernels-remote-code",))
def lora_kernels_on_remote_code(unit: Unit, job: Job) -> Found:
    """Allow lora-kernels-on-remote-code.

    ## What it does
    Finds the fused LoRA kernels together with `trust_remote_code: true`.

    ## Why is this bad?
    The kernels replace methods of the library's model classes, which a model with its own code does not use:
    "lora_mlp_kernel, lora_qkv_kernel, and lora_o_kernel are not compatible with trust_remote_code".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    trust_remote_code: true
    lora_qkv_kernel: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    lora_qkv_kernel: true
    ```

    ## Versions
    axolotl 0.15 and later; newer releases know a few such models, so it is a warning there.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_lora_kernels_trust_remote_code
    """
    remote = used(unit, "trust_remote_code")
    if remote and unit.since("0.15") and (kernels := all_used(unit, KERNELS)):
        yield Problem(
            kernels[0], f"{kernels[0].shown} does not go with trust_remote_code: true", remove(*kernels), (remote,)
        )


@rule("AX109", "fused-modules-under-lora", tools=("axolotl",), harm="crash", causes=("fused-lora",))
def fused_modules_under_lora(unit: Unit, job: Job) -> Found:
    """Allow fused-modules-under-lora.

    ## What it does
    Finds `flash_attn_fuse_mlp` or `flash_attn_fuse_qkv` with LoRA, QLoRA or ReLoRA.

    ## Why is this bad?
    Fusing takes away the layers that LoRA hangs on to: "Fused modules are not supported with LoRA/QLoRA".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    flash_attn_fuse_mlp: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_fused_lora
    """
    if adapter_of(unit) in ("lora", "qlora", "mixlora"):
        for found in all_used(unit, ("flash_attn_fuse_mlp", "flash_attn_fuse_qkv")):
            yield Problem(
                found, f"{found.shown} does not go with {unit['adapter'].shown}", remove(found), (unit["adapter"],)
            )


@rule("AX110", "reentrant-with-frozen-weights", tools=("axolotl",), harm="crash", causes=("frozen-reentrant",))
def reentrant_with_frozen_weights(unit: Unit, job: Job) -> Found:
    """Allow reentrant-with-frozen-weights.

    ## What it does
    Finds `gradient_checkpointing_kwargs.use_reentrant: true` with `unfrozen_parameters`.

    ## Why is this bad?
    Reentrant checkpointing drops the gradients of a block whose input needs none, which is every block behind frozen
    weights: "`use_reentrant` must be false when used with partially frozen model."

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    gradient_checkpointing: true
    gradient_checkpointing_kwargs:
      use_reentrant: true
    unfrozen_parameters:
      - ^lm_head.weight$
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    gradient_checkpointing: true
    gradient_checkpointing_kwargs:
      use_reentrant: false
    unfrozen_parameters:
      - ^lm_head.weight$
    ```

    ## Versions
    All.

    ## References
    - axolotl-ai-cloud/axolotl#1142
    - huggingface/transformers#21381
    """
    reentrant, frozen = used(unit, "gradient_checkpointing_kwargs.use_reentrant"), used(unit, "unfrozen_parameters")
    if reentrant and frozen:
        yield Problem(
            reentrant,
            "use_reentrant: true loses the gradients behind frozen weights",
            set_value(reentrant, False),
            (frozen,),
        )


@rule("AX111", "two-learning-rate-plans", tools=("axolotl",), harm="crash", causes=("lr-groups-loraplus",))
def two_learning_rate_plans(unit: Unit, job: Job) -> Found:
    """Allow two-learning-rate-plans.

    ## What it does
    Finds `lr_groups` together with `loraplus_lr_ratio`.

    ## Why is this bad?
    Both divide the weights into groups with learning rates of their own: "lr_groups and loraplus_lr_ratio cannot be used
    together."

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    loraplus_lr_ratio: 16
    lr_groups:
      - name: o
        modules: [o_proj]
        lr: 0.0001
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    loraplus_lr_ratio: 16
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_lr_groups
    """
    groups, ratio = used(unit, "lr_groups"), used(unit, "loraplus_lr_ratio")
    if groups and ratio:
        yield Problem(ratio, f"{ratio.shown} and lr_groups are both set", remove(ratio), (groups,))


@rule("AX112", "layer-choice-that-conflicts", tools=("axolotl",), harm="crash", causes=("peft-layers",))
def layer_choice_that_conflicts(unit: Unit, job: Job) -> Found:
    """Allow layer-choice-that-conflicts.

    ## What it does
    Finds `peft_layers_pattern` without `peft_layers_to_transform`, and the latter together with `unfrozen_parameters`.

    ## Why is this bad?
    A pattern alone chooses nothing, and two choices of layers fight: "peft_layers_pattern requires
    peft_layers_to_transform to be set".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    peft_layers_pattern: [layers]
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    peft_layers_pattern: [layers]
    peft_layers_to_transform: [0, 1, 2, 3]
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_peft_layers_pattern and check_frozen
    """
    pattern, chosen, free = (
        used(unit, n) for n in ("peft_layers_pattern", "peft_layers_to_transform", "unfrozen_parameters")
    )
    if pattern and idle(unit, "peft_layers_to_transform"):
        yield Problem(pattern, "peft_layers_pattern needs peft_layers_to_transform", remove(pattern))
    if chosen and free and adapter_of(unit):
        yield Problem(
            free,
            "unfrozen_parameters and peft_layers_to_transform both choose what is trained",
            remove(free),
            (chosen,),
        )


@rule("AX113", "relora-restrictions", tools=("axolotl",), harm="crash", causes=("relora",))
def relora_restrictions(unit: Unit, job: Job) -> Found:
    """Allow relora-restrictions.

    ## What it does
    Checks that ReLoRA has a LoRA adapter and, in newer versions, `jagged_restart_steps`, and that it runs without FSDP,
    DeepSpeed and the one_cycle scheduler.

    ## Why is this bad?
    ReLoRA merges its adapter into the base again and again, which needs all of that: "jagged_restart_steps must be set to
    use ReLoRA", "deepspeed not supported with ReLoRA".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    relora: true
    jagged_restart_steps: 150
    deepspeed: deepspeed_configs/zero2.json
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    relora: true
    jagged_restart_steps: 150
    ```

    ## Versions
    `relora` with `jagged_restart_steps`: axolotl 0.12 and later; `relora_steps` before.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_relora
    """
    relora = used(unit, "relora") if unit.since("0.12") else used(unit, "relora_steps")
    if relora is None:
        return
    if unit.since("0.12") and idle(unit, "jagged_restart_steps"):
        yield Problem(relora, "relora needs jagged_restart_steps", add_after(relora, "jagged_restart_steps", 150))
    if adapter_of(unit) == "":
        yield Problem(relora, f"{relora.shown} needs adapter: lora or qlora", add_after(relora, "adapter", "lora"))
    for found in all_used(unit, ("deepspeed", "fsdp_config", "fsdp")):
        yield Problem(found, f"ReLoRA does not run under {found.written}", remove(found), (relora,))
    if unit.text("lr_scheduler") == "one_cycle":
        yield Problem(
            unit["lr_scheduler"],
            "ReLoRA does not go with lr_scheduler: one_cycle",
            set_value(unit["lr_scheduler"], "cosine"),
            (relora,),
        )


@rule("AX114", "dropout-on-target-parameters", tools=("axolotl",), harm="crash", causes=("lora-target-parameters",))
def dropout_on_target_parameters(unit: Unit, job: Job) -> Found:
    """Allow dropout-on-target-parameters.

    ## What it does
    Finds `lora_target_parameters` with a `lora_dropout` other than 0, or with an initialisation that reads the weights.

    ## Why is this bad?
    PEFT wraps bare parameters (fused experts) in a way that knows neither: "lora_dropout must be 0 when
    lora_target_parameters is set".

    ## Example
    ```yaml axolotl.yaml
    base_model: openai/gpt-oss-20b
    adapter: lora
    lora_dropout: 0.05
    lora_target_parameters: [mlp.experts.gate_up_proj]
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: openai/gpt-oss-20b
    adapter: lora
    lora_dropout: 0.0
    lora_target_parameters: [mlp.experts.gate_up_proj]
    ```

    ## Versions
    Dropout: axolotl 0.15 and later. Initialisation: 0.20 and later.

    ## References
    - axolotl 0.21.0, utils/schemas/peft.py, validate_lora_target_parameters_dropout and _init
    """
    targets, dropout = used(unit, "lora_target_parameters"), used(unit, "lora_dropout")
    if targets and dropout and unit.since("0.15"):
        yield Problem(
            dropout, f"{dropout.shown} must be 0 with lora_target_parameters", set_value(dropout, 0.0), (targets,)
        )
    start = used(unit, "peft_init_lora_weights")
    if targets and start and unit.since("0.20") and start.value not in (True, "gaussian", "true"):
        yield Problem(
            start, f"{start.shown} reads weights that fused parameters do not have", remove(start), (targets,)
        )


@rule("AX117", "unknown-adapter", tools=("axolotl",), harm="crash", causes=("unknown-adapter",))
def unknown_adapter(unit: Unit, job: Job) -> Found:
    """Allow unknown-adapter.

    ## What it does
    Finds an `adapter` that Axolotl does not have and no plugin can bring, because there are no `plugins`.

    ## Why is this bad?
    Axolotl stops: "Adapter '...' is not built in and was not registered by a plugin".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: dora
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    peft_use_dora: true
    ```

    ## Versions
    All; older versions stop later, when they load the adapter.

    ## References
    - axolotl 0.21.0, utils/schemas/peft.py, validate_adapter
    """
    adapter = adapter_of(unit)
    if (
        adapter
        and adapter not in ("lora", "qlora", "llama-adapter")
        and idle(unit, "plugins")
        and not unit.section("plugins")
    ):
        fix = advise("use lora or qlora; DoRA is lora with peft_use_dora: true") if "dora" in adapter else None
        yield Problem(
            unit["adapter"],
            f"there is no adapter {adapter!r} in Axolotl, and no plugin is named that could bring it",
            fix,
        )
