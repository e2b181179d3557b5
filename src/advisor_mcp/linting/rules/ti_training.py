"""torchtitan's schedule, checkpoints, compiler and quantisation."""

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ti import TITAN, compiled, converters, degree, degree_setting, whole
from advisor_mcp.linting.unit import Unit

_AC_MODES = ("selective", "full", "memory_budget", "none")


@rule("TI030", "warmup-longer-than-the-training", tools=TITAN, harm="wrong_lr", severity="warning", causes=("warmup-gt-steps",))
def warmup_longer_than_the_training(unit: Unit, job: Job) -> Found:
    """Allow warmup-longer-than-the-training.

    ## What it does
    Checks that warm-up, and warm-up plus decay, fit into the steps of the training (or `lr_scheduler.total_steps`).

    ## Why is this bad?
    torchtitan cuts them with a warning: the learning rate is never reached, or never decays.

    ## Example
    ```toml train.toml
    [lr_scheduler]
    warmup_steps = 2000
    [training]
    steps = 1000
    ```

    ## Use instead
    ```toml train.toml
    [lr_scheduler]
    warmup_steps = 100
    [training]
    steps = 1000
    ```

    ## Versions
    All.

    ## References
    - torchtitan 0.2.2, torchtitan/components/lr_scheduler.py, build_lr_schedulers
    """
    here, warmup = unit.setting("lr_scheduler.warmup_steps"), whole(unit, "lr_scheduler.warmup_steps", 200)
    end = unit.setting("lr_scheduler.total_steps", "training.steps")
    total = whole(unit, end.name) if end is not None else None
    share, ratio = unit.number("lr_scheduler.decay_ratio"), unit.setting("lr_scheduler.decay_ratio")
    if end is None or not total or warmup is None:
        return
    if warmup >= total and total > 1:
        at = here or end
        fix = set_value(here, max(1, total // 10)) if here is not None else advise("set lr_scheduler.warmup_steps")
        was = here.shown if here is not None else f"the default warm-up of {warmup} steps"
        yield Problem(at, f"{was} is not less than {end.shown}", fix, (end,))
    elif ratio is not None and share and here is not None and warmup + round(total * share) > total:
        yield Problem(ratio, f"{warmup} steps of warm-up and {share:.0%} of {total} steps of decay are more than the training", set_value(ratio, round(1 - warmup / total, 3)), (here,))


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
    for wanting, wanted in (("last_save_in_hf", "last_save_model_only"), ("initial_load_in_hf", "initial_load_model_only")):
        here, other = unit.setting(f"checkpoint.{wanting}"), unit.setting(f"checkpoint.{wanted}")
        if here is not None and other is not None and unit.truth(here.name) is True and unit.truth(other.name) is False:
            yield Problem(other, f"{here.shown} needs {wanted}", set_value(other, True), (here,))
    here, other = unit.setting("checkpoint.initial_load_in_hf_quantized"), unit.setting("checkpoint.initial_load_in_hf")
    if here is not None and unit.truth(here.name) is True and unit.tool == "torchtitan" and unit.truth("checkpoint.initial_load_in_hf") is False:
        yield Problem(here, f"{here.shown} needs initial_load_in_hf", set_value(other, True) if other is not None else None)


@rule("TI033", "checkpoint-that-is-not-loaded", tools=("torchtitan",), harm="ignored", severity="warning", causes=("ckpt-disabled",))
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
    here, enable = unit.setting("checkpoint.initial_load_path", "checkpoint.initial_load_in_hf", "checkpoint.load_step"), unit.setting("checkpoint.enable")
    old = unit.setting("checkpoint.enable_checkpoint")
    wanted = here is not None and here.value not in (None, "", False, -1)
    if here is None or not wanted or old is not None or unit.truth("checkpoint.enable", False) is not False or here.syntax == "python":
        return
    fix = set_value(enable, True) if enable is not None else add_after(here, "enable", True)
    yield Problem(here, f"{here.shown} is not read: checkpoints are off", fix, (enable,) if enable is not None else ())


@rule("TI034", "only-the-last-checkpoint", tools=("torchtitan",), harm="lost_work", severity="info", causes=("save-interval-gt-iters",))
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
    here, every, steps = unit.setting("checkpoint.interval"), whole(unit, "checkpoint.interval"), whole(unit, "training.steps")
    if here is not None and every and steps and every > steps >= 1000 and unit.truth("checkpoint.enable", False):
        yield Problem(here, f"{here.shown} is longer than the training of {steps:,} steps", set_value(here, max(1, steps // 10)))


@rule("TI035", "activation-checkpointing-of-no-kind", tools=TITAN, harm="crash", causes=("ac-config",))
def activation_checkpointing_of_no_kind(unit: Unit, job: Job) -> Found:
    """Allow activation-checkpointing-of-no-kind.

    ## What it does
    Checks the mode of activation checkpointing, the option of the selective one (`op` or a number), and that the memory
    budget goes with a compiled model.

    ## Why is this bad?
    torchtitan stops: "Invalid AC mode", "Memory budget mode requires model to be compiled".

    ## Example
    ```toml train.toml
    [training]
    steps = 1000
    [activation_checkpoint]
    mode = "memory_budget"
    [compile]
    enable = false
    ```

    ## Use instead
    ```toml train.toml
    [training]
    steps = 1000
    [activation_checkpoint]
    mode = "memory_budget"
    [compile]
    enable = true
    ```

    ## Versions
    0.2; `memory_budget` from 0.2.1 on.

    ## References
    - torchtitan 0.2.2, torchtitan/distributed/activation_checkpoint.py
    """
    here, mode = unit.setting("activation_checkpoint.mode"), unit.text("activation_checkpoint.mode")
    option, kind = unit.setting("activation_checkpoint.selective_ac_option"), unit.text("activation_checkpoint.selective_ac_option")
    if here is not None and mode is not None and mode not in _AC_MODES:
        yield Problem(here, f"{here.shown} is not one of {', '.join(_AC_MODES)}", set_value(here, "selective"))
    elif here is not None and mode == "memory_budget" and compiled(unit) is False:
        enable = unit.setting("compile.enable")
        yield Problem(here, f"{here.shown} needs a compiled model", set_value(enable, True) if enable is not None else advise("set compile.enable"))
    elif option is not None and kind is not None and kind != "op" and not kind.isdigit() and mode in (None, "selective"):
        yield Problem(option, f"{option.shown} is neither op nor a number of layers", set_value(option, "op"))


@rule("TI036", "float8-recipe-with-gathered-float8", tools=TITAN, harm="crash", causes=("float8-recipe-fsdp",))
def float8_recipe_with_gathered_float8(unit: Unit, job: Job) -> Found:
    """Allow float8-recipe-with-gathered-float8.

    ## What it does
    Looks for a float8 recipe by name beside `enable_fsdp_float8_all_gather`, and for float8 and MX formats together.

    ## Why is this bad?
    torchtitan stops: gathering in float8 is only supported without a named recipe, and a model has one format.

    ## Example
    ```toml train.toml
    [model]
    converters = ["quantize.linear.float8"]
    [quantize.linear.float8]
    recipe_name = "rowwise"
    enable_fsdp_float8_all_gather = true
    ```

    ## Use instead
    ```toml train.toml
    [model]
    converters = ["quantize.linear.float8"]
    [quantize.linear.float8]
    recipe_name = "rowwise"
    ```

    ## Versions
    0.2.

    ## References
    - torchtitan 0.2.2, torchtitan/components/quantization/float8.py
    - torchtitan 0.2.2, torchtitan/components/quantization/__init__.py
    """
    for section in ("quantize.linear.float8", "float8"):
        here, recipe = unit.setting(f"{section}.enable_fsdp_float8_all_gather"), unit.setting(f"{section}.recipe_name")
        if here is not None and recipe is not None and recipe.value and unit.truth(here.name) is True:
            yield Problem(here, f"{here.shown} cannot be used with {recipe.shown}", remove(here), (recipe,))
    kinds = {name.rpartition(".")[2] for name in converters(unit) if "quantize" in name}
    if len(kinds) > 1:
        yield Problem(unit["model.converters"], f"converters to {' and '.join(sorted(kinds))} cannot be combined")


@rule("TI037", "quantised-without-compile", tools=("torchtitan",), harm="slow", severity="warning", causes=("quant-compile",))
def quantised_without_compile(unit: Unit, job: Job) -> Found:
    """Allow quantised-without-compile.

    ## What it does
    Looks for float8 or MX training without a compiled model.

    ## Why is this bad?
    Uncompiled, the scaling runs as many small kernels and costs more than the faster products save. torchtitan warns.

    ## Example
    ```toml train.toml
    [model]
    converters = ["quantize.linear.float8"]
    [compile]
    enable = false
    ```

    ## Use instead
    ```toml train.toml
    [model]
    converters = ["quantize.linear.float8"]
    [compile]
    enable = true
    ```

    ## Versions
    All.

    ## References
    - torchtitan 0.2.2, torchtitan/components/quantization/mx.py
    - torchtitan 0.2.2, torchtitan/components/quantization/float8.py
    """
    names = [name for name in converters(unit) if name.rpartition(".")[2] in ("float8", "mx", "mxfp8")]
    emulated = any(unit.truth(f"{section}.emulate") for section in ("quantize.linear.float8", "float8"))
    if names and compiled(unit) is False and not emulated and unit["model.converters"].syntax != "python":
        enable = unit.setting("compile.enable", "training.compile")
        if enable is None or unit.truth(enable.name) is False:
            yield Problem(unit["model.converters"], f"{names[0]} is slow without a compiled model", set_value(enable, True) if enable is not None else advise("set compile.enable"))


@rule("TI038", "quantised-parallelism", tools=TITAN, harm="crash", causes=("quant-parallel",))
def quantised_parallelism(unit: Unit, job: Job) -> Found:
    """Allow quantised-parallelism.

    ## What it does
    Looks for quantised training with parallelism that it does not take: MX with compiled tensor parallelism, float8
    experts with pipeline or context parallelism, tensorwise float8 with tensor parallelism in DeepSeek.

    ## Why is this bad?
    torchtitan stops, for instance with "TP not yet supported with torch.compile for mxfp8".

    ## Example
    ```toml train.toml
    [model]
    converters = ["quantize.linear.mx"]
    [compile]
    enable = true
    [parallelism]
    tensor_parallel_degree = 2
    ```

    ## Use instead
    ```toml train.toml
    [model]
    converters = ["quantize.linear.mx"]
    [compile]
    enable = true
    [parallelism]
    tensor_parallel_degree = 1
    ```

    ## Versions
    0.2.

    ## References
    - torchtitan 0.2.2, torchtitan/components/quantization/mx.py
    - torchtitan 0.2.2, torchtitan/components/quantization/float8.py
    - torchtitan 0.2.2, torchtitan/models/deepseek_v3/infra/parallelize.py
    """
    names = converters(unit)
    tensor = degree_setting(unit, "tensor_parallel")
    cut = tensor is not None and (degree(unit, "tensor_parallel") or 1) > 1
    recipe = unit.text("quantize.linear.float8.recipe_name") or "tensorwise"
    if tensor is not None and cut and "quantize.linear.mx" in names and compiled(unit):
        yield Problem(tensor, f"{tensor.shown} cannot be used with a compiled MX model", set_value(tensor, 1))
    elif tensor is not None and cut and unit.text("model.name") == "deepseek_v3" and "quantize.linear.float8" in names and recipe == "tensorwise":
        yield Problem(tensor, f"{tensor.shown} cannot be used with tensorwise float8 in deepseek_v3", set_value(tensor, 1))
    for name in ("pipeline_parallel", "context_parallel"):
        other = degree_setting(unit, name)
        if other is not None and (degree(unit, name) or 1) > 1 and "quantize.grouped_mm.float8" in names:
            yield Problem(other, f"{other.shown} cannot be used with float8 experts", set_value(other, 1))


@rule("TI039", "unknown-optimizer", tools=TITAN, harm="crash", causes=("optimizer-name",))
def unknown_optimizer(unit: Unit, job: Job) -> Found:
    """Allow unknown-optimizer.

    ## What it does
    Checks the optimizer's name: Adam or AdamW, in that spelling.

    ## Why is this bad?
    torchtitan stops: "Optimizer adamw not added".

    ## Example
    ```toml train.toml
    [training]
    steps = 1000
    [optimizer]
    name = "adamw"
    ```

    ## Use instead
    ```toml train.toml
    [training]
    steps = 1000
    [optimizer]
    name = "AdamW"
    ```

    ## Versions
    0.2; later versions and forks take more.

    ## References
    - torchtitan 0.2.2, torchtitan/components/optimizer.py, build_optimizers
    """
    here, name = unit.setting("optimizer.name"), unit.text("optimizer.name")
    if here is None or not name or name in ("Adam", "AdamW") or unit.text("job.custom_config_module") or unit.text("experimental.custom_import"):
        return
    near = {"adam": "Adam", "adamw": "AdamW"}.get(name.lower())
    if near or name in ("SGD", "sgd", "Adafactor"):
        yield Problem(here, f"{here.shown} is not Adam or AdamW", set_value(here, near or "AdamW"))


@rule("TI040", "endless-validation", tools=("torchtitan",), harm="hang", severity="warning", causes=("validation-steps",))
def endless_validation(unit: Unit, job: Job) -> Found:
    """Allow endless-validation.

    ## What it does
    Looks for a validation over all of its data (`steps = -1`, the default), and for one of 0 steps.

    ## Why is this bad?
    Ranks have different numbers of samples; those that are done first wait for the others for ever. 0 is refused.

    ## Example
    ```toml train.toml
    [training]
    steps = 1000
    [validation]
    enable = true
    steps = -1
    ```

    ## Use instead
    ```toml train.toml
    [training]
    steps = 1000
    [validation]
    enable = true
    steps = 100
    ```

    ## Versions
    0.2.

    ## References
    - torchtitan 0.2.2, torchtitan/components/validate.py
    - torchtitan 0.2.2, torchtitan/config/job_config.py, Validation
    """
    enable = unit.setting("validation.enable")
    here, steps = unit.setting("validation.steps") or enable, whole(unit, "validation.steps", -1)
    if enable is None or here is None or unit.truth("validation.enable") is not True or steps is None:
        return
    if steps == 0 or steps < -1:
        yield Problem(here, "a validation has 1 step or more", set_value(here, 100) if here is not enable else None, severity="error")
    elif steps == -1:
        fix = set_value(here, 100) if here is not enable else advise("set validation.steps")
        yield Problem(here, "a validation without a number of steps may wait for ever where ranks have different numbers of samples", fix)


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


@rule("TI042", "weights-without-a-master-copy", tools=("torchtitan",), harm="wrong_result", severity="info", causes=("bf16-weights",))
def weights_without_a_master_copy(unit: Unit, job: Job) -> Found:
    """Allow weights-without-a-master-copy.

    ## What it does
    Looks for `training.dtype = "bfloat16"`.

    ## Why is this bad?
    Parameters, gradients and optimizer states are then all in bfloat16, without a float32 copy: small updates of a long
    training are rounded away. Mixed precision (the default) computes in bfloat16 as well.

    ## Example
    ```toml train.toml
    [training]
    steps = 10000
    dtype = "bfloat16"
    [parallelism]
    tensor_parallel_degree = 1
    ```

    ## Use instead
    ```toml train.toml
    [training]
    steps = 10000
    dtype = "float32"
    [parallelism]
    tensor_parallel_degree = 1
    ```

    ## Versions
    All.

    ## References
    - torchtitan 0.2.2, torchtitan/config/job_config.py, Training
    """
    here = unit.setting("training.dtype")
    if here is not None and here.value == "bfloat16":
        yield Problem(here, "parameters and optimizer states in bfloat16 have no float32 copy", set_value(here, "float32"))
