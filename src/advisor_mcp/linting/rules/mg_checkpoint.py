"""Megatron's checkpoints, data and reproducibility."""

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem
from advisor_mcp.linting.rules._mg import (
    LM,
    add,
    find,
    megatron_rule,
    missing,
    number,
    off,
    on,
    said,
    size,
    switch,
    text,
)
from advisor_mcp.linting.unit import Unit

_EARLIER = {"Ring", "Tree", "CollnetDirect", "CollnetChain", "^NVLS"}


@megatron_rule("MG100", "saving-without-interval", harm="crash", causes=("save-interval",), tools=LM)
def saving_without_interval(unit: Unit, job: Job) -> Found:
    """Allow saving-without-interval.

    ## What it does
    Looks for `--save` without `--save-interval` in a training run, and for a retain interval that is no multiple of it.

    ## Why is this bad?
    Megatron stops with a bare assertion: a folder is named, and no time to write to it.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --train-iters 1000 --save ckpt
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --train-iters 1000 --save ckpt --save-interval 500
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here, retain, every = find(unit, "save"), find(unit, "save_retain_interval"), number(unit, "save_interval")
    if (
        here is not None
        and missing(unit, "save_interval", "use_checkpoint_args")
        and find(unit, "train_iters", "train_samples") is not None
    ):
        yield Problem(here, f"{here.written} needs --save-interval", add(here, "save_interval", 1000))
    kept = number(unit, "save_retain_interval")
    if retain is not None and kept and every and kept % every:
        yield Problem(
            retain,
            f"{said(retain)} is no multiple of --save-interval {every}",
            set_value(retain, max(1, round(kept / every)) * every),
        )


@megatron_rule(
    "MG101",
    "training-that-never-saves",
    harm="lost_work",
    severity="warning",
    causes=("save-interval-gt-iters",),
    tools=("megatron-lm", "megatron-bridge"),
)
def training_that_never_saves(unit: Unit, job: Job) -> Found:
    """Allow training-that-never-saves.

    ## What it does
    Compares the save interval with the number of iterations of a long run.

    ## Why is this bad?
    With an interval longer than the training only the end is saved: whatever stops the run before loses all of it.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --train-iters 5000 --save ckpt --save-interval 10000
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --train-iters 5000 --save ckpt --save-interval 500
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM main d98e8a64, megatron/training/training.py, checkpoint_and_decide_exit
    """
    here, every, total = find(unit, "save_interval"), number(unit, "save_interval"), number(unit, "train_iters")
    quiet = find(
        unit, "exit_interval", "non_persistent_save_interval", "exit_duration_in_mins", "phase_transition_iterations"
    )
    if (
        here is not None
        and find(unit, "save") is not None
        and every
        and total
        and every > total >= 1000
        and quiet is None
    ):
        yield Problem(
            here,
            f"{said(here)} is longer than the training of {int(total):,} iterations",
            set_value(here, max(1, int(total // 10))),
        )


@megatron_rule("MG102", "checkpoint-format-conflict", harm="crash", causes=("ckpt-format",), tools=LM)
def checkpoint_format_conflict(unit: Unit, job: Job) -> Found:
    """Allow checkpoint-format-conflict.

    ## What it does
    Checks `--ckpt-format torch_dcp` (only with torch's FSDP2, without tensor or pipeline parallelism), and the
    distributed optimizer without Gloo (only with a distributed format).

    ## Why is this bad?
    Megatron stops at start.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 2 --ckpt-format torch_dcp
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 2 --ckpt-format torch_dist
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here, kind = find(unit, "ckpt_format"), text(unit, "ckpt_format")
    if here is None:
        return
    model = max(size(unit, "tensor_model_parallel_size") or 1, size(unit, "pipeline_model_parallel_size") or 1)
    if kind == "torch_dcp" and (off(unit, "use_torch_fsdp2") or model > 1):
        yield Problem(here, f"{said(here)} goes with --use-torch-fsdp2 alone", set_value(here, "torch_dist"))
    elif (
        kind == "torch"
        and (gloo := switch(unit, "disable_gloo_process_groups")) is not None
        and on(unit, "use_distributed_optimizer")
    ):
        yield Problem(
            here, f"{said(here)} with the distributed optimizer needs Gloo", set_value(here, "torch_dist"), (gloo,)
        )


@megatron_rule(
    "MG103",
    "checkpoint-other-sizes-cannot-read",
    harm="lost_work",
    severity="info",
    causes=("ckpt-not-reshardable",),
    tools=LM,
)
def checkpoint_other_sizes_cannot_read(unit: Unit, job: Job) -> Found:
    """Allow checkpoint-other-sizes-cannot-read.

    ## What it does
    Looks for `--no-ckpt-fully-parallel-save` with the distributed optimizer and a distributed checkpoint.

    ## Why is this bad?
    Such a checkpoint can only be resumed with the same parallel sizes; Megatron says so once, at start.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --use-distributed-optimizer \\
      --no-ckpt-fully-parallel-save --save ckpt --save-interval 100
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --use-distributed-optimizer --save ckpt \\
      --save-interval 100
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here = switch(unit, "no_ckpt_fully_parallel_save")
    if (
        here is not None
        and on(unit, "use_distributed_optimizer")
        and text(unit, "ckpt_format", "torch_dist") not in (None, "torch")
    ):
        yield Problem(here, f"{here.written} makes checkpoints that other parallel sizes cannot resume", remove(here))


@megatron_rule("MG104", "several-data-sources", harm="crash", causes=("data-both",), tools=LM)
def several_data_sources(unit: Unit, job: Job) -> Found:
    """Allow several-data-sources.

    ## What it does
    Looks for more than one of mock data, one data path, and paths for each split; a path beside a file of paths; a
    split beside paths for each split.

    ## Why is this bad?
    Megatron stops: "A single data source must be provided in training mode, else None".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --mock-data --data-path my_text_document --split 99,1,0
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --data-path my_text_document --split 99,1,0
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    - Megatron-LM main d98e8a64, megatron/core/datasets/blended_megatron_dataset_config.py, __post_init__
    """
    each = find(unit, "train_data_path", "valid_data_path", "test_data_path")
    path, mock, split = find(unit, "data_path"), switch(unit, "mock_data"), find(unit, "split")
    given = [found for found in (path, each, mock) if found is not None]
    if len(given) > 1:
        yield Problem(
            given[-1],
            f"{given[-1].written} and {given[0].written} are both set, and only one source of data may be",
            remove(given[-1]),
            (given[0],),
        )
        return
    for first, second in (("data_path", "data_args_path"), ("train_data_path", "per_split_data_args_path")):
        one, two = find(unit, first), find(unit, second)
        if one is not None and two is not None:
            yield Problem(
                two, f"{two.written} and {one.written} are both set, and only one may be", remove(two), (one,)
            )
    if split is not None and (each or find(unit, "per_split_data_args_path")) is not None and path is None:
        yield Problem(split, f"{said(split)} cannot be used with data paths for each split", remove(split))


@megatron_rule("MG105", "default-data-split", harm="unintended", severity="info", causes=("split-missing",), tools=LM)
def default_data_split(unit: Unit, job: Job) -> Found:
    """Allow default-data-split.

    ## What it does
    Looks for a data path without `--split`.

    ## Why is this bad?
    Megatron takes 969, 30, 1 then: 3 % of the data is not trained on.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --train-iters 10 --data-path my_text_document
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --train-iters 10 --data-path my_text_document \\
      --split 990,10,0
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here = find(unit, "data_path")
    if (
        here is not None
        and missing(unit, "split")
        and find(unit, "train_iters", "train_samples") is not None
        and unit.entry_point.endswith("pretrain_gpt.py")
    ):
        yield Problem(here, f"{here.written} without --split takes 96.9 % for training", advise("set --split"))


@megatron_rule("MG106", "nondeterministic-determinism", harm="crash", causes=("deterministic-mode",), tools=LM)
def nondeterministic_determinism(unit: Unit, job: Job) -> Found:
    """Allow nondeterministic-determinism.

    ## What it does
    Checks what `--deterministic-mode` needs: no fused cross entropy, no overlapped tensor parallelism, an `NCCL_ALGO`
    with a fixed order, and no environment variable that allows other kernels.

    ## Why is this bad?
    Megatron stops at start.

    ## Example
    ```bash launch.sh
    export NCCL_ALGO=Ring
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --deterministic-mode --cross-entropy-loss-fusion
    ```

    ## Use instead
    ```bash launch.sh
    export NCCL_ALGO=Ring
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --deterministic-mode
    ```

    ## Versions
    All. Tree is accepted until core 0.18; flash attention was refused until then.

    ## References
    - Megatron-LM core_v0.12.0 to core_v0.17.0, megatron/training/arguments.py, validate_args
    - Megatron-LM main d98e8a64, megatron/training/determinism.py
    """
    here = switch(unit, "deterministic_mode")
    if here is None:
        return
    for name in ("cross_entropy_loss_fusion", "tp_comm_overlap", *(("use_flash_attn",) if unit.before("0.18") else ())):
        found = switch(unit, name)
        if found is not None:
            yield Problem(found, f"{found.written} cannot be used with {here.written}", remove(found), (here,))
    held, allowed = unit.env.get("NCCL_ALGO"), _EARLIER if unit.before("0.18") else _EARLIER - {"Tree"}
    if held is not None and held.known and not set(str(held.value).split(",")) <= allowed:
        yield Problem(
            held,
            f"{here.written} takes an NCCL_ALGO of {', '.join(sorted(allowed))}, not {held.value}",
            set_value(held, "Ring"),
            (here,),
        )
    for variable, value in (("NVTE_ALLOW_NONDETERMINISTIC_ALGO", "0"), ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")):
        found = unit.env.get(variable)
        if found is not None and found.known and unit.since("0.19") and str(found.value) not in (value, ":16:8"):
            yield Problem(
                found,
                f"{here.written} needs {variable}={value}, and it is {found.value}",
                set_value(found, value),
                (here,),
            )


@megatron_rule("MG107", "unstable-fused-cross-entropy", harm="crash", causes=("ce-fusion-te",), tools=LM)
def unstable_fused_cross_entropy(unit: Unit, job: Job) -> Found:
    """Allow unstable-fused-cross-entropy.

    ## What it does
    Looks for Transformer Engine's fused cross entropy.

    ## Why is this bad?
    It has known stability issues; the newest Megatron-LM refuses it at start.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --cross-entropy-loss-fusion \\
      --cross-entropy-fusion-impl te
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --cross-entropy-loss-fusion \\
      --cross-entropy-fusion-impl native
    ```

    ## Versions
    Refused from core 0.19 on.

    ## References
    - Megatron-LM core_v0.19.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here = find(unit, "cross_entropy_fusion_impl")
    if here is not None and here.value == "te" and on(unit, "cross_entropy_loss_fusion"):
        yield Problem(
            here,
            "Transformer Engine's fused cross entropy is unstable",
            set_value(here, "native"),
            severity=None if unit.since("0.19") else "warning",
        )


@megatron_rule(
    "MG108",
    "asynchronous-save-that-is-not",
    harm="ignored",
    severity="warning",
    causes=("async-save",),
    tools=("megatron-lm", "megatron-bridge"),
)
def asynchronous_save_that_is_not(unit: Unit, job: Job) -> Found:
    """Allow asynchronous-save-that-is-not.

    ## What it does
    Looks for `--async-save` with a checkpoint format that cannot be written in the background.

    ## Why is this bad?
    Only the distributed formats can. Megatron-Bridge stops; Megatron-LM raises when it saves for the first time, after
    hours of training.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --save ckpt --save-interval 100 --async-save \\
      --ckpt-format torch
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --save ckpt --save-interval 100 --async-save \\
      --ckpt-format torch_dist
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM main d98e8a64, megatron/training/checkpointing.py, save_checkpoint
    - megatron-bridge 0.6.2, megatron/bridge/training/config.py, ConfigContainer.validate
    """
    here, form, kind = switch(unit, "async_save"), find(unit, "ckpt_format"), text(unit, "ckpt_format")
    if here is not None and form is not None and kind not in (None, "torch_dist", "fsdp_dtensor"):
        yield Problem(
            form,
            f"{here.written} needs the format torch_dist, not {kind}",
            set_value(form, "torch_dist"),
            (here,),
            severity="error",
        )


@megatron_rule("MG109", "positions-switched-off-twice", harm="crash", causes=("no-position-embedding",), tools=LM)
def positions_switched_off_twice(unit: Unit, job: Job) -> Found:
    """Allow positions-switched-off-twice.

    ## What it does
    Looks for `--no-position-embedding` in a model without rotary embeddings.

    ## Why is this bad?
    The option is left from old scripts. Megatron stops: "--no-position-embedding is deprecated, use
    --position-embedding-type".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --no-position-embedding
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --position-embedding-type none
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here, kind = (
        switch(unit, "no_position_embedding"),
        text(unit, "position_embedding_type", None if unit.open else "learned_absolute"),
    )
    if here is not None and kind not in (None, "rope") and off(unit, "use_rotary_position_embeddings"):
        fix = (
            remove(here)
            if find(unit, "position_embedding_type")
            else advise("write --position-embedding-type none (or rope)")
        )
        yield Problem(here, f"{here.written} is only accepted with rotary embeddings", fix)


@megatron_rule("MG110", "unneeded-main-parameters", harm="crash", causes=("load-main-params",), tools=LM)
def unneeded_main_parameters(unit: Unit, job: Job) -> Found:
    """Allow unneeded-main-parameters.

    ## What it does
    Checks pairs of loading options: `--load-main-params-from-ckpt` needs `--no-load-optim`; a checkpoint iteration that
    is overridden excludes `--finetune`; upcycling needs `--save`.

    ## Why is this bad?
    Megatron stops at start.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --load ckpt --load-main-params-from-ckpt
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --load ckpt --load-main-params-from-ckpt \\
      --no-load-optim
    ```

    ## Versions
    From core 0.13 on.

    ## References
    - Megatron-LM main d98e8a64, megatron/training/arguments.py, validate_args
    """
    for wanting, wanted in (("load_main_params_from_ckpt", "no_load_optim"),):
        here = switch(unit, wanting)
        if here is not None and off(unit, wanted):
            yield Problem(here, f"{here.written} needs --{wanted.replace('_', '-')}", add(here, wanted))
    moved, tuned, upcycled = (
        find(unit, "override_ckpt_iteration"),
        switch(unit, "finetune"),
        switch(unit, "moe_use_upcycling"),
    )
    if moved is not None and tuned is not None:
        yield Problem(moved, f"{said(moved)} cannot be used with {tuned.written}", remove(moved), (tuned,))
    if upcycled is not None and missing(unit, "save"):
        yield Problem(upcycled, f"{upcycled.written} needs --save")
