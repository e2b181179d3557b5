"""Axolotl: preference tuning and reinforcement learning."""

from __future__ import annotations

from math import gcd

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.rules._ft import all_used, idle, used
from advisor_mcp.linting.unit import Setting, Unit


@rule("AX401", "packed-preferences", tools=("axolotl",), harm="crash", causes=("rl-packing",))
def packed_preferences(unit: Unit, job: Job) -> Found:
    """Allow packed-preferences.

    ## What it does
    Finds `sample_packing: true` (for `rl: kto` also `eval_sample_packing`) beside `rl`.

    ## Why is this bad?
    A preference is a pair of whole answers, which cannot be packed: "`sample_packing: true` does not work with RLHF
    training".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    rl: dpo
    flash_attention: true
    sample_packing: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    rl: dpo
    flash_attention: true
    sample_packing: false
    ```

    ## Versions
    All.

    ## References
    - axolotl-ai-cloud/axolotl#1174
    - axolotl 0.21.0, utils/schemas/validation.py, check_sample_packing_w_rl and check_kto_config
    """
    method = used(unit, "rl")
    names = ("sample_packing", "eval_sample_packing") if method and method.value == "kto" else ("sample_packing",)
    for found in all_used(unit, names)[:1] if method else ():
        yield Problem(
            found, f"{found.shown} does not work with rl: {unit.text('rl')}", set_value(found, False), (unit["rl"],)
        )


@rule("AX402", "kto-drops-its-columns", tools=("axolotl",), harm="crash", causes=("kto-columns",))
def kto_drops_its_columns(unit: Unit, job: Job) -> Found:
    """Allow kto-drops-its-columns.

    ## What it does
    Finds `rl: kto` without `remove_unused_columns: false`.

    ## Why is this bad?
    The trainer would throw away the columns that KTO's collator reads: "Set `remove_unused_columns: False` when using kto".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    rl: kto
    micro_batch_size: 2
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    rl: kto
    remove_unused_columns: false
    micro_batch_size: 2
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_kto_config
    """
    if unit.text("rl") != "kto" or unit.open:
        return
    held = unit.settings.get("remove_unused_columns")
    if held is None or (held.known and held.value is not False):
        fix = set_value(held, False) if held else add_after(unit["rl"], "remove_unused_columns", False)
        yield Problem(
            held or unit["rl"], "rl: kto needs remove_unused_columns: false", fix, (unit["rl"],) if held else ()
        )


@rule("AX403", "uneven-generations", tools=("axolotl",), harm="crash", causes=("grpo-generations",))
def uneven_generations(unit: Unit, job: Job) -> Found:
    """Allow uneven-generations.

    ## What it does
    Checks for `rl: grpo` that `trl.num_generations` is at least 2 and divides the batch of a generation step:
    `trl.generation_batch_size`, or micro batch x accumulation x GPUs.

    ## Why is this bad?
    Every prompt is answered `num_generations` times in one step: "GRPO: generation batch size must be divisible by
    `trl.num_generations`". With one answer all advantages are zero and nothing is learnt.

    ## Example
    ```yaml axolotl.yaml world_size=1
    base_model: Qwen/Qwen2.5-0.5B
    rl: grpo
    micro_batch_size: 2
    gradient_accumulation_steps: 3
    trl:
      num_generations: 4
    ```

    ## Use instead
    ```yaml axolotl.yaml world_size=1
    base_model: Qwen/Qwen2.5-0.5B
    rl: grpo
    micro_batch_size: 2
    gradient_accumulation_steps: 4
    trl:
      num_generations: 4
    ```

    ## Versions
    Checked by Axolotl since 0.17, by TRL when training starts before.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_grpo_batch_size_divisibility
    """
    answers = unit.whole("trl.num_generations")
    if unit.text("rl") != "grpo" or not answers:
        return
    setting = unit["trl.num_generations"]
    if answers < 2:
        yield Problem(
            setting,
            f"num_generations is {answers}; GRPO compares at least 2 answers of a prompt",
            set_value(setting, 8),
        )
        return
    explicit = unit.whole("trl.generation_batch_size")
    if explicit:
        if explicit % answers:
            also: tuple[Setting, ...] = (unit["trl.generation_batch_size"],)
            yield Problem(
                setting, f"generation_batch_size {explicit} is no multiple of num_generations {answers}", None, also
            )
        return
    micro, steps = unit.whole("micro_batch_size", 1), unit.whole("gradient_accumulation_steps", 1)
    if not micro or not steps or micro * steps % answers == 0:
        return
    world = job.world_size(unit)
    if world is None:
        yield Skipped("the world size")
    elif micro * steps * world % answers:
        wanted = answers // gcd(answers, micro * world)
        also = tuple(unit[name] for name in ("micro_batch_size", "gradient_accumulation_steps") if name in unit)
        said = f"{micro} x {steps} x {world} GPUs = {micro * steps * world}"
        fix = advise(f"set gradient_accumulation_steps to a multiple of {wanted}")
        yield Problem(setting, f"num_generations {answers} does not divide the batch of {said}", fix, also)


