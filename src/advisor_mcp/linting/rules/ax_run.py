"""Axolotl: how long it trains, on what, and how large its batches are."""

from __future__ import annotations

from advisor_mcp.linting.edits import advise, remove
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import all_used, idle, unset, used
from advisor_mcp.linting.unit import Unit


@rule("AX001", "warmup-steps-and-ratio", tools=("axolotl",), harm="crash", causes=("warmup-both",))
def warmup_steps_and_ratio(unit: Unit, job: Job) -> Found:
    """Allow warmup-steps-and-ratio.

    ## What it does
    Finds `warmup_steps` and `warmup_ratio` in one configuration, both greater than zero.

    ## Why is this bad?
    Axolotl refuses the file before it loads anything: "warmup_steps and warmup_ratio are mutually exclusive".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    warmup_steps: 100
    warmup_ratio: 0.1
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    warmup_ratio: 0.1
    ```

    ## Versions
    All.

    ## References
    - axolotl-ai-cloud/axolotl#893
    - axolotl 0.21.0, utils/schemas/validation.py, check_warmup
    """
    steps, ratio = used(unit, "warmup_steps"), used(unit, "warmup_ratio")
    if steps and ratio:
        fix = remove(ratio, why="the steps stay")
        yield Problem(ratio, f"{ratio.shown} and {steps.shown} are both set; Axolotl takes one of them", fix, (steps,))


@rule(
    "AX006", "contradicting-batch-sizes", tools=("axolotl",), harm="crash", causes=("batch-arithmetic", "batch-missing")
)
def contradicting_batch_sizes(unit: Unit, job: Job) -> Found:
    """Allow contradicting-batch-sizes.

    ## What it does
    Finds `batch_size` beside `gradient_accumulation_steps`, and `batch_size` without `micro_batch_size`.

    ## Why is this bad?
    Two of the three numbers make the third: "please set only one of gradient_accumulation_steps or batch_size" and "At
    least two of micro_batch_size, gradient_accumulation_steps, batch_size must be set".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    batch_size: 16
    gradient_accumulation_steps: 4
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    gradient_accumulation_steps: 8
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_gas_bsz and check_batch_size_fields
    """
    batch, steps = used(unit, "batch_size"), used(unit, "gradient_accumulation_steps")
    if batch and steps:
        yield Problem(
            batch,
            f"{batch.shown} and {steps.shown} are both set; the batch follows from the accumulation",
            remove(batch),
            (steps,),
        )
    elif batch and idle(unit, "micro_batch_size", "gradient_accumulation_steps"):
        yield Problem(
            batch,
            f"{batch.shown} stands alone; Axolotl needs micro_batch_size beside it",
            advise("set micro_batch_size too"),
        )


@rule("AX010", "stream-without-length", tools=("axolotl",), harm="crash", causes=("streaming-max-steps",))
def stream_without_length(unit: Unit, job: Job) -> Found:
    """Allow stream-without-length.

    ## What it does
    Finds `pretraining_dataset` or `streaming: true` without `max_steps`.

    ## Why is this bad?
    A stream has no length, so neither the end nor the learning rate's schedule can be worked out: "max_steps must be set
    when using iterable pretraining_dataset".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    pretraining_dataset: allenai/c4
    num_epochs: 1
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    pretraining_dataset: allenai/c4
    max_steps: 10000
    ```

    ## Versions
    `pretraining_dataset`: all. `streaming`: axolotl 0.13 and later.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_pretraining_w_max_steps and check_streaming_w_max_steps
    """
    stream = used(unit, "pretraining_dataset") or (used(unit, "streaming") if unit.since("0.13") else None)
    if stream and idle(unit, "max_steps"):
        yield Problem(
            stream, f"{stream.written} is a stream without a length, and max_steps is not set", advise("set max_steps")
        )


