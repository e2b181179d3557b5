"""What torchtitan saves and loads."""

from advisor_mcp.linting.edits import add_after, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ti import TITAN, whole
from advisor_mcp.linting.unit import Unit


@rule("TI031", "one-kept-checkpoint", tools=TITAN, harm="crash", causes=("keep-latest-k",))
def one_kept_checkpoint(unit: Unit, job: Job) -> Found:
    """Allow one-kept-checkpoint.

    ## What it does
    Looks for `keep_latest_k = 1`.

    ## Why is this bad?
    The one that is kept may be the one being written. torchtitan stops: "We need to maintain at least 2 checkpoint
    replicas". 0 keeps all.

    ## Example
    ```toml train.toml
    [training]
    steps = 1000
    [checkpoint]
    enable = true
    keep_latest_k = 1
    ```

    ## Use instead
    ```toml train.toml
    [training]
    steps = 1000
    [checkpoint]
    enable = true
    keep_latest_k = 2
    ```

    ## Versions
    All.

    ## References
    - torchtitan 0.2.2, torchtitan/components/checkpoint.py
    """
    here = unit.setting("checkpoint.keep_latest_k")
    if here is not None and whole(unit, here.name) == 1 and unit.truth("checkpoint.enable", True) is not False:
        yield Problem(here, f"{here.shown} keeps no complete checkpoint while one is written", set_value(here, 2))


@rule("TI032", "hugging-face-format-of-everything", tools=TITAN, harm="crash", causes=("hf-checkpoint-full",))
def hugging_face_format_of_everything(unit: Unit, job: Job) -> Found:
    """Allow hugging-face-format-of-everything.

    ## What it does
    Checks that checkpoints in Hugging Face's format hold the model only: `last_save_in_hf` with `last_save_model_only`,
    `initial_load_in_hf` with `initial_load_model_only`, the quantised form with `initial_load_in_hf`.

    ## Why is this bad?
    Safetensors hold no optimizer. torchtitan stops, for the last save after the whole training.

    ## Example
    ```toml train.toml
    [training]
    steps = 1000
    [checkpoint]
    enable = true
    last_save_in_hf = true
    last_save_model_only = false
    ```

    ## Use instead
    ```toml train.toml
    [training]
    steps = 1000
    [checkpoint]
    enable = true
    last_save_in_hf = true
    last_save_model_only = true
    ```

    ## Versions
    All.

    ## References
    - torchtitan 0.2.2, torchtitan/components/checkpoint.py
    """
    for wanting, wanted in (
        ("last_save_in_hf", "last_save_model_only"),
        ("initial_load_in_hf", "initial_load_model_only"),
    ):
        here, other = unit.setting(f"checkpoint.{wanting}"), unit.setting(f"checkpoint.{wanted}")
        if here is not None and other is not None and unit.truth(here.name) is True and unit.truth(other.name) is False:
            yield Problem(other, f"{here.shown} needs {wanted}", set_value(other, True), (here,))
    here, other = unit.setting("checkpoint.initial_load_in_hf_quantized"), unit.setting("checkpoint.initial_load_in_hf")
    if (
        here is not None
        and unit.truth(here.name) is True
        and unit.tool == "torchtitan"
        and unit.truth("checkpoint.initial_load_in_hf") is False
    ):
        yield Problem(
            here, f"{here.shown} needs initial_load_in_hf", set_value(other, True) if other is not None else None
        )


