"""The shape of a model that Megatron trains."""

from advisor_mcp.linting.edits import remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem
from advisor_mcp.linting.rules._mg import (
    add,
    find,
    flag,
    megatron_rule,
    missing,
    number,
    said,
    size,
    switch,
    text,
    whole,
)
from advisor_mcp.linting.unit import Unit


@megatron_rule(
    "MG030", "sequence-beyond-positions", harm="crash", causes=("seq-gt-max-pos", "max-seq-len"), tools=("megatron-lm",)
)
def sequence_beyond_positions(unit: Unit, job: Job) -> Found:
    """Allow sequence-beyond-positions.

    ## What it does
    Checks that `--max-position-embeddings` is at least the (decoder) sequence length.

    ## Why is this bad?
    Megatron stops: "max_position_embeddings must be greater than or equal to seq_length".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --seq-length 8192 --max-position-embeddings 4096
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --seq-length 8192 --max-position-embeddings 8192
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here, most = find(unit, "max_position_embeddings"), whole(unit, "max_position_embeddings")
    for name in ("seq_length", "decoder_seq_length"):
        length = whole(unit, name)
        if here is not None and most and length and length > most:
            yield Problem(here, f"{said(here)} is less than {flag(unit, name)} {length}", set_value(here, length))
            return


@megatron_rule("MG031", "hidden-size-heads-do-not-divide", harm="crash", causes=("hidden-heads",))
def hidden_size_heads_do_not_divide(unit: Unit, job: Job) -> Found:
    """Allow hidden-size-heads-do-not-divide.

    ## What it does
    Checks that the hidden size is a multiple of the attention heads where `--kv-channels` does not set the head size.

    ## Why is this bad?
    The head size is their quotient; Megatron stops with a bare assertion.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --hidden-size 4000 --num-attention-heads 32 \\
      --micro-batch-size 1 --seq-length 1024
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --hidden-size 2560 --num-attention-heads 48
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --hidden-size 2560 --num-attention-heads 40
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here, hidden, heads = (
        find(unit, "num_attention_heads"),
        whole(unit, "hidden_size"),
        whole(unit, "num_attention_heads"),
    )
    if (
        here is not None
        and hidden
        and heads
        and hidden % heads
        and missing(unit, "kv_channels", "multi_latent_attention")
    ):
        yield Problem(
            here,
            f"a hidden size of {hidden} cannot be cut into {heads} heads, and no --kv-channels says how large they are",
        )


@megatron_rule(
    "MG032",
    "query-groups-without-grouping",
    harm="wrong_result",
    severity="warning",
    causes=("query-groups-ignored",),
    tools=("megatron-lm",),
)
def query_groups_without_grouping(unit: Unit, job: Job) -> Found:
    """Allow query-groups-without-grouping.

    ## What it does
    Looks for `--num-query-groups` without `--group-query-attention`.

    ## Why is this bad?
    The number is only used with the switch. Without it the model gets as many key and value heads as query heads, with
    more parameters and a larger cache, and nothing says so.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-attention-heads 32 --num-query-groups 8
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-attention-heads 32 --group-query-attention \\
      --num-query-groups 8
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0, megatron/training/arguments.py, core_transformer_config_from_args
    - Megatron-LM main d98e8a64, megatron/training/argument_utils.py
    """
    here, groups = find(unit, "num_query_groups"), number(unit, "num_query_groups")
    if here is not None and groups and groups > 1 and missing(unit, "group_query_attention", "use_checkpoint_args"):
        yield Problem(
            here, f"{said(here)} has no effect without --group-query-attention", add(here, "group_query_attention")
        )


@megatron_rule("MG033", "grouped-latent-attention", harm="crash", causes=("mla-gqa",))
def grouped_latent_attention(unit: Unit, job: Job) -> Found:
    """Allow grouped-latent-attention.

    ## What it does
    Looks for grouped-query attention beside multi-latent attention, and for interleaved rotary embeddings with it.

    ## Why is this bad?
    Latent attention has its own way to share keys and values. Megatron stops: "Group query attention is mutually
    exclusive with multi latent attention".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --multi-latent-attention --group-query-attention \\
      --num-query-groups 8
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --multi-latent-attention
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM main d98e8a64, megatron/training/arguments.py, validate_args
    - Megatron-LM core_v0.19.0, megatron/core/transformer/transformer_config.py, __post_init__
    """
    latent = switch(unit, "multi_latent_attention")
    for name in ("group_query_attention", "rotary_interleaved"):
        here = switch(unit, name)
        if latent is not None and here is not None:
            yield Problem(here, f"{here.written} cannot be used with {latent.written}", remove(here), (latent,))


@megatron_rule(
    "MG034", "multi-token-prediction-positions", harm="crash", causes=("mtp-config",), tools=("megatron-lm",)
)
def multi_token_prediction_positions(unit: Unit, job: Job) -> Found:
    """Allow multi-token-prediction-positions.

    ## What it does
    Checks what multi-token prediction goes with: rotary or no position embedding, and in the first versions no context
    parallelism.

    ## Why is this bad?
    Megatron stops at start. The default position embedding is a learned one.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --mtp-num-layers 1 --position-embedding-type learned_absolute
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --mtp-num-layers 1 --position-embedding-type rope
    ```

    ## Versions
    Context parallelism is refused until core 0.13.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here, kind = find(unit, "mtp_num_layers"), find(unit, "position_embedding_type")
    if here is None or not number(unit, "mtp_num_layers"):
        return
    if kind is not None and text(unit, "position_embedding_type") not in ("rope", "none", None):
        yield Problem(
            kind,
            f"{said(here)} needs rotary or no position embedding, not {kind.value}",
            set_value(kind, "rope"),
            (here,),
        )
    if unit.before("0.14") and (size(unit, "context_parallel_size") or 1) > 1:
        yield Problem(here, "multi-token prediction cannot be used with context parallelism before core 0.14")
