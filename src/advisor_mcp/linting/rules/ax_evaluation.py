"""Axolotl: when it saves and evaluates, and on what."""

from __future__ import annotations

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import idle, strategy, used
from advisor_mcp.linting.unit import Unit


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
        yield Problem(
            unit[name], f"{unit[name].shown} contradicts {number.shown}, which needs {name}: steps", fix, (number,)
        )


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
            yield Problem(
                first,
                f"{first.shown} and {second.shown} are both set; Axolotl takes one of them",
                remove(first),
                (second,),
            )


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
        yield Problem(
            asked, f"{asked.shown} asks for evaluations, but {size.shown} keeps no data for them", fix, (size,)
        )


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
        yield Problem(
            size, f"{size.shown} splits the training data although test_datasets is given", remove(size), (data,)
        )


@rule(
    "AX007",
    "early-stopping-without-steps",
    tools=("axolotl",),
    harm="crash",
    causes=("early-stopping", "best-model-strategy"),
)
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
        yield Problem(
            patience, f"{patience.shown} needs {missing}, which is not set", advise("set save_steps and eval_steps")
        )
        return
    save, evaluate = unit.number("save_steps"), unit.number("eval_steps")
    if save and evaluate and save >= 1 and evaluate >= 1 and save % evaluate:
        also = (unit["eval_steps"], patience)
        yield Problem(
            unit["save_steps"],
            f"save_steps {save} is no multiple of eval_steps {evaluate}, as early stopping needs",
            None,
            also,
        )


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
        yield Problem(
            unit["save_strategy"],
            "save_strategy: best needs metric_for_best_model",
            advise("set metric_for_best_model: eval_loss"),
        )


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
