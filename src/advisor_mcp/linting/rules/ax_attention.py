"""Axolotl: the choice of an attention backend, and what each of them needs."""

from __future__ import annotations

from advisor_mcp.linting.edits import Fix, add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity, rule
from advisor_mcp.linting.rules._ft import all_used, idle, used
from advisor_mcp.linting.unit import Setting, Unit

LEGACY = {
    "flash_attention": "flash_attention_2",
    "sdp_attention": "sdpa",
    "flex_attention": "flex_attention",
    "xformers_attention": "xformers",
    "sage_attention": "sage",
    "eager_attention": "eager",
}
ALIASES = {"flash": "flash_attention_2", "flex": "flex_attention", "sdp": "sdpa"}
BACKENDS = (
    "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flash_attention_torch", "flex_attention",
    "varlen", "xformers", "sage", "fp8",
)  # fmt: skip
SWITCHES = (
    "xformers_attention",
    "sage_attention",
    "flex_attention",
    "flash_attention",
    "sdp_attention",
    "eager_attention",
)


def backend(unit: Unit) -> tuple[str, Setting] | None:
    """The attention backend and the setting that chose it; None where none is chosen or it is not known."""
    named = used(unit, "attn_implementation")
    if named is not None:
        return str(named.value), named
    return next(((LEGACY[name], found) for name in SWITCHES if (found := used(unit, name))), None)


def chosen_by_nobody(unit: Unit) -> bool:
    """Whether no backend is chosen, as far as anybody can see."""
    return idle(unit, "attn_implementation", *SWITCHES)


def hub_kernel(name: str) -> bool:
    return "/" in name


def with_flash(unit: Unit, packing: Setting) -> Fix:
    """The fix that turns flash attention on, in the version's own words."""
    if unit.before("0.17"):
        off = unit.settings.get("flash_attention")
        return set_value(off, True) if off else add_after(packing, "flash_attention", True)
    off = unit.settings.get("attn_implementation")
    return (
        set_value(off, "flash_attention_2") if off else add_after(packing, "attn_implementation", "flash_attention_2")
    )


@rule(
    "AX202", "two-attention-backends", tools=("axolotl",), harm="crash", causes=("attention-conflict", "flag-conflict")
)
def two_attention_backends(unit: Unit, job: Job) -> Found:
    """Allow two-attention-backends.

    ## What it does
    Finds `attn_implementation` beside one of the older switches (`flash_attention: true` and its like), and several of
    these switches at once.

    ## Why is this bad?
    Axolotl refuses both: "attn_implementation='...' cannot be combined with legacy attention flags", and, before 0.17,
    "Only one of xformers_attention, sdp_attention, ... must be set". Since 0.17 it takes one of several switches by itself.

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    attn_implementation: sdpa
    flash_attention: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    attn_implementation: sdpa
    ```

    ## Versions
    With `attn_implementation`: axolotl 0.17 and later. Several switches: an error from 0.12 to 0.16, a warning since.

    ## References
    - axolotl 0.21.0, utils/schemas/config.py, normalize_attn_implementation
    - axolotl 0.16.1, utils/schemas/validation.py, check_attention_fields
    """
    named, switches = used(unit, "attn_implementation"), all_used(unit, SWITCHES)
    if named and switches and unit.since("0.17"):
        yield Problem(
            switches[0], f"{switches[0].shown} and {named.shown} both choose the attention", remove(*switches), (named,)
        )
    elif len(switches) > 1 and unit.since("0.12"):
        kept = switches[0]
        severity: Severity = "warning" if unit.since("0.17") else "error"
        message = f"{switches[1].shown} and {kept.shown} both choose the attention"
        yield Problem(switches[1], message, remove(*switches[1:], why=f"{kept.written} stays"), (kept,), severity)


@rule(
    "AX203", "unknown-attention-backend", tools=("axolotl",), harm="crash", causes=("unknown-attention", "typo-option")
)
def unknown_attention_backend(unit: Unit, job: Job) -> Found:
    """Allow unknown-attention-backend.

    ## What it does
    Finds an `attn_implementation` that is neither one of Axolotl's names nor a kernel of the hub (`owner/name`).

    ## Why is this bad?
    Short names are refused too: "attn_implementation='flash' is not accepted. Use the canonical name 'flash_attention_2'
    instead."

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    attn_implementation: flash
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    attn_implementation: flash_attention_2
    ```

    ## Versions
    axolotl 0.17 and later.

    ## References
    - axolotl 0.21.0, utils/schemas/config.py, validate_attn_implementation
    """
    named = used(unit, "attn_implementation")
    if named is None or unit.before("0.17") or not isinstance(named.value, str):
        return
    if named.value in BACKENDS or hub_kernel(named.value):
        return
    meant = ALIASES.get(named.value) or LEGACY.get(named.value)
    fix = set_value(named, meant, safe=True) if meant else advise("use one of " + ", ".join(BACKENDS))
    yield Problem(named, f"{named.value!r} is no attention backend of Axolotl", fix)


