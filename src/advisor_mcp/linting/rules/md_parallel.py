"""Parallel sizes against the model's own numbers: heads, experts, vocabulary."""

import math

from advisor_mcp.linting.concepts import HF_FAMILY
from advisor_mcp.linting.edits import Fix, advise, set_value
from advisor_mcp.linting.job import Job, ModelFacts
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.unit import Setting, Unit

SERVED = ("vllm", "sglang", "tensorrt-llm")
MEGATRON = ("megatron-lm", "megatron-bridge", "nemo")
# what a Megatron job says of its own model
OWN: dict[str, dict[str, str]] = {
    "megatron-lm": {"heads": "num_attention_heads", "groups": "num_query_groups", "experts": "num_experts"},
    "megatron-bridge": {
        "heads": "model.num_attention_heads",
        "groups": "model.num_query_groups",
        "experts": "model.num_moe_experts",
    },
    "nemo": {
        "heads": "model.num_attention_heads",
        "groups": "model.num_query_groups",
        "experts": "model.num_moe_experts",
    },
}


def smaller_divisor(size: int, *numbers: int) -> int:
    """The largest part of `size` ranks, so that the rest can be replicas, that divides all of the numbers."""
    return math.gcd(size, *numbers)


def _reduce(setting: Setting, size: int, *numbers: int) -> Fix:
    return set_value(setting, smaller_divisor(size, *numbers), why="the largest part of it that divides them")


@rule(
    "MD001",
    "indivisible-attention-heads",
    tools=(*SERVED, *MEGATRON, "torchtitan", "axolotl"),
    harm="crash",
    causes=("tp-heads",),
)
def indivisible_attention_heads(unit: Unit, job: Job) -> Found:
    """Allow indivisible-attention-heads.

    ## What it does
    Checks that the tensor-parallel size divides the model's attention heads. A Megatron job's own flags say how many
    there are; otherwise the model's configuration does.

    ## Why is this bad?
    Each rank computes whole heads; the engine stops at start: "Total number of attention heads (28) must be divisible by
    tensor parallel size (8)".

    ## Example
    ```bash serve.sh model={"num_attention_heads":28,"num_key_value_heads":4}
    vllm serve my/model --tensor-parallel-size 8
    ```

    ## Use instead
    ```bash serve.sh model={"num_attention_heads":28,"num_key_value_heads":4}
    vllm serve my/model --tensor-parallel-size 4
    ```

    ## Versions
    All. SGLang pads a few models' heads when attention runs data-parallel; it is then not reported.

    ## References
    - vllm 0.33.0, vllm/config/model.py, verify_with_parallel_config
    - vllm-project/vllm#2652, sgl-project/sglang#6771
    - megatron-core 0.19.2, megatron/core/transformer/transformer_config.py
    """
    setting = unit.named("tensor_parallel")
    size = unit.size("tensor_parallel")
    if setting is None or size is None or size <= 1:
        return
    if unit.tool == "sglang" and unit.truth("enable_dp_attention") is not False:
        return
    own = OWN.get(unit.tool)
    if own and own["heads"] in unit:
        heads, said = unit.number(own["heads"]), unit[own["heads"]].shown
        also: tuple[Setting, ...] = (unit[own["heads"]],)
    else:
        model = job.model(unit)
        if model is None or model.heads is None:
            if not own:
                yield Skipped("the model")
            return
        heads, said, also = model.heads, f"{model.said}: {model.heads} attention heads", ()
    if heads and heads % size:
        message = f"{int(heads)} attention heads ({said}) cannot be split over tensor parallel {size}"
        yield Problem(setting, message, _reduce(setting, size, int(heads)), also)


