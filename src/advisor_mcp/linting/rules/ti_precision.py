"""Number formats and recomputation in torchtitan."""

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ti import TITAN, compiled, converters, degree, degree_setting
from advisor_mcp.linting.unit import Unit

_AC_MODES = ("selective", "full", "memory_budget", "none")


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
    option, kind = (
        unit.setting("activation_checkpoint.selective_ac_option"),
        unit.text("activation_checkpoint.selective_ac_option"),
    )
    if here is not None and mode is not None and mode not in _AC_MODES:
        yield Problem(here, f"{here.shown} is not one of {', '.join(_AC_MODES)}", set_value(here, "selective"))
    elif here is not None and mode == "memory_budget" and compiled(unit) is False:
        enable = unit.setting("compile.enable")
        yield Problem(
            here,
            f"{here.shown} needs a compiled model",
            set_value(enable, True) if enable is not None else advise("set compile.enable"),
        )
    elif (
        option is not None and kind is not None and kind != "op" and not kind.isdigit() and mode in (None, "selective")
    ):
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


@rule(
    "TI037",
    "quantised-without-compile",
    tools=("torchtitan",),
    harm="slow",
    severity="warning",
    causes=("quant-compile",),
)
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
            yield Problem(
                unit["model.converters"],
                f"{names[0]} is slow without a compiled model",
                set_value(enable, True) if enable is not None else advise("set compile.enable"),
            )


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
    elif (
        tensor is not None
        and cut
        and unit.text("model.name") == "deepseek_v3"
        and "quantize.linear.float8" in names
        and recipe == "tensorwise"
    ):
        yield Problem(
            tensor, f"{tensor.shown} cannot be used with tensorwise float8 in deepseek_v3", set_value(tensor, 1)
        )
    for name in ("pipeline_parallel", "context_parallel"):
        other = degree_setting(unit, name)
        if other is not None and (degree(unit, name) or 1) > 1 and "quantize.grouped_mm.float8" in names:
            yield Problem(other, f"{other.shown} cannot be used with float8 experts", set_value(other, 1))


@rule(
    "TI042",
    "weights-without-a-master-copy",
    tools=("torchtitan",),
    harm="wrong_result",
    severity="info",
    causes=("bf16-weights",),
)
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
        yield Problem(
            here, "parameters and optimizer states in bfloat16 have no float32 copy", set_value(here, "float32")
        )