@rule("AX204", "flash-attention-in-float32", tools=("axolotl",), harm="crash", causes=("fa2-dtype",))
def flash_attention_in_float32(unit: Unit, job: Job) -> Found:
    """Allow flash-attention-in-float32.

    ## What it does
    Finds flash attention where `bf16` and `fp16` are both off, so that the model is in float32.

    ## Why is this bad?
    The kernels exist for 16-bit numbers only: "RuntimeError: FlashAttention only support fp16 and bf16 data type". An empty
    `bf16:` counts as off; a missing one means `auto`.

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    attn_implementation: flash_attention_2
    bf16: false
    fp16: false
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    attn_implementation: flash_attention_2
    bf16: auto
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/config/__init__.py, resolve_dtype
    - unslothai/unsloth#827
    - QwenLM/Qwen3#406
    """
    chosen = backend(unit)
    sixteen = unit.settings.get("bf16")
    if chosen is None or "flash" not in chosen[0] or chosen[0] == "flash_attention_torch" or sixteen is None:
        return
    others = ("fp16", "bfloat16", "float16", "load_in_8bit", "fp8")
    if idle(unit, "bf16") and idle(unit, *others):
        fix = set_value(sixteen, "auto")
        yield Problem(
            sixteen, f"{chosen[1].shown} needs 16-bit numbers, but bf16 and fp16 are both off", fix, (chosen[1],)
        )


@rule(
    "AX206",
    "attention-under-context-parallelism",
    tools=("axolotl",),
    harm="crash",
    causes=("context-parallel-attention",),
)
def context_parallel_attention(unit: Unit, job: Job) -> Found:
    """Allow attention-under-context-parallelism.

    ## What it does
    Checks what `context_parallel_size` (once `sequence_parallel_degree`) above 1 needs: flash attention up to 0.16, anything
    but `eager` since; a micro batch of 1 when packing, up to 0.16; no RL method under DeepSpeed.

    ## Why is this bad?
    The sequence is cut over the GPUs inside the attention kernel: "flash_attention: true must be set with
    context_parallel_size > 1", "`attn_implementation: eager` is not supported".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 1
    context_parallel_size: 4
    attn_implementation: eager
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 1
    context_parallel_size: 4
    attn_implementation: flash_attention_2
    ```

    ## Versions
    As above; `sequence_parallel_degree` is the name up to axolotl 0.11.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_context_parallel_size and check_context_parallel_deepspeed
    - axolotl 0.16.1, utils/schemas/validation.py, check_context_parallel_size
    """
    size = unit.setting("context_parallel_size", "sequence_parallel_degree")
    if size is None or (unit.number(size.name) or 1) <= 1:
        return
    chosen = backend(unit)
    if unit.before("0.17"):
        if (chosen is None and chosen_by_nobody(unit)) or (chosen and chosen[0] != "flash_attention_2"):
            yield Problem(
                size, f"{size.shown} needs flash_attention: true", with_flash(unit, size) if chosen is None else None
            )
        packing, micro = used(unit, "sample_packing"), unit.number("micro_batch_size", 1)
        if packing and micro and micro > 1:
            yield Problem(
                unit["micro_batch_size"],
                f"packing with {size.shown} needs micro_batch_size: 1",
                set_value(unit["micro_batch_size"], 1),
                (size,),
            )
    elif chosen and chosen[0] == "eager":
        yield Problem(
            chosen[1],
            f"{chosen[1].shown} does not work with {size.shown}",
            set_value(chosen[1], "flash_attention_2"),
            (size,),
        )
    method, deepspeed = used(unit, "rl"), used(unit, "deepspeed")
    if method and deepspeed and unit.since("0.20"):
        yield Problem(
            size,
            f"{size.shown} under DeepSpeed works for SFT only, not with {method.shown}",
            advise("use FSDP2"),
            (deepspeed, method),
        )


@rule("AX207", "sage-attention-harm", tools=("axolotl",), harm="nan", severity="warning", causes=("sage-attention",))
def sage_attention_harm(unit: Unit, job: Job) -> Found:
    """Allow sage-attention-harm.

    ## What it does
    Finds SageAttention in a full fine-tune, and SageAttention on rows that are neither packed nor padded to one length.

    ## Why is this bad?
    Axolotl's authors have seen the loss fall to 0 in the first case, and explode in the second.

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    attn_implementation: sage
    sample_packing: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    micro_batch_size: 2
    attn_implementation: sage
    sample_packing: true
    ```

    ## Versions
    axolotl 0.16 and later.

    ## References
    - axolotl 0.21.0, utils/schemas/config.py, check_sageattn_fft and check_sageattn_wo_sample_packing
    """
    chosen = backend(unit)
    if chosen is None or chosen[0] != "sage":
        return
    if idle(unit, "adapter"):
        yield Problem(
            chosen[1],
            "SageAttention in a full fine-tune has been seen to drop the loss to 0",
            set_value(chosen[1], "flash_attention_2"),
        )
    elif idle(unit, "sample_packing", "pad_to_sequence_len"):
        yield Problem(
            chosen[1],
            "SageAttention on rows of many lengths makes the loss explode",
            add_after(chosen[1], "pad_to_sequence_len", True),
        )


@rule("AX210", "softmax-scaling-without-flex", tools=("axolotl",), harm="crash", causes=("scaling-softmax",))
def softmax_scaling_without_flex(unit: Unit, job: Job) -> Found:
    """Allow softmax-scaling-without-flex.

    ## What it does
    Finds `scaling_softmax: true` with any attention but flex attention.

    ## Why is this bad?
    Only that kernel can scale scores: "scaling_softmax requires flex attention".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    attn_implementation: sdpa
    scaling_softmax: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    attn_implementation: flex_attention
    scaling_softmax: true
    ```

    ## Versions
    axolotl 0.17 and later.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_scaling_softmax_requires_flex
    """
    scaling, chosen = used(unit, "scaling_softmax"), backend(unit)
    if scaling and unit.since("0.17") and (chosen[0] != "flex_attention" if chosen else chosen_by_nobody(unit)):
        fix = (
            set_value(chosen[1], "flex_attention")
            if chosen and chosen[1].name == "attn_implementation"
            else remove(scaling)
        )
        yield Problem(scaling, "scaling_softmax needs flex attention", fix, (chosen[1],) if chosen else ())