@rule("MD002", "indivisible-query-groups", tools=MEGATRON, harm="crash", causes=("tp-kv-heads",))
def indivisible_query_groups(unit: Unit, job: Job) -> Found:
    """Allow indivisible-query-groups.

    ## What it does
    Checks that key and value heads (query groups) and the tensor-parallel size divide one another as Megatron needs.

    ## Why is this bad?
    Before core 0.16 a rank must hold whole groups: "num_query_groups (2) must be a multiple of tensor_model_parallel_size
    (8)". Later versions replicate groups, where the size is a multiple of their number; every copy costs memory and is
    synchronised.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --tensor-model-parallel-size 8 --group-query-attention --num-query-groups 6 \\
      --num-layers 32 --hidden-size 4608 --num-attention-heads 48 --seq-length 4096
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --tensor-model-parallel-size 2 --group-query-attention --num-query-groups 6 \\
      --num-layers 32 --hidden-size 4608 --num-attention-heads 48 --seq-length 4096
    ```

    ## Versions
    megatron-core below 0.16: error for any size that does not divide the groups. From 0.16 on: error where neither divides
    the other, warning where groups are replicated.

    ## References
    - megatron-core 0.12.0 and 0.19.2, megatron/core/transformer/transformer_config.py
    """
    setting, size = unit.named("tensor_parallel"), unit.size("tensor_parallel")
    name = OWN[unit.tool]["groups"]
    groups = unit.number(name)
    if setting is None or size is None or size <= 1 or not groups or groups % size == 0:
        return
    groups = int(groups)
    fix = _reduce(setting, size, groups)
    message = f"{groups} query groups over tensor parallel {size}"
    if size % groups == 0 and unit.since("0.16"):
        yield Problem(
            setting, f"{message}: megatron-core before 0.16 refuses this, later versions keep {size // groups} copies of each group",
            fix, (unit[name],), "warning",
        )  # fmt: skip
        return
    yield Problem(
        setting,
        f"{message}: neither divides the other" if size % groups else f"{message}: a rank needs whole groups",
        fix,
        (unit[name],),
    )


@rule("MD003", "indivisible-kv-heads", tools=SERVED, harm="crash", causes=("tp-kv-heads",))
def indivisible_kv_heads(unit: Unit, job: Job) -> Found:
    """Allow indivisible-kv-heads.

    ## What it does
    Checks that the model's key and value heads and the tensor-parallel size divide one another.

    ## Why is this bad?
    Engines split key and value heads, or copy each of them as often as needed; both need one number to divide the other.

    ## Example
    ```bash serve.sh model={"num_attention_heads":24,"num_key_value_heads":4}
    vllm serve my/model --tensor-parallel-size 6
    ```

    ## Use instead
    ```bash serve.sh model={"num_attention_heads":24,"num_key_value_heads":4}
    vllm serve my/model --tensor-parallel-size 8
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, vllm/model_executor/models/llama.py, LlamaAttention
    """
    setting, size = unit.named("tensor_parallel"), unit.size("tensor_parallel")
    model = job.model(unit)
    if setting is None or size is None or size <= 1 or model is None or not model.kv_heads or not model.heads:
        return
    if model.get("kv_lora_rank") or model.heads % size:  # one latent for all heads; MD001 reports the others
        return
    kv = model.kv_heads
    if kv % size and size % kv:
        yield Problem(
            setting, f"{kv} key/value heads ({model.said}) and tensor parallel {size}: neither divides the other",
            _reduce(setting, size, kv, model.heads),
        )  # fmt: skip


