"""Axolotl: how long it trains, when it saves and evaluates, and how large its batches are."""

from __future__ import annotations

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import all_used, idle, strategy, unset, used, whole
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


@rule("AX002", "steps-under-another-strategy", tools=("axolotl",), harm="crash", causes=("save-eval-mismatch",))
def steps_under_another_strategy(unit: Unit, job: Job) -> Found:
    """Allow steps-under-another-strategy.

    ## What it does
    Finds `save_steps` beside a `save_strategy` that is not `steps`, and `eval_steps` or `evals_per_epoch` beside an
    `eval_strategy` that is not `steps`.

    ## Why is this bad?
    The number would have no effect, so Axolotl refuses the file: "save_strategy and save_steps mismatch".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    save_strategy: epoch
    save_steps: 100
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    save_strategy: steps
    save_steps: 100
    ```

    ## Versions
    All.

    ## References
    - axolotl-ai-cloud/axolotl#633
    - axolotl 0.21.0, utils/schemas/validation.py, check_saves and check_evals
    """
    for kind, numbers in (("save", ("save_steps",)), ("eval", ("eval_steps", "evals_per_epoch"))):
        name = f"{kind}_strategy"
        number, said = used(unit, *numbers), strategy(unit, name)
        # A strategy that YAML reads as false counts as not set.
        if number is None or said in (None, "steps") or unit.value(name) is False:
            continue
        fix = set_value(unit[name], "steps", why=f"or remove {number.written}")
        yield Problem(unit[name], f"{unit[name].shown} contradicts {number.shown}, which needs {name}: steps", fix, (number,))


@rule("AX003", "steps-and-per-epoch", tools=("axolotl",), harm="crash", causes=("steps-and-per-epoch",))
def steps_and_per_epoch(unit: Unit, job: Job) -> Found:
    """Allow steps-and-per-epoch.

    ## What it does
    Finds `save_steps` beside `saves_per_epoch`, and `eval_steps` beside `evals_per_epoch`.

    ## Why is this bad?
    Both say how often, and Axolotl refuses to choose: "save_steps and saves_per_epoch are mutually exclusive".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    evals_per_epoch: 4
    eval_steps: 50
    val_set_size: 0.05
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    evals_per_epoch: 4
    val_set_size: 0.05
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_saves and check_evals
    """
    for steps, per_epoch in (("save_steps", "saves_per_epoch"), ("eval_steps", "evals_per_epoch")):
        first, second = used(unit, steps), used(unit, per_epoch)
        if first and second:
            yield Problem(first, f"{first.shown} and {second.shown} are both set; Axolotl takes one of them", remove(first), (second,))


@rule("AX004", "evaluation-without-data", tools=("axolotl",), harm="crash", causes=("eval-without-val",))
def evaluation_without_data(unit: Unit, job: Job) -> Found:
    """Allow evaluation-without-data.

    ## What it does
    Finds `eval_steps` or `eval_strategy` where `val_set_size` is 0 and there are no `test_datasets`.

    ## Why is this bad?
    There is nothing to evaluate on: "eval_steps and eval_strategy are not supported with val_set_size == 0".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    val_set_size: 0
    eval_steps: 50
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    val_set_size: 0.05
    eval_steps: 50
    ```

    ## Versions
    All.

    ## References
    - axolotl-ai-cloud/axolotl#1682
    - axolotl 0.21.0, utils/schemas/validation.py, check_evals
    """
    asked = used(unit, "eval_steps", "eval_strategy")
    size = unit.settings.get("val_set_size")
    if asked is None or size is None or unit.number("val_set_size") != 0:
        return
    if idle(unit, "test_datasets") and strategy(unit, "eval_strategy") != "no":
        fix = remove(asked, why="or give val_set_size a share of the data")
        yield Problem(asked, f"{asked.shown} asks for evaluations, but {size.shown} keeps no data for them", fix, (size,))


@rule("AX005", "validation-share-and-test-data", tools=("axolotl",), harm="crash", causes=("val-and-test-datasets",))
def validation_share_and_test_data(unit: Unit, job: Job) -> Found:
    """Allow validation-share-and-test-data.

    ## What it does
    Finds a `val_set_size` other than 0 beside `test_datasets`.

    ## Why is this bad?
    Axolotl evaluates on one of them and refuses both: "non-zero val_set_size should not be used with test_datasets
    configuration".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    datasets:
      - path: train.jsonl
        type: alpaca
    test_datasets:
      - path: test.jsonl
        type: alpaca
    val_set_size: 0.05
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    datasets:
      - path: train.jsonl
        type: alpaca
    test_datasets:
      - path: test.jsonl
        type: alpaca
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_val_w_test_datasets
    """
    size, data = used(unit, "val_set_size"), used(unit, "test_datasets")
    if size and data:
        yield Problem(size, f"{size.shown} splits the training data although test_datasets is given", remove(size), (data,))


@rule("AX006", "contradicting-batch-sizes", tools=("axolotl",), harm="crash", causes=("batch-arithmetic", "batch-missing"))
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
        yield Problem(batch, f"{batch.shown} and {steps.shown} are both set; the batch follows from the accumulation", remove(batch), (steps,))
    elif batch and idle(unit, "micro_batch_size", "gradient_accumulation_steps"):
        yield Problem(batch, f"{batch.shown} stands alone; Axolotl needs micro_batch_size beside it", advise("set micro_batch_size too"))


