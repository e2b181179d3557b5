"""Axolotl: packed samples and the attention that keeps them apart."""

from __future__ import annotations

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.rules._ft import all_used, used
from advisor_mcp.linting.rules.ax_attention import SWITCHES, backend, chosen_by_nobody, hub_kernel, with_flash
from advisor_mcp.linting.unit import Unit

PACKING = {
    "flash_attention_2",
    "flash_attention_3",
    "flash_attention_4",
    "flash_attention_torch",
    "flex_attention",
    "xformers",
    "sage",
}


@rule(
    "AX201",
    "packing-without-masking",
    tools=("axolotl",),
    harm="wrong_result",
    severity="warning",
    causes=("packing-contamination",),
)
def packing_without_masking(unit: Unit, job: Job) -> Found:
    """Allow packing-without-masking.

    ## What it does
    Finds `sample_packing: true` without an attention backend that keeps the samples of a row apart.

    ## Why is this bad?
    Every token then sees the samples packed before its own. Training runs and the loss even looks fine; evaluation is
    worse. Axolotl only logs "`sample_packing` without an attention backend does not handle cross-sample decontamination".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    sequence_len: 2048
    sample_packing: true
    flash_attention: false
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    sequence_len: 2048
    sample_packing: true
    attn_implementation: flash_attention_2
    ```

    ## Versions
    All. `sdpa` and `eager` mask packed samples since axolotl 0.18; before, `sdp_attention` counted too.

    ## References
    - axolotl-ai-cloud/axolotl#1230
    - axolotl 0.21.0, utils/schemas/validation.py, check_sample_packing_without_attention
    """
    packing = used(unit, "sample_packing")
    if packing is None or used(unit, "diffusion_lm", "gemma4_hybrid_attn_impl"):
        return
    chosen = backend(unit)
    if chosen is None:
        if chosen_by_nobody(unit):
            off = next((unit[name] for name in SWITCHES if name in unit), None)
            yield Problem(
                packing,
                "sample_packing without an attention backend lets packed samples see each other",
                with_flash(unit, packing),
                (off,) if off else (),
            )
        return
    name, setting = chosen
    base = name.split(":")[0].split("@")[0].strip()
    apart = base in PACKING or hub_kernel(base) or base == "sdpa" or (base == "eager" and unit.since("0.18"))
    if not apart:
        yield Problem(
            packing,
            f"sample_packing with {setting.shown} lets packed samples see each other",
            set_value(packing, False),
            (setting,),
        )


@rule("AX205", "flattening-without-varlen", tools=("axolotl",), harm="crash", causes=("batch-flattening",))
def flattening_without_varlen(unit: Unit, job: Job) -> Found:
    """Allow flattening-without-varlen.

    ## What it does
    Finds `batch_flattening: true` without flash attention, or together with `sample_packing`.

    ## Why is this bad?
    A flattened batch is one row with borders, which needs attention that knows borders: "batch_flattening requires a
    varlen-capable attention backend", "batch_flattening not compatible with sample_packing".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 4
    batch_flattening: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 4
    flash_attention: true
    batch_flattening: true
    ```

    ## Versions
    axolotl 0.7 and later. `batch_flattening: auto` turns it off by itself.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_batch_flattening_fa
    """
    flat = used(unit, "batch_flattening")
    if flat is None or flat.value == "auto":
        return
    chosen = backend(unit)
    if (chosen is None and chosen_by_nobody(unit)) or (chosen and chosen[0] in ("sdpa", "eager", "fp8")):
        yield Problem(
            flat,
            "batch_flattening needs flash attention",
            with_flash(unit, flat) if chosen is None else set_value(flat, "auto"),
        )
    elif packing := used(unit, "sample_packing"):
        yield Problem(
            flat, "batch_flattening and sample_packing both make one row of many samples", remove(flat), (packing,)
        )


