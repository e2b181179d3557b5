"""LLaMA-Factory: data sets, masks, mixing and streaming."""

from __future__ import annotations

import json

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity, rule
from advisor_mcp.linting.rules._ft import used
from advisor_mcp.linting.rules._lf_names import PLAIN, RANKED, TAGGED
from advisor_mcp.linting.rules.lf_stage import beside, stage
from advisor_mcp.linting.unit import Unit


def names(unit: Unit, option: str) -> list[str] | None:
    """The data sets that an option lists, or None where they are not known."""
    value = unit.value(option)
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [str(part) for part in value] if isinstance(value, list) else None


@rule("LF101", "prompt-and-history", tools=("llamafactory",), harm="crash", causes=("mask-conflict",))
def prompt_and_history(unit: Unit, job: Job) -> Found:
    """Allow prompt-and-history.

    ## What it does
    Finds `mask_history` and `train_on_prompt` together.

    ## Why is this bad?
    The first leaves all but the last answer out of the loss, the second puts everything in: "`mask_history` is incompatible
    with `train_on_prompt`."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    dataset: identity
    template: qwen
    mask_history: true
    train_on_prompt: true
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    dataset: identity
    template: qwen
    mask_history: true
    ```

    ## Versions
    All.

    ## References
    - hiyouga/LlamaFactory#5115
    - llamafactory 0.9.5, hparams/data_args.py
    """
    history, prompt = used(unit, "mask_history"), used(unit, "train_on_prompt")
    if history and prompt and stage(unit) == "sft":
        yield Problem(prompt, "train_on_prompt and mask_history contradict each other", remove(prompt), (history,))


@rule("LF102", "probabilities-that-do-not-fit", tools=("llamafactory",), harm="crash", causes=("interleave-probs",))
def probabilities_that_do_not_fit(unit: Unit, job: Job) -> Found:
    """Allow probabilities-that-do-not-fit.

    ## What it does
    Checks that `interleave_probs` has one number for each `dataset` (and `eval_dataset`), and that `mix_strategy` is not
    `concat`.

    ## Why is this bad?
    "The length of dataset and interleave probs should be identical.", "`interleave_probs` is only valid for interleaved
    mixing."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    dataset: identity,alpaca_en_demo
    template: qwen
    mix_strategy: interleave_under
    interleave_probs: 0.5,0.3,0.2
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    dataset: identity,alpaca_en_demo
    template: qwen
    mix_strategy: interleave_under
    interleave_probs: 0.5,0.5
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, hparams/data_args.py
    """
    probabilities = used(unit, "interleave_probs")
    if probabilities is None:
        return
    mixing = unit.text("mix_strategy", "concat")
    if mixing == "concat":
        written = unit.settings.get("mix_strategy")
        fix = (
            set_value(written, "interleave_under")
            if written
            else add_after(probabilities, "mix_strategy", "interleave_under")
        )
        yield Problem(
            probabilities, "interleave_probs needs an interleaving mix_strategy", fix, (written,) if written else ()
        )
        return
    count = len(unit.items("interleave_probs") or [])
    for option in ("dataset", "eval_dataset"):
        found = names(unit, option)
        if found and count and len(found) != count:
            yield Problem(
                probabilities, f"{count} probabilities for {len(found)} sets in {option}", None, (unit[option],)
            )


@rule(
    "LF103",
    "stream-with-a-whole-set",
    tools=("llamafactory",),
    harm="crash",
    causes=("streaming-max-steps", "streaming-options"),
)
def stream_with_a_whole_set(unit: Unit, job: Job) -> Found:
    """Allow stream-with-a-whole-set.

    ## What it does
    Finds `streaming: true` without `max_steps`, with `max_samples`, with a `val_size` that is a share, or while saving to
    `tokenized_path`.

    ## Why is this bad?
    A stream has no length to take a share of: "Please specify `max_steps` in streaming mode.", "Streaming mode should have
    an integer val size.", "`max_samples` is incompatible with `streaming`.", "Turn off `streaming` when saving dataset to
    disk."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: pt
    do_train: true
    dataset: c4_demo
    streaming: true
    num_train_epochs: 1.0
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: pt
    do_train: true
    dataset: c4_demo
    streaming: true
    max_steps: 10000
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, hparams/parser.py, hparams/data_args.py and data/loader.py
    """
    stream = used(unit, "streaming")
    if stream is None:
        return
    steps = unit.number("max_steps", -1)
    if steps is not None and steps <= 0 and not unit.open and used(unit, "stage", "do_train"):
        yield Problem(stream, "streaming needs max_steps", advise("set max_steps"), beside(unit, "max_steps"))
    if samples := used(unit, "max_samples"):
        yield Problem(samples, "max_samples does not work with streaming", remove(samples), (stream,))
    share = unit.number("val_size")
    if share and 0 < share < 1:
        yield Problem(
            unit["val_size"],
            f"val_size {share} is a share, which a stream has not; give a number of examples",
            None,
            (stream,),
        )