@rule("AX404", "two-betas", tools=("axolotl",), harm="crash", causes=("beta-mismatch",))
def two_betas(unit: Unit, job: Job) -> Found:
    """Allow two-betas.

    ## What it does
    Finds a `beta` and a `trl.beta` that differ.

    ## Why is this bad?
    It is the same number: "beta and trl.beta must match or one must be removed".

    ## Example
    ```yaml axolotl.yaml
    base_model: Qwen/Qwen2.5-0.5B
    rl: grpo
    beta: 0.1
    trl:
      beta: 0.001
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: Qwen/Qwen2.5-0.5B
    rl: grpo
    trl:
      beta: 0.001
    ```

    ## Versions
    axolotl 0.8 and later.

    ## References
    - axolotl 0.21.0, utils/schemas/config.py, check_beta_and_trl_beta_match
    """
    first, second = used(unit, "beta"), used(unit, "trl.beta")
    if first and second and unit.number("beta") != unit.number("trl.beta"):
        yield Problem(first, f"{first.shown} differs from trl.{second.shown}", remove(first), (second,))


@rule("AX405", "loss-list-of-another-length", tools=("axolotl",), harm="crash", causes=("dpo-losses",))
def loss_list_of_another_length(unit: Unit, job: Job) -> Found:
    """Allow loss-list-of-another-length.

    ## What it does
    Checks that `dpo_loss_weights` has as many numbers as `dpo_loss_type` has losses, and that both stand under `rl: dpo`.

    ## Why is this bad?
    "`dpo_loss_type` and `dpo_loss_weights` must be the same length", "`dpo_loss_type` and `dpo_loss_weights` are for DPO
    only".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    rl: dpo
    micro_batch_size: 2
    dpo_loss_type: [sigmoid, sft]
    dpo_loss_weights: [1.0]
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    rl: dpo
    micro_batch_size: 2
    dpo_loss_type: [sigmoid, sft]
    dpo_loss_weights: [1.0, 0.5]
    ```

    ## Versions
    axolotl 0.17 and later.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_dpo
    """
    kinds, weights = used(unit, "dpo_loss_type"), used(unit, "dpo_loss_weights")
    if unit.before("0.17") or not (kinds or weights):
        return
    if unit.text("rl") != "dpo":
        if "rl" not in unit or unit["rl"].known:
            for found in (kinds, weights):
                if found:
                    yield Problem(
                        found,
                        f"{found.written} is for rl: dpo only",
                        remove(found),
                        (unit["rl"],) if "rl" in unit else (),
                    )
        return
    if weights and idle(unit, "dpo_loss_type"):
        yield Problem(weights, "dpo_loss_weights needs dpo_loss_type", remove(weights))
    elif (
        kinds
        and weights
        and isinstance(kinds.value, list)
        and isinstance(weights.value, list)
        and len(kinds.value) != len(weights.value)
    ):
        yield Problem(weights, f"{len(weights.value)} weights for {len(kinds.value)} losses", None, (kinds,))


@rule("AX406", "simpo-warmup-ratio", tools=("axolotl",), harm="crash", causes=("simpo-warmup",))
def simpo_warmup_ratio(unit: Unit, job: Job) -> Found:
    """Allow simpo-warmup-ratio.

    ## What it does
    Finds `warmup_ratio` with `rl: simpo`.

    ## Why is this bad?
    "warmup_ratio is not supported with the simpo trainer. Please use `warmup_steps` instead".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    rl: simpo
    micro_batch_size: 2
    warmup_ratio: 0.1
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    rl: simpo
    micro_batch_size: 2
    warmup_steps: 20
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_simpo_warmup
    """
    ratio = used(unit, "warmup_ratio")
    if ratio and unit.text("rl") == "simpo":
        yield Problem(
            ratio, "warmup_ratio does not work with rl: simpo", remove(ratio, why="set warmup_steps"), (unit["rl"],)
        )