@rule(
    "AX208",
    "packed-sdpa-before-hopper",
    tools=("axolotl",),
    harm="nan",
    severity="warning",
    causes=("packing-sdpa-bf16",),
)
def packed_sdpa_before_hopper(unit: Unit, job: Job) -> Found:
    """Allow packed-sdpa-before-hopper.

    ## What it does
    Finds `sample_packing` with PyTorch's SDPA in bf16 on a GPU older than Hopper.

    ## Why is this bad?
    That combination is not supported by PyTorch and can give a loss of 0.0: "sample_packing & torch sdpa with bf16 is
    unsupported may results in 0.0 loss".

    ## Example
    ```yaml axolotl.yaml gpu=a100-sxm-80gb
    base_model: NousResearch/Llama-3.2-1B
    sample_packing: true
    attn_implementation: sdpa
    bf16: true
    ```

    ## Use instead
    ```yaml axolotl.yaml gpu=a100-sxm-80gb
    base_model: NousResearch/Llama-3.2-1B
    sample_packing: true
    attn_implementation: flash_attention_2
    bf16: true
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/config.py, check_sample_packing_w_sdpa_bf16
    """
    chosen, packing = backend(unit), used(unit, "sample_packing")
    if chosen is None or chosen[0] != "sdpa" or not packing or not used(unit, "bf16", "bfloat16"):
        return
    if job.gpu is None:
        yield Skipped("the GPU")
    elif job.gpu.below(9, 0):
        fix = (
            set_value(chosen[1], "flash_attention_2")
            if chosen[1].name == "attn_implementation"
            else advise("use flash attention")
        )
        yield Problem(
            chosen[1], f"packed samples with SDPA in bf16 can give a loss of 0.0 on {job.gpu.name}", fix, (packing,)
        )


@rule("AX209", "packing-with-unpacked-attention", tools=("axolotl",), harm="crash", causes=("packing-attention",))
def packing_with_unpacked_attention(unit: Unit, job: Job) -> Found:
    """Allow packing-with-unpacked-attention.

    ## What it does
    Finds `sample_packing` with attention that refuses it: shifted-sparse attention, and xFormers in old releases.

    ## Why is this bad?
    "shifted-sparse attention does not currently support sample packing", "sample_packing not compatible with
    xformers_attention. Use flash_attention".

    ## Example
    ```yaml axolotl.yaml axolotl=0.16.1
    base_model: NousResearch/Llama-3.2-1B
    sample_packing: true
    flash_attention: true
    s2_attention: true
    ```

    ## Use instead
    ```yaml axolotl.yaml axolotl=0.16.1
    base_model: NousResearch/Llama-3.2-1B
    sample_packing: true
    flash_attention: true
    ```

    ## Versions
    `s2_attention`: up to axolotl 0.16, which was the last to have it. `xformers_attention`: up to 0.8.

    ## References
    - axolotl 0.16.1, utils/schemas/validation.py, check_sample_packing_with_s2attn
    - axolotl 0.8.0, utils/schemas/config.py
    """
    packing = used(unit, "sample_packing")
    late = (("s2_attention",) if unit.before("0.17") else ()) + (("xformers_attention",) if unit.before("0.9") else ())
    for found in all_used(unit, late) if packing else ():
        yield Problem(
            found, f"{found.shown} does not work on packed samples", remove(found), (packing,) if packing else ()
        )


@rule("AX211", "unpadded-packing", tools=("axolotl",), harm="slow", severity="info", causes=("packing-padding",))
def unpadded_packing(unit: Unit, job: Job) -> Found:
    """Allow unpadded-packing.

    ## What it does
    Finds `sample_packing: true` with `pad_to_sequence_len: false`.

    ## Why is this bad?
    Rows of many lengths make PyTorch's memory pool grow from step to step; Axolotl's authors recommend padding.

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    flash_attention: true
    sample_packing: true
    pad_to_sequence_len: false
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    flash_attention: true
    sample_packing: true
    pad_to_sequence_len: true
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, hint_sample_packing_padding
    """
    padding = unit.settings.get("pad_to_sequence_len")
    if used(unit, "sample_packing") and padding and padding.value is False:
        yield Problem(
            padding, "packed rows should all have the same length", set_value(padding, True), (unit["sample_packing"],)
        )