@rule(
    "MD004", "indivisible-experts", tools=(*SERVED, *MEGATRON, "torchtitan"), harm="crash", causes=("ep-divisibility",)
)
def indivisible_experts(unit: Unit, job: Job) -> Found:
    """Allow indivisible-experts.

    ## What it does
    Checks that the model's routed experts (with redundant ones) can be dealt out evenly over the expert-parallel ranks.
    vLLM's are its tensor-parallel times its data-parallel ranks once `--enable-expert-parallel` is given.

    ## Why is this bad?
    The engine stops while it builds the layers: "n_physical_experts=256 must be divisible by ep_size=3".

    ## Example
    ```bash serve.sh model={"num_attention_heads":126,"num_experts":256}
    vllm serve my/moe --tensor-parallel-size 3 --enable-expert-parallel
    ```

    ## Use instead
    ```bash serve.sh model={"num_attention_heads":128,"num_experts":256}
    vllm serve my/moe --tensor-parallel-size 4 --enable-expert-parallel
    ```

    ## Versions
    All. vLLM without expert-parallel load balancing accepts an uneven split in some versions; it is reported all the same,
    as the ranks then carry unequal load.

    ## References
    - vllm 0.33.0, vllm/models/deepseek_v4/nvidia/model.py
    - vllm-project/vllm#52435
    - megatron-core 0.19.2, megatron/core/transformer/transformer_config.py
    """
    found = _expert_ranks(unit)
    if found is None:
        return
    setting, size = found
    own = OWN.get(unit.tool)
    also: tuple[Setting, ...] = ()
    if own and own["experts"] in unit:
        experts, said, also = unit.number(own["experts"]), unit[own["experts"]].shown, (unit[own["experts"]],)
    else:
        model = job.model(unit)
        if model is None or model.experts is None:
            if model is None and not own:
                yield Skipped("the model")
            return
        experts, said = model.experts, model.said
    extra = unit.number("num_redundant_experts", unit.number("eplb_config.num_redundant_experts", 0)) or 0
    if experts and (experts + extra) % size:
        total = int(experts + extra)
        fix = (
            _reduce(setting, size, total)
            if setting is unit.named("expert_parallel")
            else advise("choose a size that divides the experts")
        )
        yield Problem(
            setting, f"{total} experts ({said}) cannot be dealt out over {size} expert-parallel ranks", fix, also
        )


def _expert_ranks(unit: Unit) -> tuple[Setting, int] | None:
    if unit.tool == "vllm":
        tensor, data = unit.size("tensor_parallel"), unit.size("data_parallel")
        flag = unit.setting("enable_expert_parallel")
        if (
            flag is None
            or unit.truth("enable_expert_parallel") is not True
            or tensor is None
            or data is None
            or tensor * data <= 1
        ):
            return None
        return (unit.named("tensor_parallel") or unit.named("data_parallel") or flag), tensor * data
    setting, size = unit.named("expert_parallel"), unit.size("expert_parallel")
    return (setting, size) if setting is not None and size is not None and size > 1 else None


