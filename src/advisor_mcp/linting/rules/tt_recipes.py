"""torchtune: what its recipes check when they start."""

from __future__ import annotations

from pathlib import PurePosixPath

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import idle, used
from advisor_mcp.linting.rules._tt import is_lora, trains
from advisor_mcp.linting.unit import Unit

DTYPES = ("bf16", "fp32", "fp16", "fp64")


@rule("TT101", "accumulation-in-backward", tools=("torchtune",), harm="crash", causes=("optim-in-bwd-accum",))
def accumulation_in_backward(unit: Unit, job: Job) -> Found:
    """Allow accumulation-in-backward.

    ## What it does
    Finds `optimizer_in_bwd: true` with `gradient_accumulation_steps` above 1.

    ## Why is this bad?
    The optimizer steps during the backward pass and frees each gradient, so there is nothing to accumulate: "Gradient
    accumulation is not supported with optimizer in bwd."

    ## Example
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    gradient_accumulation_steps: 8
    optimizer_in_bwd: true
    ```

    ## Use instead
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    gradient_accumulation_steps: 1
    optimizer_in_bwd: true
    ```

    ## Versions
    All.

    ## References
    - meta-pytorch/torchtune#527
    - torchtune 0.6.1, recipes/full_finetune_single_device.py
    """
    fused, steps = used(unit, "optimizer_in_bwd"), unit.whole("gradient_accumulation_steps")
    if fused and steps and steps > 1:
        written = unit["gradient_accumulation_steps"]
        yield Problem(
            written,
            f"optimizer_in_bwd steps in every backward pass and cannot accumulate {steps}",
            set_value(written, 1),
            (fused,),
        )


@rule("TT102", "clipping-in-backward", tools=("torchtune",), harm="crash", causes=("optim-in-bwd-clip",))
def clipping_in_backward(unit: Unit, job: Job) -> Found:
    """Allow clipping-in-backward.

    ## What it does
    Finds `optimizer_in_bwd: true` with `clip_grad_norm`, or with a compiled optimizer step.

    ## Why is this bad?
    The norm of all gradients is not known before the first is used up: "Gradient clipping is not supported with optimizer
    in bwd."

    ## Example
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    clip_grad_norm: 1.0
    optimizer_in_bwd: true
    ```

    ## Use instead
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    clip_grad_norm: null
    optimizer_in_bwd: true
    ```

    ## Versions
    All; the compiled step since 0.7.

    ## References
    - meta-pytorch/torchtune#527
    - torchtune 0.6.1, recipes/full_finetune_single_device.py
    """
    fused, clip = used(unit, "optimizer_in_bwd"), unit.settings.get("clip_grad_norm")
    if fused and clip and clip.known and clip.value is not None:
        yield Problem(
            clip, f"optimizer_in_bwd leaves no gradients to clip ({clip.shown})", set_value(clip, None), (fused,)
        )
    if fused and (compiled := used(unit, "compile.optimizer_step")):
        yield Problem(
            compiled, "optimizer_in_bwd has no optimizer step to compile", set_value(compiled, False), (fused,)
        )


@rule("TT103", "half-precision-recipe", tools=("torchtune",), harm="crash", causes=("fp16-unsupported",))
def half_precision_recipe(unit: Unit, job: Job) -> Found:
    """Allow half-precision-recipe.

    ## What it does
    Finds `dtype: fp16` in a training recipe, and a `dtype` that torchtune does not know.

    ## Why is this bad?
    The recipes have no gradient scaler: "full fp16 training is not supported with this recipe. Please use bf16 or fp32
    instead." Other names: "Dtype bfloat16 must be one of fp16, bf16, fp32, fp64 for finetuning."

    ## Example
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    optimizer:
      _component_: torch.optim.AdamW
      lr: 2e-5
    epochs: 1
    dtype: fp16
    ```

    ## Use instead
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    optimizer:
      _component_: torch.optim.AdamW
      lr: 2e-5
    epochs: 1
    dtype: bf16
    ```

    ## Versions
    All.

    ## References
    - meta-pytorch/torchtune#482
    - torchtune 0.6.1, training/precision.py, get_dtype
    """
    dtype = unit.text("dtype")
    if dtype is None or "dtype" not in unit:
        return
    if dtype == "fp16" and trains(unit):
        yield Problem(
            unit["dtype"],
            "dtype fp16 cannot be trained in; there is no gradient scaler",
            set_value(unit["dtype"], "bf16"),
        )
    elif dtype not in DTYPES:
        meant = {"bfloat16": "bf16", "float16": "bf16", "half": "bf16", "float32": "fp32", "float": "fp32"}.get(
            dtype.removeprefix("torch.")
        )
        fix = set_value(unit["dtype"], meant) if meant else advise("use bf16 or fp32")
        yield Problem(unit["dtype"], f"torchtune has no dtype {dtype}; it has {', '.join(DTYPES)}", fix)


