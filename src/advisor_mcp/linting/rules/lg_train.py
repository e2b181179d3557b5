"""LitGPT: what its fine-tuning and pretraining scripts check, and what they leave out without a word."""

from __future__ import annotations

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.rules._ft import used
from advisor_mcp.linting.unit import Setting, Unit, as_whole

PRETRAINING = ("model_name", "model_config", "initial_checkpoint_dir", "tokenizer_dir")
ADAPTED = ("lora_r", "lora_alpha", "lora_query", "lora_value")
GLOBAL_BATCH = {"finetune": 16, "pretrain": 512}
MICRO_BATCH = {"finetune": 1, "pretrain": 4}
UNSUPPORTED = {
    "finetune": ("train.max_tokens", "train.max_norm", "train.tie_embeddings", "train.lr_warmup_fraction"),
    "pretrain": ("train.epochs", "eval.max_new_tokens"),
}
REQUIRED: dict[str, dict[str, float]] = {
    "finetune": {"train.epochs": 5, "eval.max_new_tokens": 100},
    "pretrain": {"train.max_tokens": 3_000_000_000_000, "train.max_norm": 1.0},
}


def script(unit: Unit) -> str | None:
    """Which script the file is for, finetune or pretrain; None where neither shows."""
    if used(unit, *PRETRAINING):
        return "pretrain"
    return "finetune" if used(unit, "checkpoint_dir", *ADAPTED) else None


def ranks(unit: Unit, job: Job) -> int | None:
    """Devices on all nodes; None where they are not known."""
    nodes = unit.whole("num_nodes", 1)
    devices = unit.settings.get("devices")
    if devices is None and script(unit) == "finetune":
        return nodes
    said = as_whole(devices.value) if devices is not None and devices.known else None
    if said is None or said < 1:
        return job.world_size(unit)
    return said * nodes if nodes else None


def batch(unit: Unit) -> tuple[int, int] | None:
    """The global and the micro batch, defaults included; None where they are not known."""
    kind = script(unit)
    if kind is None:
        return None
    whole_batch = unit.whole("train.global_batch_size", GLOBAL_BATCH[kind])
    micro = unit.whole("train.micro_batch_size", MICRO_BATCH[kind])
    return (whole_batch, micro) if whole_batch and micro else None


@rule(
    "LG004",
    "batch-that-does-not-divide",
    tools=("litgpt",),
    harm="wrong_batch",
    severity="warning",
    causes=("batch-arithmetic",),
)
def batch_that_does_not_divide(unit: Unit, job: Job) -> Found:
    """Allow batch-that-does-not-divide.

    ## What it does
    Checks that `train.global_batch_size` is a multiple of `train.micro_batch_size` times the devices of all nodes. Where
    it is smaller than that product the finding is an error.

    ## Why is this bad?
    LitGPT rounds down twice, without a word: the optimizer steps on fewer samples than the file says. Where nothing is
    left it stops at an assertion without a message.

    ## Example
    ```yaml finetune.yaml
    checkpoint_dir: checkpoints/meta-llama/Llama-3.2-1B
    devices: 4
    train:
      global_batch_size: 60
      micro_batch_size: 4
    ```

    ## Use instead
    ```yaml finetune.yaml
    checkpoint_dir: checkpoints/meta-llama/Llama-3.2-1B
    devices: 4
    train:
      global_batch_size: 64
      micro_batch_size: 4
    ```

    ## Versions
    All.

    ## References
    - litgpt 0.5.13, args.py, gradient_accumulation_iters and batch_size
    """
    sizes = batch(unit)
    places = [unit[name] for name in ("train.global_batch_size", "train.micro_batch_size") if name in unit]
    if sizes is None or not places:
        return
    world = ranks(unit, job)
    if world is None:
        if sizes[0] < sizes[1]:
            yield _indivisible(unit, places, sizes, 1)
        else:
            yield Skipped("the world size")
        return
    if sizes[0] % (sizes[1] * world):
        yield _indivisible(unit, places, sizes, world)