@rule("MD005", "indivisible-vocabulary", tools=("vllm", "sglang"), harm="crash", causes=("vocab-tp",))
def indivisible_vocabulary(unit: Unit, job: Job) -> Found:
    """Allow indivisible-vocabulary.

    ## What it does
    Checks that the tensor-parallel size divides the vocabulary after it was padded to a multiple of 64.

    ## Why is this bad?
    The embedding is padded to 64 rows and then split evenly; a size such as 24 does not divide that, and the engine stops
    while it builds the model: "129280 is not divisible by 24".

    ## Example
    ```bash serve.sh model={"vocab_size":129280,"num_attention_heads":120}
    vllm serve my/model --tensor-parallel-size 24
    ```

    ## Use instead
    ```bash serve.sh model={"vocab_size":129280,"num_attention_heads":128}
    vllm serve my/model --tensor-parallel-size 16
    ```

    ## Versions
    vLLM: all. SGLang: before 0.5.23, which pads to what the size divides; where no version is named this is a warning.
    With `--enable-dp-attention` SGLang does not split the embedding.

    ## References
    - vllm 0.33.0, vllm/model_executor/layers/vocab_parallel_embedding.py
    - sglang 0.5.14 and 0.5.23, sglang/srt/layers/vocab_parallel_embedding.py
    - sgl-project/sglang#31799
    - gpustack/gpustack#3777
    """
    setting, size = unit.named("tensor_parallel"), unit.size("tensor_parallel")
    if setting is None or size is None or size <= 1 or unit.truth("enable_dp_attention") is not False:
        return
    if unit.tool == "sglang" and unit.version and unit.since("0.5.23"):
        return
    model = job.model(unit)
    vocabulary = model.whole("vocab_size") if model else None
    if vocabulary is None or model is None:
        return
    padded = -(-vocabulary // 64) * 64
    if padded % size == 0 or (model.heads and model.heads % size):  # MD001 reports the heads, the same cause
        return
    newer = unit.tool == "sglang" and unit.version is None
    yield Problem(
        setting,
        f"the vocabulary of {vocabulary:,} ({model.said}), padded to {padded:,}, cannot be split over tensor parallel {size}"
        + (" by SGLang before 0.5.23" if newer else ""),
        _reduce(setting, size, padded, model.heads or padded),
        severity="warning" if newer else None,
    )


@rule(
    "MD006",
    "misaligned-quantisation-blocks",
    tools=("vllm", "sglang"),
    harm="crash",
    causes=("fp8-block-tp", "tp-too-large-quant"),
)
def misaligned_quantisation_blocks(unit: Unit, job: Job) -> Found:
    """Allow misaligned-quantisation-blocks.

    ## What it does
    Checks that each rank's share of the feed-forward layers is a multiple of the checkpoint's quantisation block (FP8
    block-wise) or group (AWQ, GPTQ).

    ## Why is this bad?
    A block's scale cannot be split: "output_partition_size = 576 is not divisible by weight quantization block_n = 128".

    ## Example
    ```bash serve.sh model={"intermediate_size":18432,"weight_block_size":[128,128]}
    vllm serve my/model --tensor-parallel-size 32
    ```

    ## Use instead
    ```bash serve.sh model={"intermediate_size":18432,"weight_block_size":[128,128]}
    vllm serve my/model --tensor-parallel-size 16 --pipeline-parallel-size 2
    ```

    ## Versions
    All. Experts are not split where expert parallelism deals them out whole.

    ## References
    - vllm 0.33.0, vllm/model_executor/layers/quantization/utils/fp8_utils.py, validate_fp8_block_shape
    - vllm 0.33.0, vllm/model_executor/layers/quantization/utils/marlin_utils.py
    - vllm-project/vllm#12256
    """
    setting, size = unit.named("tensor_parallel"), unit.size("tensor_parallel")
    if setting is None or size is None or size <= 1:
        return
    model = job.model(unit)
    block = _block(model) if model else None
    if model is None or block is None:
        return
    whole_experts = unit.truth("enable_expert_parallel") is not False or (unit.size("expert_parallel") or 2) > 1
    names = ["intermediate_size"] if whole_experts else ["intermediate_size", "moe_intermediate_size"]
    dense = not model.experts or model.get("first_k_dense_replace") or model.get("moe_intermediate_size") is None
    for name in names:
        width = model.whole(name)
        if width is None or (name == "intermediate_size" and not dense):
            continue
        if width % size or (width // size) % block:
            common = math.gcd(size, width)
            fits = next((n for n in range(common, 0, -1) if common % n == 0 and (width // n) % block == 0), None)
            fix = set_value(setting, fits, why="the largest part of it that keeps whole blocks") if fits else None
            share = f"{width}/{size} = {width / size:g}"
            yield Problem(
                setting,
                f"{name} {share} is no multiple of the checkpoint's quantisation block of {block} ({model.said})",
                fix,
            )
            return


def _block(model: ModelFacts) -> int | None:
    """Weights that share a scale along the side that tensor parallelism splits."""
    shape = model.get("weight_block_size") or model.quantization.get("weight_block_size")
    if isinstance(shape, list) and shape and isinstance(shape[0], int):
        return shape[0]
    group = model.quantization.get("group_size")
    method = str(model.quantization.get("quant_method", ""))
    return group if method in ("awq", "gptq") and isinstance(group, int) and group > 0 else None


@rule("MD007", "changed-vocabulary-padding", tools=("megatron-lm",), harm="crash", causes=("vocab-padding",))
def changed_vocabulary_padding(unit: Unit, job: Job) -> Found:
    """Allow changed-vocabulary-padding.

    ## What it does
    Calculates the padded vocabulary that a job will ask for (the vocabulary with added tokens, rounded up to a multiple of
    `--make-vocab-size-divisible-by` x tensor parallel) and compares it with the checkpoint's.

    ## Why is this bad?
    The embedding does not fit the checkpoint: "padded_vocab_size value from checkpoint (32000) is not equal to the input
    argument value (32256)".

    ## Example
    ```bash launch.sh model={"vocab_size":32000}
    torchrun --nproc_per_node 8 finetune.py --tensor-model-parallel-size 2 --load ckpt --use-checkpoint-args \\
      --vocab-extra-ids 2 --micro-batch-size 1 --global-batch-size 64 --train-iters 100 --seq-length 4096
    ```

    ## Use instead
    ```bash launch.sh model={"vocab_size":32000}
    torchrun --nproc_per_node 8 finetune.py --tensor-model-parallel-size 2 --load ckpt --use-checkpoint-args \\
      --micro-batch-size 1 --global-batch-size 64 --train-iters 100 --seq-length 4096
    ```

    ## Versions
    All.

    ## References
    - megatron-core 0.19.2, megatron/core/tokenizers/utils/build_tokenizer.py, vocab_size_with_padding
    - epfLLM/Megatron-LLM#103
    - NVIDIA-NeMo/Megatron-Bridge#469
    """
    if "load" not in unit or not (
        unit.setting("use_checkpoint_args", "finetune", "vocab_extra_ids", "vocab_extra_ids_list")
    ):
        return
    tensor, model = unit.size("tensor_parallel"), job.model(unit)
    multiple = unit.number("make_vocab_size_divisible_by", 128)
    listed = unit.items("vocab_extra_ids_list") or []
    extra = unit.number("vocab_extra_ids", len(listed))
    vocabulary = model.whole("vocab_size") if model else None
    place = unit.setting(
        "vocab_extra_ids_list", "vocab_extra_ids", "make_vocab_size_divisible_by", "tensor_model_parallel_size"
    )
    if tensor is None or multiple is None or extra is None or place is None:
        return
    if vocabulary is None:
        if extra:
            yield Skipped("the model")
        return
    step = int(multiple * tensor)
    if step <= 0:
        return
    padded = -(-int(vocabulary + extra) // step) * step
    if padded != vocabulary:
        yield Problem(
            place,
            f"the vocabulary becomes {padded:,} ({vocabulary:,} + {int(extra)} tokens, a multiple of {int(multiple)} x tensor parallel "
            f"{tensor}), and the checkpoint has {vocabulary:,}",
            advise("keep the checkpoint's padding (--make-vocab-size-divisible-by, tensor parallel), or convert it again"),
        )  # fmt: skip


@rule(
    "MD008",
    "indivisible-ulysses-heads",
    tools=(*HF_FAMILY, "accelerate", "deepspeed", "axolotl"),
    harm="crash",
    causes=("ulysses-heads",),
)
def indivisible_ulysses_heads(unit: Unit, job: Job) -> Found:
    """Allow indivisible-ulysses-heads.

    ## What it does
    Checks that the model's attention heads can be dealt out over the ranks of Ulysses sequence parallelism.

    ## Why is this bad?
    Each rank of the group takes whole heads: "num_attention_heads (40) must be divisible by sp_size (16)".

    ## Example
    ```yaml train.yaml model={"num_attention_heads":40}
    output_dir: out
    bf16: true
    parallelism_config: {sp_backend: deepspeed, sp_size: 16}
    per_device_train_batch_size: 1
    ```

    ## Use instead
    ```yaml train.yaml model={"num_attention_heads":40}
    output_dir: out
    bf16: true
    parallelism_config: {sp_backend: deepspeed, sp_size: 8}
    per_device_train_batch_size: 1
    ```

    ## Versions
    All that know sequence parallelism.

    ## References
    - verl-project/verl#1226
    - deepspeedai/DeepSpeed#5177
    """
    names = ("parallelism_config.sp_size", "parallelism_config.parallelism_config_sp_size", "sequence_parallel_size")
    setting = unit.setting(*names)
    size = unit.number(setting.name) if setting else None
    if setting is None or size is None or size <= 1:
        return
    model = job.model(unit)
    if model is None or model.heads is None:
        yield Skipped("the model")
    elif model.heads % size:
        message = (
            f"{model.heads} attention heads ({model.said}) cannot be dealt out over {int(size)} sequence-parallel ranks"
        )
        yield Problem(setting, message, _reduce(setting, int(size), model.heads))
