"""Megatron's mixtures of experts."""

import re

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem
from advisor_mcp.linting.rules._mg import (
    add,
    find,
    flag,
    megatron_rule,
    missing,
    number,
    off,
    on,
    said,
    size,
    switch,
    text,
    whole,
)
from advisor_mcp.linting.unit import Unit


@megatron_rule(
    "MG050", "expert-parallelism-without-experts", harm="crash", causes=("ep-without-experts",), tools=("megatron-lm",)
)
def expert_parallelism_without_experts(unit: Unit, job: Job) -> Found:
    """Allow expert-parallelism-without-experts.

    ## What it does
    Looks for an expert-parallel size above 1 in a model without `--num-experts`.

    ## Why is this bad?
    Megatron stops: "num_experts must be non None to use expert model parallelism".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --expert-model-parallel-size 8
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --expert-model-parallel-size 8 --num-experts 64
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here = find(unit, "expert_model_parallel_size")
    if (
        here is not None
        and (size(unit, "expert_model_parallel_size") or 1) > 1
        and missing(unit, "num_experts", "use_checkpoint_args")
    ):
        yield Problem(here, f"{said(here)} needs --num-experts", remove(here))


@megatron_rule("MG051", "tensor-parallel-experts-without-sequence-parallelism", harm="crash", causes=("moe-tp-no-sp",))
def tensor_parallel_experts_without_sequence_parallelism(unit: Unit, job: Job) -> Found:
    """Allow tensor-parallel-experts-without-sequence-parallelism.

    ## What it does
    Looks for a mixture of experts with tensor parallelism and without sequence parallelism.

    ## Why is this bad?
    Every tensor-parallel rank would route the same tokens. The MoE layer refuses to train so: "During training,
    performance may degrade if MoE and tensor parallelism are enabled without also enabling sequence parallelism".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 8 --tensor-model-parallel-size 2 \\
      --train-iters 100
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 8 --tensor-model-parallel-size 2 \\
      --sequence-parallel --train-iters 100
    ```

    ## Versions
    All, for training; with expert parallelism core 0.12 to 0.14 stops already at start.

    ## References
    - Megatron-LM core_v0.12.0 to core_v0.16.0, megatron/core/transformer/moe/moe_layer.py, forward
    - Megatron-LM core_v0.12.0, megatron/core/model_parallel_config.py, __post_init__
    - NVIDIA-NeMo/RL#1075
    - ROCm/Megatron-LM#85
    """
    experts, here = find(unit, "num_experts"), find(unit, "tensor_model_parallel_size")
    if (
        experts is None
        or here is None
        or not number(unit, "num_experts")
        or (size(unit, "tensor_model_parallel_size") or 1) < 2
    ):
        return
    trains = find(unit, "train_iters", "train_samples", "global_batch_size")
    if off(unit, "sequence_parallel") and trains is not None and not on(unit, "skip_train"):
        yield Problem(
            here,
            f"{said(here)} with experts needs {flag(unit, 'sequence_parallel')}",
            add(here, "sequence_parallel"),
            (experts,),
        )


@megatron_rule("MG052", "one-expert-after-softmax", harm="crash", causes=("moe-topk1",), tools=("megatron-lm",))
def one_expert_after_softmax(unit: Unit, job: Job) -> Found:
    """Allow one-expert-after-softmax.

    ## What it does
    Looks for `--moe-router-topk 1` with the softmax taken after the choice.

    ## Why is this bad?
    A softmax over one value is 1 whatever the value, so that the router would get no gradient. Megatron stops: "Please
    use --moe-router-pre-softmax when topk is 1".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 8 --moe-router-topk 1
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 8 --moe-router-topk 1 \\
      --moe-router-pre-softmax
    ```

    ## Versions
    All; not with sinkhorn balancing or sigmoid scores.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/core/transformer/transformer_config.py, __post_init__
    """
    here = find(unit, "moe_router_topk")
    softmax = text(unit, "moe_router_score_function", "softmax") == "softmax"
    balancing = text(unit, "moe_router_load_balancing_type", "aux_loss")
    if (
        here is not None
        and number(unit, "moe_router_topk") == 1
        and softmax
        and balancing not in (None, "sinkhorn")
        and off(unit, "moe_router_pre_softmax")
    ):
        yield Problem(here, f"{said(here)} needs --moe-router-pre-softmax", add(here, "moe_router_pre_softmax"))


@megatron_rule("MG053", "more-chosen-than-experts", harm="crash", causes=("moe-topk-gt-experts",))
def more_chosen_than_experts(unit: Unit, job: Job) -> Found:
    """Allow more-chosen-than-experts.

    ## What it does
    Checks that the router chooses no more experts than there are.

    ## Why is this bad?
    The first forward pass fails: "selected index k out of range".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 4 --moe-router-topk 8
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 8 --moe-router-topk 4
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM main d98e8a64, megatron/core/transformer/moe/router.py
    """
    here, chosen, experts = find(unit, "moe_router_topk"), whole(unit, "moe_router_topk"), whole(unit, "num_experts")
    if here is not None and chosen and experts and chosen > experts:
        yield Problem(here, f"{said(here)} is more than the {experts} experts", set_value(here, min(2, experts)))


@megatron_rule("MG054", "expert-bias-with-softmax", harm="crash", causes=("moe-expert-bias",), tools=("megatron-lm",))
def expert_bias_with_softmax(unit: Unit, job: Job) -> Found:
    """Allow expert-bias-with-softmax.

    ## What it does
    Looks for `--moe-router-enable-expert-bias` without sigmoid scores.

    ## Why is this bad?
    Megatron stops: "Expert bias for aux-loss-free routing only supports sigmoid score function".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 8 --moe-router-enable-expert-bias
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 8 --moe-router-enable-expert-bias \\
      --moe-router-score-function sigmoid
    ```

    ## Versions
    All; later also sqrtsoftplus.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/core/transformer/transformer_config.py, __post_init__
    """
    here, score = switch(unit, "moe_router_enable_expert_bias"), find(unit, "moe_router_score_function")
    if (
        here is not None
        and text(unit, "moe_router_score_function", "softmax") == "softmax"
        and (score is not None or not unit.open)
    ):
        fix = set_value(score, "sigmoid") if score is not None else add(here, "moe_router_score_function", "sigmoid")
        yield Problem(here, f"{here.written} needs --moe-router-score-function sigmoid", fix)


@megatron_rule("MG058", "tensor-parallel-expert-bias", harm="crash", causes=("moe-bias-etp",), tools=("megatron-lm",))
def tensor_parallel_expert_bias(unit: Unit, job: Job) -> Found:
    """Allow tensor-parallel-expert-bias.

    ## What it does
    Looks for experts with biases in their linear layers (Megatron's default) that are cut by tensor parallelism.

    ## Why is this bad?
    Megatron stops: "Bias in Moe is only supported when ETP==1". The expert tensor-parallel size is the tensor-parallel
    size where it is not set.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 8 --tensor-model-parallel-size 2 \\
      --sequence-parallel
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 8 --tensor-model-parallel-size 2 \\
      --sequence-parallel --disable-bias-linear
    ```

    ## Versions
    From core 0.15 on.

    ## References
    - Megatron-LM core_v0.15.0 to main d98e8a64, megatron/core/transformer/transformer_config.py, __post_init__
    """
    experts = find(unit, "num_experts")
    here = find(unit, "expert_tensor_parallel_size", "tensor_model_parallel_size")
    cut = whole(unit, "expert_tensor_parallel_size") or size(unit, "tensor_model_parallel_size") or 1
    if experts is None or not number(unit, "num_experts") or here is None or cut < 2 or unit.before("0.15"):
        return
    if off(unit, "disable_bias_linear") and missing(unit, "add_bias_linear", "use_checkpoint_args"):
        yield Problem(here, f"{said(here)} cuts experts that have biases", add(here, "disable_bias_linear"), (experts,))


@megatron_rule("MG061", "half-precision-experts", harm="crash", causes=("moe-fp16",), tools=("megatron-lm",))
def half_precision_experts(unit: Unit, job: Job) -> Found:
    """Allow half-precision-experts.

    ## What it does
    Looks for expert parallelism in fp16, and for grouped expert products without bf16.

    ## Why is this bad?
    Versions before 0.16 stop: "Expert parallelism is not supported with fp16 training", "Currently GroupedGEMM for MoE
    only supports bf16 dtype".

    ## Example
    ```bash launch.sh megatron-core=0.14.0
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 8 --expert-model-parallel-size 8 --fp16
    ```

    ## Use instead
    ```bash launch.sh megatron-core=0.14.0
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 8 --expert-model-parallel-size 8 --bf16
    ```

    ## Versions
    Until core 0.15.

    ## References
    - Megatron-LM core_v0.12.0 to core_v0.15.0, megatron/training/arguments.py, validate_args
    """
    if unit.since("0.16"):
        return
    half, grouped = switch(unit, "fp16"), switch(unit, "moe_grouped_gemm")
    if half is not None and (size(unit, "expert_model_parallel_size") or 1) > 1:
        yield Problem(half, "expert parallelism cannot be used with fp16", advise("train in bf16"))
    elif grouped is not None and off(unit, "bf16"):
        yield Problem(grouped, f"{grouped.written} needs --bf16", advise("train in bf16"))


@megatron_rule(
    "MG062", "expert-pattern-of-another-length", harm="crash", causes=("moe-layer-freq",), tools=("megatron-lm",)
)
def expert_pattern_of_another_length(unit: Unit, job: Job) -> Found:
    """Allow expert-pattern-of-another-length.

    ## What it does
    Counts the layers of a `--moe-layer-freq` pattern such as `([0]*3+[1]*58)` against `--num-layers`.

    ## Why is this bad?
    The pattern says of every layer whether it has experts. Megatron stops: "Invalid length of moe_layer_pattern".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 8 --moe-layer-freq "([0]*3+[1]*28)"
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 8 --moe-layer-freq "([0]*3+[1]*29)"
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM main d98e8a64, megatron/training/training.py
    - Megatron-LM core_v0.12.0, megatron/core/models/gpt/gpt_layer_specs.py
    """
    here, pattern, layers = find(unit, "moe_layer_freq"), text(unit, "moe_layer_freq"), whole(unit, "num_layers")
    if (
        here is None
        or not pattern
        or not layers
        or not re.fullmatch(r"[\[\]()01*+,\s\d]+", pattern)
        or "[" not in pattern
    ):
        return
    parts = re.findall(r"\[([01,\s]*)\](?:\*(\d+))?", pattern)
    nested = re.search(r"\)\s*\*|\*\s*\(", pattern)
    length = sum(len([one for one in inside.split(",") if one.strip()]) * int(times or 1) for inside, times in parts)
    if not nested and length != layers:
        yield Problem(here, f"the pattern covers {length} layers, and the model has {layers}")
