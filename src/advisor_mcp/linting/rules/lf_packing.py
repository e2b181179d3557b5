"""LLaMA-Factory: packing, and what is cut off."""

from __future__ import annotations

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import idle, used
from advisor_mcp.linting.rules._lf_names import MULTIMODAL, PLAIN, RANKED, TAGGED
from advisor_mcp.linting.rules.lf_data import names
from advisor_mcp.linting.rules.lf_stage import stage, trains
from advisor_mcp.linting.unit import Unit, as_number

CUTOFF = 2048  # the default of cutoff_len


@rule(
    "LF106",
    "packing-without-borders",
    tools=("llamafactory",),
    harm="wrong_result",
    severity="warning",
    causes=("packing-contamination",),
)
def packing_without_borders(unit: Unit, job: Job) -> Found:
    """Allow packing-without-borders.

    ## What it does
    Finds `packing: true` in stage `sft` without `neat_packing`.

    ## Why is this bad?
    Packed examples share one causal mask, so every example sees those before it in its row. Nothing fails; evaluation is
    worse than without packing.

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2-7B-Instruct
    stage: sft
    do_train: true
    dataset: identity
    template: qwen
    packing: true
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2-7B-Instruct
    stage: sft
    do_train: true
    dataset: identity
    template: qwen
    packing: true
    neat_packing: true
    ```

    ## Versions
    All. In stage `pt` packing is what is meant.

    ## References
    - hiyouga/LlamaFactory#4224
    - llamafactory 0.9.5, data/collator.py
    """
    packing = used(unit, "packing")
    if packing and stage(unit) == "sft" and idle(unit, "neat_packing"):
        off = unit.settings.get("neat_packing")
        fix = set_value(off, True) if off else add_after(packing, "neat_packing", True)
        yield Problem(
            packing, "packing without neat_packing lets packed examples see each other", fix, (off,) if off else ()
        )


@rule("LF107", "neat-packing-in-batches", tools=("llamafactory",), harm="crash", causes=("neat-packing-batch",))
def neat_packing_in_batches(unit: Unit, job: Job) -> Found:
    """Allow neat-packing-in-batches.

    ## What it does
    Finds `neat_packing` with `flash_attn: fa2` and a `per_device_train_batch_size` above 1.

    ## Why is this bad?
    The borders are handed to the kernel as positions of one row: "AssertionError: bsz should be 1 for neat packing". A
    longer `cutoff_len` does the same work.

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    dataset: identity
    template: qwen
    neat_packing: true
    flash_attn: fa2
    per_device_train_batch_size: 4
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    dataset: identity
    template: qwen
    neat_packing: true
    flash_attn: fa2
    per_device_train_batch_size: 1
    ```

    ## Versions
    llamafactory 0.9.5 and later. The default batch size is 8.

    ## References
    - llamafactory 0.9.5, data/collator.py, SFTDataCollatorWith4DAttentionMask
    - hiyouga/LlamaFactory#10317
    """
    neat = used(unit, "neat_packing")
    if neat is None or unit.text("flash_attn") != "fa2" or unit.before("0.9.5") or not trains(unit):
        return
    size = unit.whole("per_device_train_batch_size", 8)
    if size and size > 1 and not unit.open:
        written = unit.settings.get("per_device_train_batch_size")
        fix = (
            set_value(written, 1, why="with a longer cutoff_len")
            if written
            else add_after(neat, "per_device_train_batch_size", 1)
        )
        yield Problem(
            written or neat,
            f"neat_packing with fa2 takes one row at a time, not {size}",
            fix,
            (neat, unit["flash_attn"]),
        )


