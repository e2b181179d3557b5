"""LLM Foundry: the model, its layers and the device it is made on."""

from __future__ import annotations

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import unset, used
from advisor_mcp.linting.rules.fo_train import MEGABLOCKS
from advisor_mcp.linting.unit import Setting, Unit


def sharded(unit: Unit) -> Setting | None:
    """The section fsdp_config, where there is one."""
    return used(unit, "fsdp_config")


@rule("FO003", "init-device-without-sharding", tools=("llm-foundry",), harm="crash", causes=("init-device",))
def init_device_without_sharding(unit: Unit, job: Job) -> Found:
    """Allow init-device-without-sharding.

    ## What it does
    Finds `model.init_device` of `mixed` or `meta` without `fsdp_config`, and any other device than `cpu`, `meta` and
    `mixed`.

    ## Why is this bad?
    "Using init_device `mixed` is only supported with FSDP." `meta` is set back to `cpu` with a warning, so every process
    holds the whole model in host memory first. `cuda` fails an assertion.

    ## Example
    ```yaml train.yaml
    max_duration: 1ep
    model:
      name: hf_causal_lm
      pretrained_model_name_or_path: meta-llama/Meta-Llama-3-8B
      init_device: mixed
    train_loader:
      name: finetuning
    ```

    ## Use instead
    ```yaml train.yaml
    max_duration: 1ep
    model:
      name: hf_causal_lm
      pretrained_model_name_or_path: meta-llama/Meta-Llama-3-8B
      init_device: mixed
    train_loader:
      name: finetuning
    fsdp_config:
      sharding_strategy: FULL_SHARD
    ```

    ## Versions
    All.

    ## References
    - llm-foundry 0.22.0, utils/config_utils.py, process_init_device
    """
    device = used(unit, "model.init_device")
    if device is None:
        return
    if device.value not in ("cpu", "meta", "mixed"):
        yield Problem(device, f"{device.shown}: only cpu, meta and mixed are allowed", set_value(device, "cpu"))
    elif device.value != "cpu" and unset(unit, "fsdp_config"):
        mixed = device.value == "mixed"
        message = f"{device.shown} needs fsdp_config" + ("" if mixed else " and is set back to cpu")
        yield Problem(
            device, message, set_value(device, "cpu", why="or add fsdp_config"), (), "error" if mixed else "warning"
        )


@rule("FO004", "pretrained-on-meta", tools=("llm-foundry",), harm="crash", causes=("init-device-pretrained",))
def pretrained_on_meta(unit: Unit, job: Job) -> Found:
    """Allow pretrained-on-meta.

    ## What it does
    Finds `model.init_device: meta` for a Hugging Face model with pretrained weights, which is the default.

    ## Why is this bad?
    No process would load the weights: "Setting cfg.pretrained=True is not supported when init_device="meta"." `mixed`
    loads them on the first process and sends them to the others.

    ## Example
    ```yaml train.yaml
    max_duration: 1ep
    model:
      name: hf_causal_lm
      pretrained_model_name_or_path: meta-llama/Meta-Llama-3-8B
      pretrained: true
      init_device: meta
    train_loader:
      name: finetuning
    fsdp_config:
      sharding_strategy: FULL_SHARD
    ```

    ## Use instead
    ```yaml train.yaml
    max_duration: 1ep
    model:
      name: hf_causal_lm
      pretrained_model_name_or_path: meta-llama/Meta-Llama-3-8B
      pretrained: true
      init_device: mixed
    train_loader:
      name: finetuning
    fsdp_config:
      sharding_strategy: FULL_SHARD
    ```

    ## Versions
    All.

    ## References
    - llm-foundry 0.22.0, models/hf/hf_base.py, build_inner_model
    """
    device = used(unit, "model.init_device")
    if device is None or device.value != "meta" or not sharded(unit) or unit.text("model.name") != "hf_causal_lm":
        return
    if unit.truth("model.pretrained", True):
        yield Problem(device, "init_device: meta loads no pretrained weights", set_value(device, "mixed"))


@rule(
    "FO009",
    "eight-bit-floats-unused",
    tools=("llm-foundry",),
    harm="ignored",
    severity="warning",
    causes=("fp8-without-te",),
)
def eight_bit_floats_unused(unit: Unit, job: Job) -> Found:
    """Allow eight-bit-floats-unused.

    ## What it does
    Finds an fp8 `precision` for a model without layers of Transformer Engine.

    ## Why is this bad?
    "fp8 only supported for te.Linear layers": all other layers compute in bf16, and the run is no faster.

    ## Example
    ```yaml train.yaml
    max_duration: 1ep
    precision: amp_fp8
    model:
      name: mpt_causal_lm
      d_model: 4096
      n_heads: 32
    train_loader:
      name: text
    ```

    ## Use instead
    ```yaml train.yaml
    max_duration: 1ep
    precision: amp_fp8
    model:
      name: mpt_causal_lm
      d_model: 4096
      n_heads: 32
      fc_type: te
    train_loader:
      name: text
    ```

    ## Versions
    All.

    ## References
    - llm-foundry 0.22.0, command_utils/train.py, validate_config
    """
    precision = used(unit, "precision")
    if precision is None or "fp8" not in str(precision.value):
        return
    layers = (unit.text("model.fc_type", "torch"), unit.text("model.ffn_config.ffn_type", "mptmlp"))
    named = used(unit, "model.fc_type.name")
    if unit.absent("model") or None in layers or named or any("te" in str(layer) for layer in layers):
        return
    fix = add_after(unit["model.name"], "fc_type", "te") if "model.name" in unit else advise("set model.fc_type to te")
    yield Problem(precision, f"{precision.shown} needs layers of Transformer Engine", fix)