def _indivisible(unit: Unit, places: list[Setting], sizes: tuple[int, int], world: int) -> Problem:
    whole_batch, micro = sizes
    step = micro * world
    said = f"global_batch_size {whole_batch} is no multiple of micro_batch_size {micro} x {world} devices"
    written = unit.settings.get("train.global_batch_size")
    if whole_batch // world // micro == 0:
        fix = set_value(written, step) if written else advise(f"set train.global_batch_size to {step}")
        return Problem(places[0], f"{said}: no step can be made", fix, tuple(places[1:]), "error")
    real = whole_batch // world // micro * step
    fix = (
        set_value(written, -(-whole_batch // step) * step)
        if written
        else advise(f"set train.global_batch_size to {real}")
    )
    return Problem(places[0], f"{said}: each step uses {real} samples", fix, tuple(places[1:]))


@rule(
    "LG005",
    "nodes-not-counted",
    tools=("litgpt",),
    harm="wrong_batch",
    severity="warning",
    causes=("multi-node-accumulation",),
)
def nodes_not_counted(unit: Unit, job: Job) -> Found:
    """Allow nodes-not-counted.

    ## What it does
    Finds `num_nodes` above 1 with a LitGPT that leaves the nodes out of its batch arithmetic.

    ## Why is this bad?
    The steps of gradient accumulation are computed from the devices of one node, so the global batch is `num_nodes` times
    as large as the file says, and warmup and logs count wrong steps.

    ## Example
    ```yaml pretrain.yaml litgpt=0.5.7
    model_name: pythia-1b
    devices: 8
    num_nodes: 4
    train:
      global_batch_size: 512
      micro_batch_size: 4
    ```

    ## Use instead
    ```yaml pretrain.yaml litgpt=0.5.8
    model_name: pythia-1b
    devices: 8
    num_nodes: 4
    train:
      global_batch_size: 512
      micro_batch_size: 4
    ```

    ## Versions
    Before litgpt 0.5.8.

    ## References
    - Lightning-AI/litgpt#1927
    - Lightning-AI/litgpt#1947
    """
    nodes = unit.whole("num_nodes")
    if nodes and nodes > 1 and unit.before("0.5.8") and script(unit) is not None:
        message = f"this LitGPT leaves {unit['num_nodes'].shown} out of the batch: each step uses {nodes} times the global batch"
        yield Problem(
            unit["num_nodes"], message, advise("use litgpt 0.5.8 or later, or divide global_batch_size by num_nodes")
        )


@rule("LG009", "setting-of-the-other-script", tools=("litgpt",), harm="crash", causes=("unsupported-argument",))
def setting_of_the_other_script(unit: Unit, job: Job) -> Found:
    """Allow setting-of-the-other-script.

    ## What it does
    Finds settings that the script refuses: `train.max_tokens`, `train.max_norm`, `train.tie_embeddings` and
    `train.lr_warmup_fraction` in fine-tuning, `train.epochs` and `eval.max_new_tokens` in pretraining.

    ## Why is this bad?
    The two scripts share one set of arguments and each refuses what it does not use: "doesn't support the 'max_norm'
    argument".

    ## Example
    ```yaml finetune.yaml
    checkpoint_dir: checkpoints/meta-llama/Llama-3.2-1B
    lora_r: 16
    train:
      global_batch_size: 16
      micro_batch_size: 1
      max_norm: 1.0
    ```

    ## Use instead
    ```yaml finetune.yaml
    checkpoint_dir: checkpoints/meta-llama/Llama-3.2-1B
    lora_r: 16
    train:
      global_batch_size: 16
      micro_batch_size: 1
      max_norm: null
    ```

    ## Versions
    All.

    ## References
    - litgpt 0.5.13, finetune/lora.py, validate_args
    - litgpt 0.5.13, pretrain.py, validate_args
    """
    kind = script(unit)
    for name in UNSUPPORTED[kind] if kind else ():
        setting = unit.settings.get(name)
        if setting is None or not setting.known or setting.value is None:
            continue
        if name == "train.lr_warmup_fraction" and used(unit, "train.lr_warmup_steps"):
            continue  # LG001 says it
        yield Problem(setting, f"litgpt {kind} does not support {setting.shown}", remove(setting))


@rule("LG010", "required-setting-emptied", tools=("litgpt",), harm="crash", causes=("required-argument",))
def required_setting_emptied(unit: Unit, job: Job) -> Found:
    """Allow required-setting-emptied.

    ## What it does
    Finds null for a setting that the script requires: `train.epochs` and `eval.max_new_tokens` in fine-tuning,
    `train.max_tokens` and `train.max_norm` in pretraining.

    ## Why is this bad?
    Null takes the default away: "requires the 'epochs' argument". Fine-tuning wants epochs also where `max_steps` ends the
    run.

    ## Example
    ```yaml finetune.yaml
    checkpoint_dir: checkpoints/meta-llama/Llama-3.2-1B
    lora_r: 16
    train:
      global_batch_size: 16
      micro_batch_size: 1
      epochs: null
      max_steps: 1000
    ```

    ## Use instead
    ```yaml finetune.yaml
    checkpoint_dir: checkpoints/meta-llama/Llama-3.2-1B
    lora_r: 16
    train:
      global_batch_size: 16
      micro_batch_size: 1
      epochs: 5
      max_steps: 1000
    ```

    ## Versions
    All.

    ## References
    - litgpt 0.5.13, finetune/lora.py, validate_args
    - litgpt 0.5.13, pretrain.py, validate_args
    """
    kind = script(unit)
    for name, default in REQUIRED[kind].items() if kind else ():
        setting = unit.settings.get(name)
        if setting is not None and setting.known and setting.value is None:
            fix = (
                set_value(setting, default, why="the default")
                if setting.at.text
                else advise(f"give {name} a value, e.g. {default}")
            )
            yield Problem(setting, f"litgpt {kind} requires {name}", fix)


@rule("LG011", "resume-and-initial-checkpoint", tools=("litgpt",), harm="crash", causes=("resume-conflict",))
def resume_and_initial_checkpoint(unit: Unit, job: Job) -> Found:
    """Allow resume-and-initial-checkpoint.

    ## What it does
    Finds `resume` together with `initial_checkpoint_dir`.

    ## Why is this bad?
    Both say where the weights come from: "Can't provide both `--resume` and `--initial_checkpoint_dir`. Choose one."
    Continued pretraining that was cut off resumes without `initial_checkpoint_dir`.

    ## Example
    ```yaml pretrain.yaml
    model_name: pythia-160m
    initial_checkpoint_dir: checkpoints/EleutherAI/pythia-160m
    resume: auto
    train:
      global_batch_size: 64
      micro_batch_size: 4
    ```

    ## Use instead
    ```yaml pretrain.yaml
    model_name: pythia-160m
    resume: auto
    train:
      global_batch_size: 64
      micro_batch_size: 4
    ```

    ## Versions
    All.

    ## References
    - litgpt 0.5.13, pretrain.py, validate_args
    """
    resume, initial = used(unit, "resume"), used(unit, "initial_checkpoint_dir")
    if resume and initial:
        yield Problem(initial, f"{initial.shown} cannot be used with {resume.shown}", remove(initial), (resume,))