@rule(
    "TT107", "offloading-without-recomputation", tools=("torchtune",), harm="crash", causes=("activation-offloading",)
)
def offloading_without_recomputation(unit: Unit, job: Job) -> Found:
    """Allow offloading-without-recomputation.

    ## What it does
    Finds `enable_activation_offloading: true` without `enable_activation_checkpointing: true`, or on another device than
    CUDA or XPU.

    ## Why is this bad?
    What is offloaded are the inputs that checkpointing keeps: "enable_activation_offloading should only be True when
    enable_activation_checkpointing is True".

    ## Example
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    device: cuda
    enable_activation_checkpointing: false
    enable_activation_offloading: true
    ```

    ## Use instead
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    device: cuda
    enable_activation_checkpointing: true
    enable_activation_offloading: true
    ```

    ## Versions
    torchtune 0.4 and later.

    ## References
    - torchtune 0.6.1, recipes/full_finetune_distributed.py
    """
    offload = used(unit, "enable_activation_offloading")
    if offload is None:
        return
    if idle(unit, "enable_activation_checkpointing"):
        off = unit.settings.get("enable_activation_checkpointing")
        fix = set_value(off, True) if off else add_after(offload, "enable_activation_checkpointing", True)
        yield Problem(
            offload, "activation offloading needs enable_activation_checkpointing: true", fix, (off,) if off else ()
        )
    device = unit.text("device")
    if device and not device.startswith(("cuda", "xpu")):
        yield Problem(
            offload,
            f"activation offloading does not work on device {device}",
            set_value(offload, False),
            (unit["device"],),
        )


@rule("TT108", "output-inside-the-checkpoint", tools=("torchtune",), harm="crash", causes=("output-dir",))
def output_inside_the_checkpoint(unit: Unit, job: Job) -> Found:
    """Allow output-inside-the-checkpoint.

    ## What it does
    Finds a `checkpointer.output_dir` that is `checkpoint_dir` or lies inside it.

    ## Why is this bad?
    The new checkpoint would be copied over, or into, the old one: "The output directory cannot be the same as or a
    subdirectory of the checkpoint directory."

    ## Example
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    checkpointer:
      _component_: torchtune.training.FullModelHFCheckpointer
      checkpoint_dir: /tmp/Meta-Llama-3.1-8B-Instruct/
      output_dir: /tmp/Meta-Llama-3.1-8B-Instruct/out
    ```

    ## Use instead
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    checkpointer:
      _component_: torchtune.training.FullModelHFCheckpointer
      checkpoint_dir: /tmp/Meta-Llama-3.1-8B-Instruct/
      output_dir: /tmp/out
    ```

    ## Versions
    torchtune 0.5 and later.

    ## References
    - torchtune 0.6.1, training/checkpointing/_utils.py, check_outdir_not_in_ckptdir
    """
    for prefix in ("checkpointer", "teacher_checkpointer", "ref_checkpointer"):
        where, source = unit.text(f"{prefix}.output_dir"), unit.text(f"{prefix}.checkpoint_dir")
        if not where or not source or "${" in where + source or (unit.version is not None and unit.before("0.5")):
            continue
        out, checkpoint = PurePosixPath(where), PurePosixPath(source)
        if (trains(unit) and (out == checkpoint or checkpoint in out.parents)) or (
            out != checkpoint and checkpoint in out.parents
        ):
            also = (unit[f"{prefix}.checkpoint_dir"],)
            yield Problem(
                unit[f"{prefix}.output_dir"],
                "output_dir lies inside checkpoint_dir",
                advise("write to another folder"),
                also,
            )