@rule("LF108", "neat-packing-of-other-models", tools=("llamafactory",), harm="crash", causes=("neat-packing-model",))
def neat_packing_of_other_models(unit: Unit, job: Job) -> Found:
    """Allow neat-packing-of-other-models.

    ## What it does
    Finds `neat_packing` where it does not work: Gemma 4 and gpt-oss with flash attention, and transformers 4.53 or newer in
    llamafactory 0.9.4.

    ## Why is this bad?
    "Neat packing is not supported for gemma4, gpt_oss models for now.", "Neat packing is incompatible with
    transformers>=4.53.0."

    ## Example
    ```yaml train.yaml
    model_name_or_path: openai/gpt-oss-20b
    stage: sft
    do_train: true
    dataset: identity
    template: gpt_oss
    neat_packing: true
    flash_attn: fa2
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: openai/gpt-oss-20b
    stage: sft
    do_train: true
    dataset: identity
    template: gpt_oss
    flash_attn: fa2
    ```

    ## Versions
    Models: llamafactory 0.9.5 and later. transformers: 0.9.4.

    ## References
    - llamafactory 0.9.5, data/collator.py
    - llamafactory 0.9.4, hparams/parser.py, get_train_args
    - hiyouga/LlamaFactory#8919
    """
    neat, template = used(unit, "neat_packing"), unit.text("template")
    if neat is None:
        return
    if unit.since("0.9.5") and unit.text("flash_attn") == "fa2" and template in ("gemma4", "gemma4n", "gpt_oss"):
        yield Problem(neat, f"neat_packing does not work for template: {template}", remove(neat), (unit["template"],))
    library = unit.package("transformers")
    if library and library >= (4, 53) and unit.since("0.9.4") and unit.before("0.9.5"):
        yield Problem(
            neat,
            "neat_packing does not work with this transformers in llamafactory 0.9.4",
            remove(neat, why="or install transformers below 4.53"),
        )


@rule(
    "LF109",
    "images-cut-off",
    tools=("llamafactory",),
    harm="crash",
    severity="warning",
    causes=("multimodal-cutoff", "silent-truncation"),
)
def images_cut_off(unit: Unit, job: Job) -> Found:
    """Allow images-cut-off.

    ## What it does
    Finds a template with images, videos or sound and a `cutoff_len` of 1024 or less, or one that is smaller than the tokens
    of a single image of `image_max_pixels` (28 x 28 pixels each in Qwen2-VL and Qwen2.5-VL).

    ## Why is this bad?
    The tokens of an image are cut off while the image itself is not: "ValueError: Image features and image tokens do not
    match". It fails at the first long example, which may be hours into the run.

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2-VL-7B-Instruct
    stage: sft
    do_train: true
    dataset: mllm_demo
    template: qwen2_vl
    cutoff_len: 1024
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2-VL-7B-Instruct
    stage: sft
    do_train: true
    dataset: mllm_demo
    template: qwen2_vl
    cutoff_len: 4096
    ```

    ## Versions
    All.

    ## References
    - hiyouga/LlamaFactory#6131
    - hiyouga/LlamaFactory#5964
    - hiyouga/LlamaFactory#5968
    - hiyouga/LlamaFactory#8226
    """
    template, cutoff = unit.text("template"), unit.whole("cutoff_len", CUTOFF)
    if template not in MULTIMODAL or not cutoff or not trains(unit) or _text_only(unit):
        return
    where = unit.settings.get("cutoff_len") or unit["template"]
    pixels = as_number(unit.value("image_max_pixels"))
    tokens = int(pixels / (28 * 28)) if pixels and template == "qwen2_vl" else 0
    fix = set_value(unit["cutoff_len"], 4096) if "cutoff_len" in unit else add_after(where, "cutoff_len", 4096)
    if cutoff <= 1024:
        yield Problem(where, f"cutoff_len {cutoff} cuts images in two", fix, (unit["template"],))
    elif tokens >= cutoff:
        room = advise(f"raise cutoff_len above {tokens} or lower image_max_pixels")
        yield Problem(
            where,
            f"an image of image_max_pixels has up to {tokens} tokens, but cutoff_len is {cutoff}",
            room,
            (unit["image_max_pixels"],),
        )


def _text_only(unit: Unit) -> bool:
    """Whether all data sets are known to hold text alone."""
    found = names(unit, "dataset")
    media = {
        "mllm_demo",
        "mllm_audio_demo",
        "mllm_video_demo",
        "mllm_video_audio_demo",
        "mllm_pt_demo",
        "pokemon_cap",
        "rlhf_v",
        "vlfeedback",
        "rlaif_v",
    }
    plain = (PLAIN | RANKED | TAGGED) - media
    return bool(found) and all(name in plain and "llava" not in name for name in found or ())