@rule("AX007", "early-stopping-without-steps", tools=("axolotl",), harm="crash", causes=("early-stopping", "best-model-strategy"))
def early_stopping_without_steps(unit: Unit, job: Job) -> Found:
    """Allow early-stopping-without-steps.

    ## What it does
    Checks that `early_stopping_patience` comes with `save_steps` and `eval_steps`, and that `save_steps` is a multiple of
    `eval_steps`.

    ## Why is this bad?
    Axolotl refuses it, `saves_per_epoch` and `evals_per_epoch` do not count: "`early_stopping_patience` requires save_steps
    and eval_steps to be set. eval_steps should evenly divide save_steps."

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    val_set_size: 0.05
    early_stopping_patience: 3
    evals_per_epoch: 4
    saves_per_epoch: 1
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    val_set_size: 0.05
    early_stopping_patience: 3
    eval_steps: 50
    save_steps: 100
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_early_stopping
    """
    patience = used(unit, "early_stopping_patience")
    if patience is None:
        return
    if idle(unit, "save_steps") or idle(unit, "eval_steps"):
        missing = "save_steps" if idle(unit, "save_steps") else "eval_steps"
        yield Problem(patience, f"{patience.shown} needs {missing}, which is not set", advise("set save_steps and eval_steps"))
        return
    save, evaluate = unit.number("save_steps"), unit.number("eval_steps")
    if save and evaluate and save >= 1 and evaluate >= 1 and save % evaluate:
        also = (unit["eval_steps"], patience)
        yield Problem(unit["save_steps"], f"save_steps {save} is no multiple of eval_steps {evaluate}, as early stopping needs", None, also)


@rule("AX008", "best-model-without-metric", tools=("axolotl",), harm="crash", causes=("best-model-metric",))
def best_model_without_metric(unit: Unit, job: Job) -> Found:
    """Allow best-model-without-metric.

    ## What it does
    Finds `save_strategy: best` without `metric_for_best_model`.

    ## Why is this bad?
    Nothing says what is best: "save_strategy: 'best' requires metric_for_best_model to be set".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    save_strategy: best
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    save_strategy: best
    metric_for_best_model: eval_loss
    ```

    ## Versions
    axolotl 0.16 and later.

    ## References
    - axolotl 0.21.0, utils/schemas/config.py, check_save_strategy_best_requires_metric
    """
    if unit.since("0.16") and unit.text("save_strategy") == "best" and idle(unit, "metric_for_best_model"):
        yield Problem(unit["save_strategy"], "save_strategy: best needs metric_for_best_model", advise("set metric_for_best_model: eval_loss"))


@rule("AX009", "packed-evaluation", tools=("axolotl",), harm="crash", causes=("eval-packing",))
def packed_evaluation(unit: Unit, job: Job) -> Found:
    """Allow packed-evaluation.

    ## What it does
    Finds evaluations that read single samples (`eval_table_size`, `do_causal_lm_eval`) while the evaluation data is packed.

    ## Why is this bad?
    A packed row holds many samples, so Axolotl refuses it: "eval_table_size and eval_sample_packing are not supported
    together with sample_packing".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    sample_packing: true
    flash_attention: true
    eval_table_size: 5
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    sample_packing: true
    flash_attention: true
    eval_sample_packing: false
    eval_table_size: 5
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_eval_packing and check_causal_lm_evals
    """
    packing, packed = used(unit, "sample_packing"), unit.settings.get("eval_sample_packing")
    table = used(unit, "eval_table_size")
    if table and packing and (packed is None or packed.value is not False):
        also = (packing,) if packed is None else (packing, packed)
        fix = advise("set eval_sample_packing: false")
        yield Problem(table, f"{table.shown} needs unpacked evaluation data, but sample_packing packs it", fix, also)
    if (causal := used(unit, "do_causal_lm_eval")) and (on := used(unit, "eval_sample_packing")):
        yield Problem(on, f"{on.shown} does not go with {causal.shown}", set_value(on, False), (causal,))


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
        yield Problem(stream, f"{stream.written} is a stream without a length, and max_steps is not set", advise("set max_steps"))


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
        yield Problem(found, f"{found.shown} needs the whole data, but {stream.written} is a stream", remove(found), (stream,))
    streaming, packing = used(unit, "streaming"), used(unit, "sample_packing")
    if streaming and packing and len(unit.items("datasets") or []) > 1:
        yield Problem(packing, "sample_packing works on one stream only, and datasets lists several", None, (streaming,))


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
        yield Problem(misspelled or unit, "there is neither datasets nor pretraining_dataset, so there is nothing to train on", advise("add datasets"))


@rule("AX013", "more-warmup-than-steps", tools=("axolotl",), harm="wrong_lr", severity="warning", causes=("warmup-gt-steps",))
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
    warmup, total = whole(unit.value("warmup_steps")), whole(unit.value("max_steps"))
    if warmup and total and 1 < total <= warmup:
        also = (unit["max_steps"],)
        yield Problem(unit["warmup_steps"], f"{warmup} warm-up steps leave nothing of the {total} steps of the run", None, also)