@rule("TT109", "validation-without-data", tools=("torchtune",), harm="crash", causes=("eval-without-val",))
def validation_without_data(unit: Unit, job: Job) -> Found:
    """Allow validation-without-data.

    ## What it does
    Finds `run_val_every_n_steps` without `dataset_val`.

    ## Why is this bad?
    "run_val_every_n_steps is set but dataset_val is not configured".

    ## Example
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    run_val_every_n_steps: 100
    ```

    ## Use instead
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    run_val_every_n_steps: 100
    dataset_val:
      _component_: torchtune.datasets.alpaca_dataset
      split: train[95%:]
    ```

    ## Versions
    torchtune 0.7; 0.6 has no validation.

    ## References
    - meta-pytorch/torchtune@bd2a0fc, recipes/full_finetune_distributed.py
    """
    every = used(unit, "run_val_every_n_steps")
    if every and idle(unit, "dataset_val"):
        yield Problem(every, f"{every.shown} needs dataset_val", set_value(every, None))


@rule("TT110", "uneven-ppo-batches", tools=("torchtune",), harm="crash", causes=("batch-arithmetic",))
def uneven_ppo_batches(unit: Unit, job: Job) -> Found:
    """Allow uneven-ppo-batches.

    ## What it does
    Checks for PPO that `forward_batch_size` and `ppo_batch_size` divide `batch_size`, that `gradient_accumulation_steps`
    divides `ppo_batch_size`, and that `num_steps` holds at least one batch.

    ## Why is this bad?
    "batch_size (64) must be exactly divisible by forward_batch_size (48)."

    ## Example
    ```yaml recipe.yaml
    policy_model:
      _component_: torchtune.models.llama2.llama2_7b
    batch_size: 64
    forward_batch_size: 48
    ppo_batch_size: 32
    ```

    ## Use instead
    ```yaml recipe.yaml
    policy_model:
      _component_: torchtune.models.llama2.llama2_7b
    batch_size: 64
    forward_batch_size: 32
    ppo_batch_size: 32
    ```

    ## Versions
    All.

    ## References
    - torchtune 0.6.1, recipes/ppo_full_finetune_single_device.py, _validate_cfg
    """
    batch, ppo = unit.whole("batch_size"), unit.whole("ppo_batch_size")
    if not batch or not ppo:
        return
    for name in ("forward_batch_size", "ppo_batch_size"):
        part = unit.whole(name)
        if part and batch % part:
            yield Problem(unit[name], f"{name} {part} does not divide batch_size {batch}", None, (unit["batch_size"],))
    steps = unit.whole("gradient_accumulation_steps", 1)
    if steps and ppo % steps:
        yield Problem(
            unit["gradient_accumulation_steps"],
            f"{steps} accumulation steps do not divide ppo_batch_size {ppo}",
            None,
            (unit["ppo_batch_size"],),
        )
    total = unit.whole("num_steps")
    if total and total < batch:
        yield Problem(
            unit["num_steps"], f"num_steps {total} is less than one batch of {batch}", None, (unit["batch_size"],)
        )


@rule("TT114", "checkpoints-kept", tools=("torchtune",), harm="crash", causes=("keep-checkpoints",))
def checkpoints_kept(unit: Unit, job: Job) -> Found:
    """Allow checkpoints-kept.

    ## What it does
    Finds `checkpointer.keep_last_n_checkpoints` below 1, and, for Llama 4 with LoRA, whole checkpoints.

    ## Why is this bad?
    "keep_last_n_checkpoints must be greater than or equal to 1.", "For Llama4 training, you should set
    save_adapter_weights_only to True."

    ## Example
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    checkpointer:
      _component_: torchtune.training.FullModelHFCheckpointer
      model_type: LLAMA3
      keep_last_n_checkpoints: 0
    ```

    ## Use instead
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    checkpointer:
      _component_: torchtune.training.FullModelHFCheckpointer
      model_type: LLAMA3
      keep_last_n_checkpoints: 1
    ```

    ## Versions
    torchtune 0.7.

    ## References
    - meta-pytorch/torchtune@bd2a0fc, torchtune/training/checkpointing/_utils.py
    - meta-pytorch/torchtune@bd2a0fc, recipes/lora_finetune_distributed.py
    """
    kept = unit.number("checkpointer.keep_last_n_checkpoints")
    if kept is not None and kept < 1:
        where = unit["checkpointer.keep_last_n_checkpoints"]
        yield Problem(where, f"keep_last_n_checkpoints is {kept}; it must be at least 1", remove(where))
    if unit.text("checkpointer.model_type") == "LLAMA4" and is_lora(unit) and idle(unit, "save_adapter_weights_only"):
        held = unit.settings.get("save_adapter_weights_only")
        fix = set_value(held, True) if held else advise("set save_adapter_weights_only: true")
        yield Problem(
            held or unit["checkpointer.model_type"], "LoRA of Llama 4 needs save_adapter_weights_only: true", fix
        )
