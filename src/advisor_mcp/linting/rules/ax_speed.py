"""Axolotl: losses, kernels, plugins and optimizers."""

from __future__ import annotations

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import all_used, idle, used
from advisor_mcp.linting.unit import Unit

LOSSES = ("cut_cross_entropy", "chunked_cross_entropy", "liger_cross_entropy", "liger_fused_linear_cross_entropy")
PLUGINS = {
    "liger_": ("liger", "axolotl.integrations.liger.LigerPlugin"),
    "cut_cross_entropy": ("cut_cross_entropy", "axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin"),
    "spectrum_": ("spectrum", "axolotl.integrations.spectrum.SpectrumPlugin"),
    "kd_": ("kd", "axolotl.integrations.kd.KDPlugin"),
    "grokfast_": ("grokfast", "axolotl.integrations.grokfast.GrokfastPlugin"),
    "lm_eval_": ("lm_eval", "axolotl.integrations.lm_eval.LMEvalPlugin"),
    "use_swanlab": ("swanlab", "axolotl.integrations.swanlab.SwanLabPlugin"),
}


@rule("AX501", "several-cross-entropies", tools=("axolotl",), harm="crash", causes=("cross-entropy-conflict",))
def several_cross_entropies(unit: Unit, job: Job) -> Found:
    """Allow several-cross-entropies.

    ## What it does
    Finds more than one of `cut_cross_entropy`, `chunked_cross_entropy`, `liger_cross_entropy` and
    `liger_fused_linear_cross_entropy`.

    ## Why is this bad?
    Each replaces the loss: "Only one cross entropy optimization can be enabled at a time."

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    plugins:
      - axolotl.integrations.liger.LigerPlugin
      - axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin
    liger_fused_linear_cross_entropy: true
    cut_cross_entropy: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    plugins:
      - axolotl.integrations.liger.LigerPlugin
    liger_fused_linear_cross_entropy: true
    ```

    ## Versions
    axolotl 0.13 and later; before, the last one to patch the model won.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_cross_entropy_conflicts
    """
    chosen = all_used(unit, LOSSES)
    if len(chosen) > 1 and unit.since("0.13"):
        kept = chosen[-1]
        yield Problem(
            chosen[0],
            f"{chosen[0].written} and {kept.written} both replace the loss",
            remove(*chosen[:-1]),
            tuple(chosen[1:]),
        )


@rule(
    "AX503",
    "option-of-a-missing-plugin",
    tools=("axolotl",),
    harm="ignored",
    severity="warning",
    causes=("plugin-missing",),
)
def option_of_a_missing_plugin(unit: Unit, job: Job) -> Found:
    """Allow option-of-a-missing-plugin.

    ## What it does
    Finds options of a plugin (`liger_*`, `cut_cross_entropy`, `spectrum_*`, `kd_*` and others) that `plugins` does not name.

    ## Why is this bad?
    Axolotl knows these options only while the plugin is loaded; without it they are dropped without a word, and the run
    uses more memory or another loss than meant.

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    liger_rope: true
    liger_fused_linear_cross_entropy: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    plugins:
      - axolotl.integrations.liger.LigerPlugin
    liger_rope: true
    liger_fused_linear_cross_entropy: true
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, integrations/config.py, merge_input_args
    - axolotl 0.18.0, docs/custom_integrations.qmd
    """
    held = unit.settings.get("plugins")
    if unit.open or (held is not None and not held.known):
        return
    named = unit.items("plugins") or []
    if any(not isinstance(item, str) for item in named):
        return
    for prefix, (word, plugin) in PLUGINS.items():
        options = [name for name in unit.settings if name.startswith(prefix) and "." not in name]
        first = used(unit, *options) if options else None
        if first and not any(word.replace("_", "") in item.lower().replace("_", "") for item in named):
            fix = add_after(first, "plugins", [plugin]) if held is None else advise(f"add {plugin} to plugins")
            yield Problem(
                first,
                f"{first.written} is an option of {plugin}, which plugins does not name",
                fix,
                (held,) if held else (),
            )


