"""Megatron's optimizer, its overlaps and its learning rate schedule."""

from advisor_mcp.linting.edits import advise, both, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem
from advisor_mcp.linting.rules._mg import (
    LM,
    add,
    find,
    flag,
    megatron_rule,
    missing,
    off,
    said,
    size,
    switch,
    text,
)
from advisor_mcp.linting.unit import Unit


@megatron_rule("MG080", "overlapped-gather-without-its-optimizer", harm="crash", causes=("overlap-needs-distopt",))
def overlapped_gather_without_its_optimizer(unit: Unit, job: Job) -> Found:
    """Allow overlapped-gather-without-its-optimizer.

    ## What it does
    Checks that `--overlap-param-gather` comes with the distributed optimizer (or Megatron-FSDP) and with
    `--overlap-grad-reduce`.

    ## Why is this bad?
    Parameters are only gathered where the optimizer is distributed. Megatron stops: "--overlap-param-gather only
    supported with distributed optimizer".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --overlap-param-gather --overlap-grad-reduce
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --use-distributed-optimizer \\
      --overlap-param-gather --overlap-grad-reduce
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here, kind = switch(unit, "overlap_param_gather"), text(unit, "optimizer", "adam")
    if here is None:
        return
    instead = switch(unit, "use_megatron_fsdp", "use_custom_fsdp") or (kind or "").startswith("dist_")
    lacking = [name for name in ("use_distributed_optimizer", "overlap_grad_reduce") if off(unit, name)]
    lacking = [name for name in lacking if not (instead and name == "use_distributed_optimizer")]
    sharded = text(unit, "data_parallel_sharding_strategy") in ("optim_grads", "optim_grads_params")
    lacking = [name for name in lacking if not (sharded and name == "overlap_grad_reduce")]
    if lacking:
        fix = (
            both(*(add(here, name) for name in lacking))
            if unit.tool == "megatron-lm"
            else advise("turn on " + " and ".join(lacking))
        )
        yield Problem(here, f"{here.written} needs {' and '.join(flag(unit, name) for name in lacking)}", fix)


@megatron_rule("MG081", "overlapped-optimizer-step", harm="crash", causes=("overlap-optimizer-step",), tools=LM)
def overlapped_optimizer_step(unit: Unit, job: Job) -> Found:
    """Allow overlapped-optimizer-step.

    ## What it does
    Checks what `--overlap-param-gather-with-optimizer-step` needs: the overlapped gather, virtual pipeline stages, and
    the legacy checkpoint format.

    ## Why is this bad?
    Megatron stops at start. The default checkpoint format is a distributed one.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --use-distributed-optimizer \\
      --overlap-grad-reduce --overlap-param-gather --overlap-param-gather-with-optimizer-step
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --use-distributed-optimizer \\
      --overlap-grad-reduce --overlap-param-gather
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here = switch(unit, "overlap_param_gather_with_optimizer_step")
    if here is None:
        return
    virtual = (
        "num_layers_per_virtual_pipeline_stage",
        "num_virtual_stages_per_pipeline_rank",
        "pipeline_model_parallel_layout",
        "hybrid_layer_pattern",
    )
    if off(unit, "overlap_param_gather"):
        yield Problem(here, f"{here.written} needs --overlap-param-gather", remove(here))
    elif missing(unit, *virtual):
        yield Problem(here, f"{here.written} needs virtual pipeline stages", remove(here))
    elif text(unit, "ckpt_format", None if unit.open else "torch_dist") not in (None, "torch"):
        yield Problem(here, f"{here.written} needs --ckpt-format torch", remove(here))


