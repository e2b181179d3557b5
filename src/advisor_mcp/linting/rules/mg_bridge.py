"""What Megatron-Bridge checks between the sections of its configuration."""

from advisor_mcp.linting.edits import remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.unit import Unit

_BRIDGE = ("megatron-bridge",)


@rule("MG120", "packing-and-the-micro-batch", tools=_BRIDGE, harm="crash", causes=("bridge-packing",))
def packing_and_the_micro_batch(unit: Unit, job: Job) -> Found:
    """Allow packing-and-the-micro-batch.

    ## What it does
    Checks the two ways to pack sequences: not both at once, a micro batch of one for sequences packed beforehand, of more
    than one for packing within the batch.

    ## Why is this bad?
    Megatron-Bridge stops: "Micro batch size should be 1 when training with packed sequence", "micro_batch_size should be
    greater than 1 when using enable_in_batch_packing=True" or "mutually exclusive".

    ## Example
    ```yaml override.yaml
    model:
      seq_length: 4096
      tensor_model_parallel_size: 2
    train:
      train_iters: 1000
      global_batch_size: 64
      micro_batch_size: 1
    dataset:
      enable_in_batch_packing: true
    checkpoint:
      save: /out
    ```

    ## Use instead
    ```yaml override.yaml
    model:
      seq_length: 4096
      tensor_model_parallel_size: 2
    train:
      train_iters: 1000
      global_batch_size: 64
      micro_batch_size: 4
    dataset:
      enable_in_batch_packing: true
    checkpoint:
      save: /out
    ```

    ## Versions
    Megatron-Bridge 0.6.2; the options have other names before 0.5.

    ## References
    - megatron-bridge 0.6.2, megatron/bridge/training/config.py, ConfigContainer.validate
    """
    before, within = unit.setting("dataset.enable_offline_packing"), unit.setting("dataset.enable_in_batch_packing")
    before = before if before is not None and unit.truth(before.name) is True else None
    within = within if within is not None and unit.truth(within.name) is True else None
    size = unit.number("train.micro_batch_size")
    if before is not None and within is not None:
        yield Problem(within, f"{within.shown} and {before.shown} exclude each other", remove(within), (before,))
    elif before is not None and size is not None and size > 1:
        here = unit["train.micro_batch_size"]
        message = f"{here.shown}, but packed sequences need a micro batch of 1"
        yield Problem(here, message, set_value(here, 1, why="and divide the global batch by it"), (before,))
    elif within is not None and size == 1:
        here = unit["train.micro_batch_size"]
        yield Problem(here, f"{here.shown} leaves nothing to pack within a batch", set_value(here, 2), (within,))


@rule("MG121", "lengths-of-model-and-data-differ", tools=_BRIDGE, harm="crash", causes=("bridge-seq-length",))
def lengths_of_model_and_data_differ(unit: Unit, job: Job) -> Found:
    """Allow lengths-of-model-and-data-differ.

    ## What it does
    Compares `model.seq_length` with `dataset.seq_length`, and the micro batch of the data set with that of the training.

    ## Why is this bad?
    Megatron-Bridge stops: "Please ensure sequence length configuration in model config and dataset config match".

    ## Example
    ```yaml override.yaml
    model:
      seq_length: 4096
      tensor_model_parallel_size: 2
    train:
      train_iters: 1000
      global_batch_size: 64
      micro_batch_size: 1
    dataset:
      seq_length: 8192
    checkpoint:
      save: /out
    ```

    ## Use instead
    ```yaml override.yaml
    model:
      seq_length: 8192
      tensor_model_parallel_size: 2
    train:
      train_iters: 1000
      global_batch_size: 64
      micro_batch_size: 1
    dataset:
      seq_length: 8192
    checkpoint:
      save: /out
    ```

    ## Versions
    All.

    ## References
    - megatron-bridge 0.6.2, megatron/bridge/training/config.py, ConfigContainer.validate
    """
    pairs = (
        ("model.seq_length", ("dataset.seq_length", "dataset.sequence_length")),
        ("train.micro_batch_size", ("dataset.micro_batch_size",)),
    )
    for name, others in pairs:
        wanted, here = unit.number(name), unit.setting(*others)
        given = unit.number(here.name) if here is not None else None
        if here is not None and wanted is not None and given is not None and wanted != given:
            kept = unit[name]
            yield Problem(here, f"{here.shown}, but {name} is {kept.at.text}", set_value(here, wanted), (kept,))