@rule(
    "TI033",
    "checkpoint-that-is-not-loaded",
    tools=("torchtitan",),
    harm="ignored",
    severity="warning",
    causes=("ckpt-disabled",),
)
def checkpoint_that_is_not_loaded(unit: Unit, job: Job) -> Found:
    """Allow checkpoint-that-is-not-loaded.

    ## What it does
    Looks for a checkpoint to begin from (`initial_load_path`, `initial_load_in_hf`, `load_step`) where checkpoints are
    off, which is the default.

    ## Why is this bad?
    Nothing is loaded and nothing said: the training begins from random weights.

    ## Example
    ```toml train.toml
    [training]
    steps = 1000
    [checkpoint]
    initial_load_path = "/models/llama3-8b"
    initial_load_in_hf = true
    ```

    ## Use instead
    ```toml train.toml
    [training]
    steps = 1000
    [checkpoint]
    enable = true
    initial_load_path = "/models/llama3-8b"
    initial_load_in_hf = true
    ```

    ## Versions
    All.

    ## References
    - torchtitan 0.2.2, torchtitan/components/checkpoint.py, load
    """
    here, enable = (
        unit.setting("checkpoint.initial_load_path", "checkpoint.initial_load_in_hf", "checkpoint.load_step"),
        unit.setting("checkpoint.enable"),
    )
    old = unit.setting("checkpoint.enable_checkpoint")
    wanted = here is not None and here.value not in (None, "", False, -1)
    if (
        here is None
        or not wanted
        or old is not None
        or unit.truth("checkpoint.enable", False) is not False
        or here.syntax == "python"
    ):
        return
    fix = set_value(enable, True) if enable is not None else add_after(here, "enable", True)
    yield Problem(here, f"{here.shown} is not read: checkpoints are off", fix, (enable,) if enable is not None else ())


@rule(
    "TI034",
    "only-the-last-checkpoint",
    tools=("torchtitan",),
    harm="lost_work",
    severity="info",
    causes=("save-interval-gt-iters",),
)
def only_the_last_checkpoint(unit: Unit, job: Job) -> Found:
    """Allow only-the-last-checkpoint.

    ## What it does
    Compares the checkpoint interval with the steps of a training of 1,000 steps or more.

    ## Why is this bad?
    Only the end is saved, and by default only the weights: a run that stops early starts over.

    ## Example
    ```toml train.toml
    [training]
    steps = 5000
    [checkpoint]
    enable = true
    interval = 10000
    ```

    ## Use instead
    ```toml train.toml
    [training]
    steps = 5000
    [checkpoint]
    enable = true
    interval = 500
    ```

    ## Versions
    All.

    ## References
    - torchtitan 0.2.2, torchtitan/config/job_config.py, Checkpoint
    """
    here, every, steps = (
        unit.setting("checkpoint.interval"),
        whole(unit, "checkpoint.interval"),
        whole(unit, "training.steps"),
    )
    if here is not None and every and steps and every > steps >= 1000 and unit.truth("checkpoint.enable", False):
        yield Problem(
            here, f"{here.shown} is longer than the training of {steps:,} steps", set_value(here, max(1, steps // 10))
        )


@rule("TI041", "seed-checkpoint-of-many", tools=TITAN, harm="crash", causes=("seed-checkpoint",))
def seed_checkpoint_of_many(unit: Unit, job: Job) -> Found:
    """Allow seed-checkpoint-of-many.

    ## What it does
    Looks for `create_seed_checkpoint` with more than one process, or with checkpoints off.

    ## Why is this bad?
    torchtitan stops: "Must create seed checkpoint using a single device, to disable sharding".

    ## Example
    ```toml train.toml world_size=8
    [training]
    steps = 1
    [checkpoint]
    enable = true
    create_seed_checkpoint = true
    ```

    ## Use instead
    ```toml train.toml world_size=1
    [training]
    steps = 1
    [checkpoint]
    enable = true
    create_seed_checkpoint = true
    ```

    ## Versions
    All.

    ## References
    - torchtitan 0.2.2, torchtitan/train.py
    """
    here, world = unit.setting("checkpoint.create_seed_checkpoint"), job.world_size(unit)
    if here is None or unit.truth(here.name) is not True:
        return
    if world is not None and world > 1:
        yield Problem(here, f"{here.shown} needs a single process, and there are {world}", remove(here))
    elif unit.tool == "torchtitan" and unit.truth("checkpoint.enable", False) is False:
        yield Problem(here, f"{here.shown} needs checkpoint.enable")