@rule("AX504", "liger-options-that-conflict", tools=("axolotl",), harm="crash", causes=("liger-conflict",))
def liger_options_that_conflict(unit: Unit, job: Job) -> Found:
    """Allow liger-options-that-conflict.

    ## What it does
    Finds `liger_swiglu` beside its new name `liger_glu_activation`, the latter with `tiled_mlp`, and
    `liger_use_token_scaling` without the fused loss.

    ## Why is this bad?
    "You cannot have both `liger_swiglu` and `liger_glu_activation` set.", "`liger_use_token_scaling: true` requires
    `liger_fused_linear_cross_entropy` enabled."

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    plugins: [axolotl.integrations.liger.LigerPlugin]
    liger_swiglu: true
    liger_glu_activation: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    plugins: [axolotl.integrations.liger.LigerPlugin]
    liger_glu_activation: true
    ```

    ## Versions
    All; `tiled_mlp` since axolotl 0.12, token scaling since 0.15.

    ## References
    - axolotl 0.21.0, integrations/liger/args.py
    """
    old, new = unit.settings.get("liger_swiglu"), unit.settings.get("liger_glu_activation")
    if old and new and old.value is not None and new.value is not None:
        yield Problem(old, "liger_swiglu and its new name liger_glu_activation are both set", remove(old), (new,))
    tiled = used(unit, "tiled_mlp")
    if tiled and used(unit, "liger_glu_activation") and idle(unit, "tiled_mlp_use_original_mlp"):
        fix = add_after(tiled, "tiled_mlp_use_original_mlp", True)
        yield Problem(
            tiled,
            "tiled_mlp with liger_glu_activation needs tiled_mlp_use_original_mlp: true",
            fix,
            (unit["liger_glu_activation"],),
        )
    scaling = used(unit, "liger_use_token_scaling")
    if scaling and idle(unit, "liger_fused_linear_cross_entropy"):
        yield Problem(scaling, "liger_use_token_scaling needs liger_fused_linear_cross_entropy: true", remove(scaling))


@rule(
    "AX505",
    "optimizer-under-deepspeed",
    tools=("axolotl",),
    harm="crash",
    causes=("optimizer-deepspeed", "untested-optimizer"),
)
def optimizer_under_deepspeed(unit: Unit, job: Job) -> Found:
    """Allow optimizer-under-deepspeed.

    ## What it does
    Finds optimizers that do not work with DeepSpeed (`muon`, `flash_*`, `q_galore_adamw8bit`, `polora`), and Muon under
    FSDP1.

    ## Why is this bad?
    DeepSpeed cuts parameters into flat pieces, these optimizers need whole matrices: "Muon optimizer is currently
    incompatible with DeepSpeed", "Flash optimizers only support DDP and FSDP2."

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    optimizer: muon
    deepspeed: deepspeed_configs/zero2.json
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    optimizer: muon
    fsdp_version: 2
    fsdp_config:
      transformer_layer_cls_to_wrap: LlamaDecoderLayer
    ```

    ## Versions
    All that have the optimizer. Muon works under FSDP2 since axolotl 0.13.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_muon_deepspeed_fsdp, check_flashoptim_deepspeed_fsdp, check_qgalore
    - axolotl 0.16.1, utils/schemas/validation.py, check_muon_deepspeed_fsdp
    """
    name = unit.text("optimizer") or ""
    refusing = name in ("muon", "muon_8bit", "q_galore_adamw8bit", "polora") or name.startswith("flash_")
    if refusing and (deepspeed := used(unit, "deepspeed")):
        yield Problem(
            unit["optimizer"],
            f"optimizer: {name} does not work with DeepSpeed",
            advise("use FSDP2 or another optimizer"),
            (deepspeed,),
        )
    if name == "muon" and unit.before("0.20") and (sharded := used(unit, "fsdp_config", "fsdp")):
        second = 2 in (unit.number("fsdp_version"), unit.number("fsdp_config.fsdp_version"))
        if unit.before("0.13") or not second:
            yield Problem(
                unit["optimizer"],
                "optimizer: muon does not work under FSDP1",
                advise("use fsdp_version: 2"),
                (sharded,),
            )