@rule("AX011", "stream-with-split", tools=("axolotl",), harm="crash", causes=("streaming-val-size",))
def stream_with_split(unit: Unit, job: Job) -> Found:
    """Allow stream-with-split.

    ## What it does
    Finds `val_set_size`, `dataset_exact_deduplication` or `include_tokens_per_second` with a stream, and packing over
    several streams.

    ## Why is this bad?
    All of these need the whole data set, which a stream does not have: "val_set_size is not supported with streaming
    datasets".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    pretraining_dataset: allenai/c4
    max_steps: 10000
    val_set_size: 0.01
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    pretraining_dataset: allenai/c4
    max_steps: 10000
    val_set_size: 0
    ```

    ## Versions
    axolotl 0.13 and later; `include_tokens_per_second` in all.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, PretrainingValidationMixin and pretrain_with_tps
    - axolotl 0.21.0, utils/schemas/config.py, check_deduplication_with_streaming
    """
    stream = used(unit, "streaming", "pretraining_dataset")
    if stream is None:
        return
    late = ("val_set_size", "dataset_exact_deduplication") if unit.since("0.13") else ()
    early = ("include_tokens_per_second",) if used(unit, "pretraining_dataset") else ()
    for found in all_used(unit, (*late, *early)):
        yield Problem(
            found, f"{found.shown} needs the whole data, but {stream.written} is a stream", remove(found), (stream,)
        )
    streaming, packing = used(unit, "streaming"), used(unit, "sample_packing")
    if streaming and packing and len(unit.items("datasets") or []) > 1:
        yield Problem(
            packing, "sample_packing works on one stream only, and datasets lists several", None, (streaming,)
        )


@rule("AX012", "no-training-data", tools=("axolotl",), harm="crash", causes=("dataset-missing",))
def no_training_data(unit: Unit, job: Job) -> Found:
    """Allow no-training-data.

    ## What it does
    Finds a configuration with neither `datasets` nor `pretraining_dataset`.

    ## Why is this bad?
    Axolotl refuses it: "either datasets or pretraining_dataset is required". A common slip is `dataset:` without the s,
    which Axolotl drops without a word.

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    num_epochs: 1
    output_dir: ./out
    learning_rate: 2e-5
    dataset:
      - path: tatsu-lab/alpaca
        type: alpaca
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    num_epochs: 1
    output_dir: ./out
    learning_rate: 2e-5
    datasets:
      - path: tatsu-lab/alpaca
        type: alpaca
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_dataset_or_pretraining_dataset
    """
    trains = used(unit, "learning_rate") and used(unit, "num_epochs", "max_steps")
    if trains and unset(unit, "datasets", "pretraining_dataset") and not unit.section("datasets"):
        misspelled = unit.setting("dataset", "train_datasets", "data")
        yield Problem(
            misspelled or unit,
            "there is neither datasets nor pretraining_dataset, so there is nothing to train on",
            advise("add datasets"),
        )


@rule(
    "AX013",
    "more-warmup-than-steps",
    tools=("axolotl",),
    harm="wrong_lr",
    severity="warning",
    causes=("warmup-gt-steps",),
)
def more_warmup_than_steps(unit: Unit, job: Job) -> Found:
    """Allow more-warmup-than-steps.

    ## What it does
    Finds `warmup_steps` that are not fewer than `max_steps`.

    ## Why is this bad?
    The learning rate never reaches its value: the run ends while it is still rising.

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    max_steps: 100
    warmup_steps: 500
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    max_steps: 100
    warmup_steps: 10
    ```

    ## Versions
    All.

    ## References
    - transformers 5.23.0, optimization.py, get_cosine_schedule_with_warmup
    """
    warmup, total = unit.whole("warmup_steps"), unit.whole("max_steps")
    if warmup and total and 1 < total <= warmup:
        also = (unit["max_steps"],)
        yield Problem(
            unit["warmup_steps"], f"{warmup} warm-up steps leave nothing of the {total} steps of the run", None, also
        )
