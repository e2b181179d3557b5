"""LLM Foundry: what its training script refuses, and what it changes by itself."""

from __future__ import annotations

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.rules._ft import unset, used
from advisor_mcp.linting.unit import Unit

MEGABLOCKS = ("mb_moe", "mb_dmoe")


@rule("FO001", "batch-of-uneven-shares", tools=("llm-foundry",), harm="crash", causes=("batch-arithmetic",))
def batch_of_uneven_shares(unit: Unit, job: Job) -> Found:
    """Allow batch-of-uneven-shares.

    ## What it does
    Checks that `global_train_batch_size` is a multiple of the world size.

    ## Why is this bad?
    LLM Foundry stops: "Global batchsize 48 is not divisible by (world_size // data_replication_degree)=32 as a result, the
    batch size would be truncated".

    ## Example
    ```yaml train.yaml world_size=32
    max_duration: 1ep
    global_train_batch_size: 48
    train_loader:
      name: finetuning
    ```

    ## Use instead
    ```yaml train.yaml world_size=32
    max_duration: 1ep
    global_train_batch_size: 64
    train_loader:
      name: finetuning
    ```

    ## Versions
    All.

    ## References
    - llm-foundry 0.22.0, utils/config_utils.py, calculate_batch_size_info
    - mosaicml/examples#41
    """
    size = unit.whole("global_train_batch_size")
    if not size:
        return
    world = job.world_size(unit)
    if world is None:
        yield Skipped("the world size")
    elif size % world:
        written = unit["global_train_batch_size"]
        fix = set_value(written, -(-size // world) * world)
        yield Problem(written, f"{written.shown} is not divisible by the world size {world}", fix)


@rule(
    "FO002",
    "microbatch-above-share",
    tools=("llm-foundry",),
    harm="ignored",
    severity="info",
    causes=("microbatch-reduced",),
)
def microbatch_above_share(unit: Unit, job: Job) -> Found:
    """Allow microbatch-above-share.

    ## What it does
    Finds `device_train_microbatch_size` that is larger than a device's share of `global_train_batch_size`.

    ## Why is this bad?
    It is cut down to the share with a warning only: the run uses less of the GPU than the file says, and a global batch that
    was meant to be larger shows here first.

    ## Example
    ```yaml train.yaml world_size=32
    max_duration: 1ep
    global_train_batch_size: 64
    device_train_microbatch_size: 8
    train_loader:
      name: finetuning
    ```

    ## Use instead
    ```yaml train.yaml world_size=32
    max_duration: 1ep
    global_train_batch_size: 64
    device_train_microbatch_size: 2
    train_loader:
      name: finetuning
    ```

    ## Versions
    All.

    ## References
    - llm-foundry 0.22.0, utils/config_utils.py, calculate_batch_size_info
    """
    size, micro = unit.whole("global_train_batch_size"), unit.whole("device_train_microbatch_size")
    world = job.world_size(unit)
    if size and micro and world and size % world == 0 and micro > size // world:
        written, other = unit["device_train_microbatch_size"], unit["global_train_batch_size"]
        message = f"{written.shown} is cut to {size // world}, a device's share of {other.shown} on {world} devices"
        yield Problem(written, message, set_value(written, size // world), (other,))


@rule("FO005", "incomplete-tensor-parallelism", tools=("llm-foundry",), harm="crash", causes=("tp-config",))
def incomplete_tensor_parallelism(unit: Unit, job: Job) -> Found:
    """Allow incomplete-tensor-parallelism.

    ## What it does
    Finds `tp_config` without `strategy` or `tensor_parallel_degree`, and `tp_config` for a model with MegaBlocks experts.

    ## Why is this bad?
    "`tp_config` requires 'strategy' and 'tensor_parallel_degree' values." and "Tensor Parallelism is not currently supported
    for MoE models."

    ## Example
    ```yaml train.yaml
    max_duration: 1ep
    train_loader:
      name: text
    tp_config:
      tensor_parallel_degree: 2
    ```

    ## Use instead
    ```yaml train.yaml
    max_duration: 1ep
    train_loader:
      name: text
    tp_config:
      strategy: ffn
      tensor_parallel_degree: 2
    ```

    ## Versions
    llm-foundry 0.13 and later.

    ## References
    - llm-foundry 0.22.0, utils/config_utils.py, process_init_device
    """
    config = unit.settings.get("tp_config")
    if config is None or not config.known or config.value is None:
        return
    missing = [name for name in ("strategy", "tensor_parallel_degree") if unit.absent(f"tp_config.{name}")]
    if missing:
        yield Problem(
            config, f"tp_config has no {' and no '.join(missing)}", advise(f"add {' and '.join(missing)} to tp_config")
        )
    experts = used(unit, "model.ffn_config.ffn_type")
    if experts and experts.value in MEGABLOCKS:
        yield Problem(config, f"tp_config cannot be used with {experts.shown}", remove(config), (experts,))


@rule("FO006", "training-in-eight-bits", tools=("llm-foundry",), harm="crash", causes=("load-in-8bit",))
def training_in_eight_bits(unit: Unit, job: Job) -> Found:
    """Allow training-in-eight-bits.

    ## What it does
    Finds `model.load_in_8bit: true` in a training configuration.

    ## Why is this bad?
    "`load_in_8bit` is only supported for evaluation rather than training."

    ## Example
    ```yaml train.yaml
    max_duration: 1ep
    model:
      name: hf_causal_lm
      pretrained_model_name_or_path: meta-llama/Meta-Llama-3-8B
      load_in_8bit: true
    train_loader:
      name: finetuning
    ```

    ## Use instead
    ```yaml train.yaml
    max_duration: 1ep
    model:
      name: hf_causal_lm
      pretrained_model_name_or_path: meta-llama/Meta-Llama-3-8B
    train_loader:
      name: finetuning
    ```

    ## Versions
    llm-foundry 0.11 and later.

    ## References
    - llm-foundry 0.22.0, command_utils/train.py, validate_config
    """
    if eight := used(unit, "model.load_in_8bit"):
        yield Problem(eight, f"{eight.shown} is for evaluation only", remove(eight))


@rule("FO007", "encoder-decoder-on-text", tools=("llm-foundry",), harm="crash", causes=("t5-text-loader",))
def encoder_decoder_on_text(unit: Unit, job: Job) -> Found:
    """Allow encoder-decoder-on-text.

    ## What it does
    Finds the model `hf_t5` with a loader of plain text or with `icl_tasks`.

    ## Why is this bad?
    "Model type hf_t5 is not supported when using the "text" dataloader. Only finetuning is supported." and "ICL evaluation
    does not currently support Encoder-Decoder models".

    ## Example
    ```yaml train.yaml
    max_duration: 1ep
    model:
      name: hf_t5
    train_loader:
      name: text
    ```

    ## Use instead
    ```yaml train.yaml
    max_duration: 1ep
    model:
      name: hf_t5
    train_loader:
      name: finetuning
    ```

    ## Versions
    All.

    ## References
    - llm-foundry 0.22.0, command_utils/train.py, validate_config
    """
    if unit.text("model.name") != "hf_t5":
        return
    for loader in ("train_loader", "eval_loader"):
        if unit.text(f"{loader}.name") == "text":
            name = unit[f"{loader}.name"]
            yield Problem(
                name,
                f"hf_t5 cannot be trained with {loader} text",
                set_value(name, "finetuning"),
                (unit["model.name"],),
            )
    if tasks := used(unit, "icl_tasks", "icl_tasks_str"):
        yield Problem(tasks, "hf_t5 cannot be evaluated with icl_tasks", remove(tasks), (unit["model.name"],))


@rule("FO008", "evaluation-without-label", tools=("llm-foundry",), harm="crash", causes=("eval-label",))
def evaluation_without_label(unit: Unit, job: Job) -> Found:
    """Allow evaluation-without-label.

    ## What it does
    Finds an `eval_loader` that is a list with an entry that has no `label`.

    ## Why is this bad?
    "When specifying multiple evaluation datasets, each one must include the `label` attribute." The check runs when the
    processes are already up.

    ## Example
    ```yaml train.yaml
    max_duration: 1ep
    train_loader:
      name: finetuning
    eval_loader:
      - name: finetuning
        label: held_out
      - name: finetuning
    ```

    ## Use instead
    ```yaml train.yaml
    max_duration: 1ep
    train_loader:
      name: finetuning
    eval_loader:
      - name: finetuning
        label: held_out
      - name: finetuning
        label: other
    ```

    ## Versions
    All.

    ## References
    - llm-foundry 0.22.0, command_utils/train.py, validate_config
    """
    for section in ("eval_loader", "eval_loaders"):
        entries = unit.value(section)
        for number in range(len(entries) if isinstance(entries, list) else 0):
            name = unit.settings.get(f"{section}.{number}.name")
            if unset(unit, f"{section}.{number}.label"):
                fix = add_after(name, "label", f"eval_{number}") if name else advise("give each entry a label")
                yield Problem(name or unit[section], f"entry {number} of {section} has no label", fix)


@rule("FO013", "checkpoint-without-its-callback", tools=("llm-foundry",), harm="crash", causes=("hf-checkpointer",))
def checkpoint_without_its_callback(unit: Unit, job: Job) -> Found:
    """Allow checkpoint-without-its-callback.

    ## What it does
    Finds `only_hf_checkpoint: true` without the callback `hf_checkpointer`.

    ## Why is this bad?
    Everything is loaded first, then: "No HuggingFaceCheckpointer callback found, but only_hf_checkpoint was set to True."

    ## Example
    ```yaml train.yaml
    max_duration: 1ep
    only_hf_checkpoint: true
    train_loader:
      name: finetuning
    callbacks:
      lr_monitor: {}
    ```

    ## Use instead
    ```yaml train.yaml
    max_duration: 1ep
    only_hf_checkpoint: true
    train_loader:
      name: finetuning
    callbacks:
      lr_monitor: {}
      hf_checkpointer:
        save_folder: ./hf
        save_interval: 1ep
    ```

    ## Versions
    llm-foundry 0.11 and later.

    ## References
    - llm-foundry 0.22.0, command_utils/train.py, train
    """
    only = used(unit, "only_hf_checkpoint")
    callbacks = unit.settings.get("callbacks")
    if only and (callbacks is None or callbacks.known) and unit.absent("callbacks.hf_checkpointer"):
        yield Problem(
            only, f"{only.shown} needs the callback hf_checkpointer", advise("add hf_checkpointer to callbacks")
        )