@rule("AX506", "optimizer-and-adapter", tools=("axolotl",), harm="crash", causes=("galore-lora", "optimizer-adapter"))
def optimizer_and_adapter(unit: Unit, job: Job) -> Found:
    """Allow optimizer-and-adapter.

    ## What it does
    Finds `optimizer: q_galore_adamw8bit` with an adapter, and `polora` without one.

    ## Why is this bad?
    GaLore projects the gradients of full weights, PoLoRA knows the factors of LoRA only: "q_galore_adamw8bit operates on
    full-precision parameters and is incompatible with adapter", "polora only updates LoRA (A, B) factors".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    optimizer: q_galore_adamw8bit
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    optimizer: adamw_torch_fused
    ```

    ## Versions
    axolotl 0.17 and later; `polora` since 0.19.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_qgalore and check_polora
    """
    adapter, name = used(unit, "adapter"), unit.text("optimizer")
    if name is None:
        return
    fix = set_value(unit["optimizer"], "adamw_torch_fused")
    if adapter and (name == "q_galore_adamw8bit" or name.startswith("galore_")):
        yield Problem(unit["optimizer"], f"optimizer: {name} trains full weights, but {adapter.shown}", fix, (adapter,))
    elif name == "polora" and idle(unit, "adapter"):
        yield Problem(unit["optimizer"], "optimizer: polora needs adapter: lora or qlora", fix)


@rule(
    "AX507",
    "adam-numbers-without-adam",
    tools=("axolotl",),
    harm="ignored",
    severity="info",
    causes=("optimizer-arguments",),
)
def adam_numbers_without_adam(unit: Unit, job: Job) -> Found:
    """Allow adam-numbers-without-adam.

    ## What it does
    Finds `adam_beta1`, `adam_beta2` or `adam_epsilon` beside an optimizer that is no Adam.

    ## Why is this bad?
    They have no effect: "adamw hyperparameters found, but no adamw optimizer set".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    optimizer: sgd
    adam_beta2: 0.95
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    optimizer: adamw_torch_fused
    adam_beta2: 0.95
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_adamw_optimizer_params
    """
    name = (unit.text("optimizer") or "").lower()
    if name and not any(kind in name for kind in ("adam", "came", "muon", "lion", "dion")):
        for found in all_used(unit, ("adam_beta1", "adam_beta2", "adam_epsilon")):
            yield Problem(
                found,
                f"{found.written} does nothing with {unit['optimizer'].shown}",
                remove(found, safe=True),
                (unit["optimizer"],),
            )


@rule("AX513", "custom-loss-with-a-fused-one", tools=("axolotl",), harm="crash", causes=("custom-loss-conflict",))
def custom_loss_with_a_fused_one(unit: Unit, job: Job) -> Found:
    """Allow custom-loss-with-a-fused-one.

    ## What it does
    Finds `use_dft` or `use_eaft` with each other, with `rl`, with reward models, or with a fused or chunked loss.

    ## Why is this bad?
    They compute the loss of SFT themselves: "`use_dft` is an SFT-only loss and cannot be combined with: ...".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    use_dft: true
    chunked_cross_entropy: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    use_dft: true
    ```

    ## Versions
    axolotl 0.20 and later.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_custom_loss_conflicts
    """
    custom = all_used(unit, ("use_dft", "use_eaft"))
    if not custom or unit.before("0.20"):
        return
    others = (
        "rl",
        "reward_model",
        "process_reward_model",
        "cut_cross_entropy",
        "liger_fused_linear_cross_entropy",
        "chunked_cross_entropy",
    )
    for found in [*custom[1:], *all_used(unit, others)]:
        yield Problem(found, f"{found.written} does not go with {custom[0].written}", remove(found), (custom[0],))