@rule("LF104", "undefined-dataset", tools=("llamafactory",), harm="crash", causes=("dataset-missing",))
def undefined_dataset(unit: Unit, job: Job) -> Found:
    """Allow undefined-dataset.

    ## What it does
    Checks that every name in `dataset` and `eval_dataset` is declared in dataset_info.json: in the one that is linted
    along, else, as a hint, in the one that LLaMA-Factory ships.

    ## Why is this bad?
    Data sets are called by the names of that file, not by a path: "ValueError: Undefined dataset my_data in
    dataset_info.json."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    dataset: my_data
    template: qwen
    ```
    ```json data/dataset_info.json
    {"identity": {"file_name": "identity.json"}}
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    dataset: my_data
    template: qwen
    ```
    ```json data/dataset_info.json
    {"my_data": {"file_name": "my_data.json"}}
    ```

    ## Versions
    All. An information only, where no dataset_info.json is at hand.

    ## References
    - llamafactory 0.9.5, data/parser.py, get_dataset_list
    """
    if unit.text("dataset_dir", "data") in ("ONLINE", None) or (unit.text("dataset_dir") or "").startswith("REMOTE:"):
        return
    declared = _declared(job)
    if declared is None and "dataset_dir" in unit:
        return
    severity: Severity | None = None if declared is not None else "info"
    known = declared if declared is not None else PLAIN | RANKED | TAGGED
    for option in ("dataset", "eval_dataset"):
        missing = [name for name in names(unit, option) or [] if name not in known]
        if missing:
            where = "dataset_info.json" if declared is not None else "the dataset_info.json that LLaMA-Factory ships"
            message = f"{', '.join(missing)} is not declared in {where}"
            yield Problem(unit[option], message, advise("declare it in data/dataset_info.json"), (), severity)


def _declared(job: Job) -> frozenset[str] | None:
    """The names in the dataset_info.json that is linted along."""
    for name, source in job.files.items():
        if name.rsplit("/", 1)[-1] == "dataset_info.json":
            try:
                found = json.loads(source.text)
            except ValueError:
                return None
            return frozenset(found) if isinstance(found, dict) else None
    return None


@rule("LF105", "dataset-of-another-stage", tools=("llamafactory",), harm="crash", causes=("dataset-stage",))
def dataset_of_another_stage(unit: Unit, job: Job) -> Found:
    """Allow dataset-of-another-stage.

    ## What it does
    Finds LLaMA-Factory's own preference sets (`dpo_en_demo` and others) in a stage that has no pairs, and its plain sets in
    the stages `rm` and `dpo`.

    ## Why is this bad?
    "The dataset is not applicable in the current training stage."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: dpo
    do_train: true
    dataset: alpaca_en_demo
    template: qwen
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: dpo
    do_train: true
    dataset: dpo_en_demo
    template: qwen
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, data/loader.py, _get_merged_dataset
    """
    kind = stage(unit)
    if kind is None or unit.text("dataset_dir", "data") != "data" or _declared(job) is not None:
        return
    wrong = PLAIN | TAGGED if kind in ("rm", "dpo") else RANKED
    for option in ("dataset", "eval_dataset"):
        found = [name for name in names(unit, option) or [] if name in wrong]
        if found:
            has = "has single answers" if kind in ("rm", "dpo") else "has pairs of answers"
            yield Problem(
                unit[option], f"{found[0]} {has}, which stage {kind} does not take", None, beside(unit, "stage")
            )


@rule("LF110", "smallest-above-largest", tools=("llamafactory",), harm="crash", causes=("pixel-range",))
def smallest_above_largest(unit: Unit, job: Job) -> Found:
    """Allow smallest-above-largest.

    ## What it does
    Finds `image_min_pixels` above `image_max_pixels`, and the same for videos.

    ## Why is this bad?
    "`image_max_pixels` cannot be smaller than `image_min_pixels`."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2-VL-7B-Instruct
    stage: sft
    dataset: mllm_demo
    template: qwen2_vl
    image_max_pixels: 512
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2-VL-7B-Instruct
    stage: sft
    dataset: mllm_demo
    template: qwen2_vl
    image_max_pixels: 262144
    ```

    ## Versions
    llamafactory 0.9.2 and later. The smallest is 32 x 32 for images and 16 x 16 for videos where it is not set.

    ## References
    - llamafactory 0.9.5, hparams/model_args.py, ProcessorArguments
    """
    for kind, least in (("image", 32 * 32), ("video", 16 * 16)):
        low, high = unit.number(f"{kind}_min_pixels", least), unit.number(f"{kind}_max_pixels")
        if low and high and low > high:
            also = beside(unit, f"{kind}_min_pixels")
            yield Problem(
                unit[f"{kind}_max_pixels"], f"{kind}_max_pixels {high} is below {kind}_min_pixels {low}", None, also
            )


@rule(
    "LF111",
    "too-many-preprocessing-workers",
    tools=("llamafactory",),
    harm="hang",
    severity="warning",
    causes=("preprocessing-workers",),
)
def too_many_preprocessing_workers(unit: Unit, job: Job) -> Found:
    """Allow too-many-preprocessing-workers.

    ## What it does
    Finds `preprocessing_num_workers` of 128 or more.

    ## Why is this bad?
    Every worker holds a tokenizer and a part of the data. Users report a tokenisation that stands still and then "One of
    the subprocesses has abruptly died during map operation".

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    dataset: identity
    template: qwen
    preprocessing_num_workers: 256
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    dataset: identity
    template: qwen
    preprocessing_num_workers: 16
    ```

    ## Versions
    All.

    ## References
    - hiyouga/LlamaFactory#5308
    - hiyouga/LlamaFactory#5782
    """
    workers = unit.whole("preprocessing_num_workers")
    if workers and workers >= 128:
        yield Problem(
            unit["preprocessing_num_workers"],
            f"{workers} workers often hang or die",
            set_value(unit["preprocessing_num_workers"], 16),
        )