@rule("AX407", "vllm-on-the-training-gpu", tools=("axolotl",), harm="crash", causes=("grpo-colocate",))
def vllm_on_the_training_gpu(unit: Unit, job: Job) -> Found:
    """Allow vllm-on-the-training-gpu.

    ## What it does
    Finds what `trl.vllm_mode: colocate` does not go with: context parallelism, `trl.vllm_lora_sync`, and an adapter with
    `trl.async_prefetch` or `trl.use_data_producer`. Also Liger's GRPO loss with context parallelism.

    ## Why is this bad?
    They need vLLM as a server of its own: "`vllm_lora_sync: true` requires `vllm_mode: server`", "GRPO + SP + Liger not
    currently supported".

    ## Example
    ```yaml axolotl.yaml
    base_model: Qwen/Qwen2.5-0.5B
    rl: grpo
    adapter: lora
    trl:
      use_vllm: true
      vllm_mode: colocate
      vllm_lora_sync: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: Qwen/Qwen2.5-0.5B
    rl: grpo
    adapter: lora
    trl:
      use_vllm: true
      vllm_mode: server
      vllm_lora_sync: true
    ```

    ## Versions
    axolotl 0.20 and later; Liger's loss since 0.9.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_vllm_colocate_compat and check_grpo_liger_context_parallel
    """
    parallel = unit.setting("context_parallel_size", "sequence_parallel_degree")
    several = parallel if parallel and (unit.number(parallel.name) or 1) > 1 else None
    liger = used(unit, "trl.use_liger_loss")
    if liger and several and unit.text("rl") == "grpo":
        yield Problem(
            liger, f"Liger's GRPO loss does not work with {several.shown}", set_value(liger, False), (several,)
        )
    mode = used(unit, "trl.vllm_mode")
    if not used(unit, "trl.use_vllm") or mode is None or mode.value != "colocate" or unit.before("0.20"):
        return
    fix = set_value(mode, "server")
    if several:
        yield Problem(mode, f"vllm_mode: colocate does not work with {several.shown}", fix, (several,))
    elif sync := used(unit, "trl.vllm_lora_sync"):
        yield Problem(sync, "vllm_lora_sync needs vllm_mode: server", remove(sync), (mode,))
    elif used(unit, "adapter") and (ahead := used(unit, "trl.async_prefetch", "trl.use_data_producer")):
        yield Problem(
            mode,
            f"vllm_mode: colocate with an adapter does not work with {ahead.written}",
            fix,
            (ahead, unit["adapter"]),
        )


@rule(
    "AX408",
    "reentrant-qlora-on-several-gpus",
    tools=("axolotl",),
    harm="crash",
    causes=("gc-reentrant-ddp", "rl-qlora-reentrant"),
)
def reentrant_qlora_on_several_gpus(unit: Unit, job: Job) -> Found:
    """Allow reentrant-qlora-on-several-gpus.

    ## What it does
    Finds RL on a QLoRA base with `use_reentrant: true` on several GPUs.

    ## Why is this bad?
    It is broken in TRL: "The `use_reentrant: True` implementation of gradient checkpointing is not supported for
    distributed RL training with QLoRA".

    ## Example
    ```yaml axolotl.yaml world_size=2
    base_model: NousResearch/Llama-3.2-1B
    rl: dpo
    adapter: qlora
    load_in_4bit: true
    gradient_checkpointing: true
    gradient_checkpointing_kwargs:
      use_reentrant: true
    ```

    ## Use instead
    ```yaml axolotl.yaml world_size=2
    base_model: NousResearch/Llama-3.2-1B
    rl: dpo
    adapter: qlora
    load_in_4bit: true
    gradient_checkpointing: true
    gradient_checkpointing_kwargs:
      use_reentrant: false
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_rl_config_gradient_checkpointing
    """
    reentrant = used(unit, "gradient_checkpointing_kwargs.use_reentrant")
    needed = ("rl", "gradient_checkpointing", "load_in_4bit")
    if reentrant is None or unit.text("adapter") != "qlora" or len(all_used(unit, needed)) < len(needed):
        return
    world = job.world_size(unit)
    if world is None:
        yield Skipped("the world size")
    elif world > 1:
        yield Problem(
            reentrant,
            "use_reentrant: true fails for RL with QLoRA on several GPUs",
            set_value(reentrant, False),
            (unit["rl"],),
        )


@rule(
    "AX409", "method-without-its-section", tools=("axolotl",), harm="crash", causes=("ebft-section", "gdpo-aggregation")
)
def method_without_its_section(unit: Unit, job: Job) -> Found:
    """Allow method-without-its-section.

    ## What it does
    Finds `rl: ebft` without an `ebft` section, and `rl: gdpo` with GRPO's way of adding rewards.

    ## Why is this bad?
    "`ebft` config section is required when `rl: ebft` is set", "`multi_objective_aggregation` value set as
    `sum_then_normalize` => GRPO, but GDPO was selected".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    rl: gdpo
    trl:
      multi_objective_aggregation: sum_then_normalize
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    rl: gdpo
    trl:
      multi_objective_aggregation: normalize_then_sum
    ```

    ## Versions
    axolotl 0.16 and later.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_gdpo and check_ebft_config_required
    """
    if unit.text("rl") == "ebft" and idle(unit, "ebft"):
        yield Problem(unit["rl"], "rl: ebft needs a section ebft", advise("add ebft with mode: structured or strided"))
    way = used(unit, "trl.multi_objective_aggregation")
    if unit.text("rl") == "gdpo" and way and way.value == "sum_then_normalize":
        yield Problem(way, f"{way.shown} is GRPO, not rl: gdpo", set_value(way, "normalize_then_sum"), (unit["rl"],))