@rule("MG122", "context-parallel-fine-tuning", tools=_BRIDGE, harm="crash", causes=("cp-per-token-loss",))
def context_parallel_fine_tuning(unit: Unit, job: Job) -> Found:
    """Allow context-parallel-fine-tuning.

    ## What it does
    Looks for fine-tuning (a `peft` section, or packed data) with context parallelism that turns off the loss per token or
    averages in the collective.

    ## Why is this bad?
    A rank whose part of a sequence is all prompt has no token to train on, and its mean is not a number. Megatron-Bridge
    stops: "When finetuning with CP>1, calculate_per_token_loss must be True".

    ## Example
    ```yaml override.yaml
    model:
      seq_length: 8192
      context_parallel_size: 2
      calculate_per_token_loss: false
    train:
      train_iters: 1000
      global_batch_size: 64
      micro_batch_size: 1
    peft:
      dim: 16
    checkpoint:
      save: /out
    ```

    ## Use instead
    ```yaml override.yaml
    model:
      seq_length: 8192
      context_parallel_size: 2
      calculate_per_token_loss: true
    train:
      train_iters: 1000
      global_batch_size: 64
      micro_batch_size: 1
    peft:
      dim: 16
    checkpoint:
      save: /out
    ```

    ## Versions
    All.

    ## References
    - megatron-bridge 0.6.2, megatron/bridge/training/config.py, ConfigContainer.validate
    """
    parts = unit.number("model.context_parallel_size")
    tuned = bool(unit.section("peft")) or "dataset.enable_offline_packing" in unit
    if parts is None or parts < 2 or not tuned:
        return
    for name, wanted in (("model.calculate_per_token_loss", True), ("ddp.average_in_collective", False)):
        here = unit.setting(name)
        if here is not None and unit.truth(name) is (not wanted):
            message = f"{here.shown}, but fine-tuning with context parallelism needs {str(wanted).lower()}"
            yield Problem(here, message, set_value(here, wanted), (unit["model.context_parallel_size"],))


@rule("MG123", "mxfp8-gather-without-shared-buffer", tools=_BRIDGE, harm="crash", causes=("mxfp8-param-gather",))
def mxfp8_gather_without_shared_buffer(unit: Unit, job: Job) -> Found:
    """Allow mxfp8-gather-without-shared-buffer.

    ## What it does
    Looks for MXFP8 parameters that are gathered in 8 bits with `reuse_grad_buf_for_mxfp8_param_ag: false`.

    ## Why is this bad?
    Megatron-Bridge stops: "reuse_grad_buf_for_mxfp8_param_ag must be set to True".

    ## Example
    ```yaml override.yaml
    model:
      seq_length: 8192
      tensor_model_parallel_size: 2
    train:
      train_iters: 1000
      global_batch_size: 64
      micro_batch_size: 1
    mixed_precision:
      fp8_recipe: mxfp8
      fp8_param_gather: true
      reuse_grad_buf_for_mxfp8_param_ag: false
    ```

    ## Use instead
    ```yaml override.yaml
    model:
      seq_length: 8192
      tensor_model_parallel_size: 2
    train:
      train_iters: 1000
      global_batch_size: 64
      micro_batch_size: 1
    mixed_precision:
      fp8_recipe: mxfp8
      fp8_param_gather: true
      reuse_grad_buf_for_mxfp8_param_ag: true
    ```

    ## Versions
    All; Megatron FSDP is exempt.

    ## References
    - megatron-bridge 0.6.2, megatron/bridge/training/config.py, ConfigContainer.validate
    """
    here = unit.setting("mixed_precision.reuse_grad_buf_for_mxfp8_param_ag")
    wanted = unit.setting("mixed_precision.fp8_param_gather")
    sharded = any(unit.truth(name) is not False for name in ("ddp.use_megatron_fsdp", "dist.use_megatron_fsdp"))
    if here is None or wanted is None or sharded or unit.truth(here.name) is not False:
        return
    if unit.truth(wanted.name) is True and unit.text("mixed_precision.fp8_recipe") == "mxfp8":
        yield Problem(here, f"{here.shown} with {wanted.shown} and the recipe mxfp8", set_value(here, True), (wanted,))