@rule(
    "FO010",
    "expert-parallelism-without-original-parameters",
    tools=("llm-foundry",),
    harm="crash",
    causes=("moe-orig-params",),
)
def expert_parallelism_without_original_parameters(unit: Unit, job: Job) -> Found:
    """Allow expert-parallelism-without-original-parameters.

    ## What it does
    Finds `moe_world_size` above 1 with `fsdp_config.use_orig_params: false`.

    ## Why is this bad?
    "MoEs with expert parallelism (moe_world_size 8 > 1) require `use_orig_params=True`."

    ## Example
    ```yaml train.yaml
    max_duration: 1ep
    model:
      name: mpt_causal_lm
      ffn_config:
        ffn_type: mb_dmoe
        moe_world_size: 8
    train_loader:
      name: text
    fsdp_config:
      use_orig_params: false
    ```

    ## Use instead
    ```yaml train.yaml
    max_duration: 1ep
    model:
      name: mpt_causal_lm
      ffn_config:
        ffn_type: mb_dmoe
        moe_world_size: 8
    train_loader:
      name: text
    fsdp_config:
      use_orig_params: true
    ```

    ## Versions
    All with MegaBlocks.

    ## References
    - llm-foundry 0.22.0, command_utils/train.py, validate_config
    """
    world, original = (
        unit.whole("model.ffn_config.moe_world_size"),
        unit.settings.get("fsdp_config.use_orig_params"),
    )
    if not world or world < 2 or original is None or unit.text("model.ffn_config.ffn_type") not in MEGABLOCKS:
        return
    if unit.truth("fsdp_config.use_orig_params") is False:
        places = (unit["model.ffn_config.moe_world_size"],)
        yield Problem(
            original, f"expert parallelism over {world} ranks needs use_orig_params", set_value(original, True), places
        )


@rule("FO011", "mpt-that-cannot-be-built", tools=("llm-foundry",), harm="crash", causes=("mpt-config",))
def mpt_that_cannot_be_built(unit: Unit, job: Job) -> Found:
    """Allow mpt-that-cannot-be-built.

    ## What it does
    Checks an MPT model's own numbers and names: `d_model` is a multiple of `n_heads`, `attn_impl` is `torch` or `flash`,
    `ffn_type` is not the renamed `mptgeglu`, `seq_parallel_world_size` is not above 1.

    ## Why is this bad?
    "d_model must be divisible by n_heads", "Unknown attn_impl=triton", "`ffn_type=="mptgeglu"` changed to
    `ffn_type=="mptglu"`", "Sequence Parallelism is not supported."

    ## Example
    ```yaml train.yaml
    max_duration: 1ep
    model:
      name: mpt_causal_lm
      d_model: 2048
      n_heads: 16
      attn_config:
        attn_impl: triton
    train_loader:
      name: text
    ```

    ## Use instead
    ```yaml train.yaml
    max_duration: 1ep
    model:
      name: mpt_causal_lm
      d_model: 2048
      n_heads: 16
      attn_config:
        attn_impl: flash
    train_loader:
      name: text
    ```

    ## Versions
    `triton` was taken out in llm-foundry 0.7, the rest holds for all.

    ## References
    - llm-foundry 0.22.0, models/mpt/configuration_mpt.py, _validate_config
    """
    if unit.text("model.name") != "mpt_causal_lm":
        return
    width, heads = unit.whole("model.d_model", 2048), unit.whole("model.n_heads", 16)
    if width and heads and width % heads:
        at = unit.setting("model.n_heads", "model.d_model")
        if at is not None:
            yield Problem(
                at, f"d_model {width} is not divisible by n_heads {heads}", advise("choose a divisor of d_model")
            )
    attention = used(unit, "model.attn_config.attn_impl")
    if attention and unit.since("0.7") and attention.value not in ("torch", "flash"):
        yield Problem(attention, f"{attention.shown}: only torch and flash are known", set_value(attention, "flash"))
    layers = used(unit, "model.ffn_config.ffn_type")
    if layers and layers.value == "mptgeglu":
        yield Problem(layers, f"{layers.shown} was renamed", set_value(layers, "mptglu", safe=True))
    sequence = unit.whole("model.attn_config.seq_parallel_world_size")
    if sequence and sequence > 1:
        at = unit["model.attn_config.seq_parallel_world_size"]
        yield Problem(at, f"{at.shown}: sequence parallelism is not supported", remove(at))


@rule("FO012", "mpt-from-the-hub", tools=("llm-foundry",), harm="crash", causes=("mpt-hub-model",))
def mpt_from_the_hub(unit: Unit, job: Job) -> Found:
    """Allow mpt-from-the-hub.

    ## What it does
    Finds a Hugging Face model of the series `mosaicml/mpt-...`.

    ## Why is this bad?
    "The MPT series of models on the Hugging Face Hub is no longer supported by LLM Foundry. Please use an older version of
    LLM Foundry (<0.18) or use a different model." The example files of LLM Foundry still name it.

    ## Example
    ```yaml train.yaml
    max_duration: 1ep
    model:
      name: hf_causal_lm
      pretrained_model_name_or_path: mosaicml/mpt-7b
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
    llm-foundry 0.18 and later.

    ## References
    - llm-foundry 0.22.0, models/hf/hf_base.py, build_inner_model
    """
    model = used(unit, "model.pretrained_model_name_or_path")
    if model and unit.since("0.18") and str(model.value).startswith("mosaicml/mpt"):
        yield Problem(
            model,
            f"{model.value} is refused since llm-foundry 0.18",
            advise("use llm-foundry before 0.18 or another model"),
        )