@megatron_rule("MG082", "fsdp2-conflict", harm="crash", causes=("fsdp2-conflict", "fsdp2-options"), tools=LM)
def fsdp2_conflict(unit: Unit, job: Job) -> Found:
    """Allow fsdp2-conflict.

    ## What it does
    Checks what `--use-torch-fsdp2` excludes (pipeline and expert parallelism, the distributed optimizer, fp16, muon)
    and needs (`--no-gradient-accumulation-fusion`, `--untie-embeddings-and-output-weights`, a distributed checkpoint).

    ## Why is this bad?
    Megatron stops at start, at one after the other.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --use-torch-fsdp2 --use-distributed-optimizer \\
      --no-gradient-accumulation-fusion --untie-embeddings-and-output-weights
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --use-torch-fsdp2 \\
      --no-gradient-accumulation-fusion --untie-embeddings-and-output-weights
    ```

    ## Versions
    All, with torch 2.4 or later.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here = switch(unit, "use_torch_fsdp2")
    if here is None:
        return
    for name in ("pipeline_model_parallel_size", "expert_model_parallel_size"):
        found = find(unit, name)
        if found is not None and (size(unit, name) or 1) > 1:
            yield Problem(found, f"{said(found)} cannot be used with {here.written}", set_value(found, 1), (here,))
            return
    for name in ("use_distributed_optimizer", "fp16", "use_megatron_fsdp"):
        found = switch(unit, name)
        if found is not None:
            yield Problem(found, f"{found.written} cannot be used with {here.written}", remove(found), (here,))
            return
    form = find(unit, "ckpt_format")
    if form is not None and text(unit, "ckpt_format") not in (None, "torch_dist", "torch_dcp"):
        yield Problem(
            form,
            f"{here.written} needs --ckpt-format torch_dist, not {form.value}",
            set_value(form, "torch_dist"),
            (here,),
        )
    for name in ("no_gradient_accumulation_fusion", "untie_embeddings_and_output_weights"):
        if off(unit, name):
            yield Problem(here, f"{here.written} needs --{name.replace('_', '-')}", add(here, name))
            return


@megatron_rule(
    "MG083",
    "megatron-fsdp-conflict",
    harm="crash",
    causes=("megatron-fsdp-conflict",),
    tools=("megatron-lm", "megatron-bridge"),
)
def megatron_fsdp_conflict(unit: Unit, job: Job) -> Found:
    """Allow megatron-fsdp-conflict.

    ## What it does
    Checks `--use-megatron-fsdp`: the checkpoint format must be `fsdp_dtensor`, the optimizer Adam or SGD, and no other
    FSDP beside it. And that `fsdp_dtensor` is not used without it.

    ## Why is this bad?
    Megatron stops: "Megatron-FSDP requires the `fsdp_dtensor` checkpointing format". The default format is another.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --use-distributed-optimizer --use-megatron-fsdp \\
      --ckpt-format torch_dist
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --use-distributed-optimizer --use-megatron-fsdp \\
      --ckpt-format fsdp_dtensor
    ```

    ## Versions
    From core 0.14 on.

    ## References
    - Megatron-LM core_v0.14.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    - megatron-bridge 0.6.2, megatron/bridge/training/config.py, ConfigContainer.validate
    """
    here, form, kind = switch(unit, "use_megatron_fsdp"), find(unit, "ckpt_format"), text(unit, "ckpt_format")
    if here is not None and form is not None and kind not in (None, "fsdp_dtensor") and unit.since("0.14"):
        yield Problem(
            form,
            f"{here.written} needs the checkpoint format fsdp_dtensor, not {kind}",
            set_value(form, "fsdp_dtensor"),
            (here,),
        )
    elif (
        here is not None
        and missing(unit, "ckpt_format")
        and find(unit, "save", "load") is not None
        and unit.since("0.16")
    ):
        yield Problem(
            here,
            f"{here.written} needs --ckpt-format fsdp_dtensor, and torch_dist is the default",
            add(here, "ckpt_format", "fsdp_dtensor"),
        )
    elif form is not None and kind == "fsdp_dtensor" and off(unit, "use_megatron_fsdp") and unit.tool == "megatron-lm":
        yield Problem(form, f"{said(form)} needs --use-megatron-fsdp", set_value(form, "torch_dist"))
    optimizer, torch = find(unit, "optimizer"), switch(unit, "use_torch_fsdp2")
    if (
        here is not None
        and optimizer is not None
        and isinstance(optimizer.value, str)
        and optimizer.value not in ("adam", "sgd")
    ):
        yield Problem(
            optimizer, f"{here.written} cannot be used with {said(optimizer)}", set_value(optimizer, "adam"), (here,)
        )
    if here is not None and torch is not None and unit.tool == "megatron-bridge":
        yield Problem(torch, f"{torch.written} and {here.written} cannot both be on", set_value(torch, False), (here,))


@megatron_rule("MG091", "emerging-optimizer-conflict", harm="crash", causes=("muon-conflict",), tools=LM)
def emerging_optimizer_conflict(unit: Unit, job: Job) -> Found:
    """Allow emerging-optimizer-conflict.

    ## What it does
    Looks for muon and the other newer optimizers with FSDP, or with a checkpoint format they cannot write.

    ## Why is this bad?
    Megatron stops: "Emerging optimizer does not support Torch-FSDP2 for now".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --optimizer muon --ckpt-format torch_dcp
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --optimizer muon --ckpt-format torch_dist
    ```

    ## Versions
    From core 0.16 on.

    ## References
    - Megatron-LM main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here, kind = find(unit, "optimizer"), text(unit, "optimizer", "adam")
    if here is None or kind in (None, "adam", "sgd"):
        return
    fsdp, form = switch(unit, "use_torch_fsdp2"), find(unit, "ckpt_format")
    if fsdp is not None:
        yield Problem(here, f"{said(here)} cannot be used with {fsdp.written}", set_value(here, "adam"), (fsdp,))
    elif form is not None and text(unit, "ckpt_format") not in (None, "torch", "torch_dist"):
        yield Problem(
            form,
            f"{said(here)} needs --ckpt-format torch_dist, not {form.value}",
            set_value(form, "torch_dist"),
            (here,),
        )
