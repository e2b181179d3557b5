"""torchtitan's parallel degrees against the world, the batch and the sequence."""

from advisor_mcp.linting.edits import Fix, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.rules._ti import DEGREES, TITAN, compiled, degree, degree_setting, key, others, sharding, whole
from advisor_mcp.linting.unit import Setting, Unit


@rule(
    "TI001",
    "degrees-that-do-not-make-the-world",
    tools=TITAN,
    harm="crash",
    causes=("world-size-product", "degree-below-one"),
)
def degrees_that_do_not_make_the_world(unit: Unit, job: Job) -> Found:
    """Allow degrees-that-do-not-make-the-world.

    ## What it does
    Checks that replicate x shard x context x tensor x pipeline degree is the world size, and that every degree is at
    least 1 (the shard degree may be -1: what is left).

    ## Why is this bad?
    torchtitan stops: "Invalid parallel dims: dp_replicate(1) * dp_shard(4) * cp(1) * tp(4) * pp(1) != WORLD_SIZE(8)".

    ## Example
    ```toml train.toml world_size=8
    [training]
    steps = 1000
    [parallelism]
    data_parallel_shard_degree = 4
    tensor_parallel_degree = 4
    ```

    ## Use instead
    ```toml train.toml world_size=8
    [training]
    steps = 1000
    [parallelism]
    data_parallel_shard_degree = -1
    tensor_parallel_degree = 4
    ```

    ## Versions
    All.

    ## References
    - torchtitan 0.2.2 and 0.3.0, torchtitan/distributed/parallel_dims.py, _validate
    """
    for name in (*DEGREES, "expert_parallel", "expert_tensor_parallel"):
        here, value = degree_setting(unit, name), degree(unit, name)
        if here is not None and value is not None and value < 1 and not (value == -1 and name == "data_parallel_shard"):
            yield Problem(here, f"{here.shown} is below 1", set_value(here, 1))
            return
    rest, shard, world = others(unit), degree(unit, "data_parallel_shard"), job.world_size(unit)
    given = [found for found in (degree_setting(unit, name) for name in DEGREES) if found is not None]
    if rest is None or shard is None or not given or rest * abs(shard) == 1:
        return
    if world is None:
        yield Skipped("the world size")
        return
    if shard > 0 and rest * shard != world:
        here = degree_setting(unit, "data_parallel_shard") or given[-1]
        left = (
            set_value(here, -1, why="whatever is left")
            if world % rest == 0 and here.name == key("data_parallel_shard")
            else advise("make the product of the degrees the world size")
        )
        yield Problem(here, f"the product of the degrees is {rest * shard}, and there are {world} processes", left)
    elif shard < 0 and (world % rest or world < rest):
        here = max(given, key=lambda found: unit.number(found.name) or 0)
        yield Problem(
            here,
            f"replicate x context x tensor x pipeline degree is {rest}, which {world} processes are no multiple of",
        )


@rule(
    "TI002",
    "sequence-that-cannot-be-cut",
    tools=TITAN,
    harm="crash",
    causes=("seq-len-divisibility", "ctx-div-parallel"),
)
def sequence_that_cannot_be_cut(unit: Unit, job: Job) -> Found:
    """Allow sequence-that-cannot-be-cut.

    ## What it does
    Checks that the sequence length is a multiple of the tensor degree x twice the context degree.

    ## Why is this bad?
    torchtitan stops: "Sequence length must be divisible by the product of TP degree and 2 * CP degree".

    ## Example
    ```toml train.toml
    [training]
    seq_len = 8190
    [parallelism]
    tensor_parallel_degree = 4
    ```

    ## Use instead
    ```toml train.toml
    [training]
    seq_len = 8192
    [parallelism]
    tensor_parallel_degree = 4
    ```

    ## Versions
    All. 0.2 takes the 2 in also without context parallelism; 0.3 only with it, and the tensor degree only with
    sequence parallelism.

    ## References
    - torchtitan 0.2.2, torchtitan/models/llama3/infra/parallelize.py
    - torchtitan 0.3.0, torchtitan/trainer.py
    """
    here, length = unit.setting("training.seq_len"), whole(unit, "training.seq_len")
    tensor, context = degree(unit, "tensor_parallel"), degree(unit, "context_parallel")
    if here is None or not length or not tensor or not context or tensor < 1 or context < 1:
        return
    if unit.since("0.3") and unit.truth("parallelism.enable_sequence_parallel", True) is False:
        tensor = 1
    step = tensor * (2 * context if context > 1 or unit.before("0.3") else 1)
    if tensor * context > 1 and length % step:
        fix = set_value(here, max(1, round(length / step)) * step)
        yield Problem(
            here, f"{here.shown} is no multiple of tensor degree {tensor} and context degree {context} ({step})", fix
        )


@rule("TI003", "global-batch-of-no-whole-steps", tools=TITAN, harm="crash", causes=("batch-arithmetic",))
def global_batch_of_no_whole_steps(unit: Unit, job: Job) -> Found:
    """Allow global-batch-of-no-whole-steps.

    ## What it does
    Checks that the global batch size is a multiple of the local one x the data-parallel degree.

    ## Why is this bad?
    torchtitan stops: "global batch size must be multiple of local batch size times data-parallel degree".

    ## Example
    ```toml train.toml world_size=8
    [training]
    local_batch_size = 2
    global_batch_size = 100
    [parallelism]
    data_parallel_shard_degree = -1
    ```

    ## Use instead
    ```toml train.toml world_size=8
    [training]
    local_batch_size = 2
    global_batch_size = 96
    [parallelism]
    data_parallel_shard_degree = -1
    ```

    ## Versions
    From 0.2 on. -1, the default, means one step of local batches.

    ## References
    - torchtitan 0.2.2, torchtitan/train.py
    - torchtitan 0.3.0, torchtitan/trainer.py
    """
    here, total, local = (
        unit.setting("training.global_batch_size"),
        whole(unit, "training.global_batch_size"),
        whole(unit, "training.local_batch_size", 8),
    )
    replicas = degree(unit, "data_parallel_replicate")
    if here is None or not total or total < 0 or not local or not replicas:
        return
    shard = sharding(unit, job)
    if shard is None or shard < 1:
        if total % (local * replicas):
            yield Problem(here, f"{here.shown} is no multiple of local batch {local} x {replicas} replicas")
        else:
            yield Skipped("the world size")
    elif total % (local * replicas * shard):
        step = local * replicas * shard
        yield Problem(
            here,
            f"{here.shown} is no multiple of local batch {local} x {replicas * shard} data-parallel ranks = {step}",
            _multiple(here, total, step),
        )


def _multiple(setting: Setting, total: int, step: int) -> Fix:
    return set_value(setting, max(step, total // step * step))


@rule("TI004", "experts-on-odd-ranks", tools=TITAN, harm="crash", causes=("ep-mesh", "etp-degree"))
def experts_on_odd_ranks(unit: Unit, job: Job) -> Found:
    """Allow experts-on-odd-ranks.

    ## What it does
    Checks that the expert degree (x the expert tensor degree) divides shard x context x tensor degree, and that the
    expert tensor degree is 1 or the tensor degree.

    ## Why is this bad?
    Experts are dealt out over those ranks; another number leaves a device mesh of the wrong size. torchtitan stops:
    "Currently we only support ETP=TP or ETP=1".

    ## Example
    ```toml train.toml world_size=8
    [training]
    seq_len = 4096
    [parallelism]
    tensor_parallel_degree = 4
    expert_parallel_degree = 2
    expert_tensor_parallel_degree = 2
    ```

    ## Use instead
    ```toml train.toml world_size=8
    [training]
    seq_len = 4096
    [parallelism]
    tensor_parallel_degree = 4
    expert_parallel_degree = 2
    expert_tensor_parallel_degree = 1
    ```

    ## Versions
    The expert tensor degree exists in 0.2 only.

    ## References
    - torchtitan 0.2.2 and 0.3.0, torchtitan/distributed/parallel_dims.py
    """
    here, experts = degree_setting(unit, "expert_parallel"), degree(unit, "expert_parallel")
    named, inner = degree_setting(unit, "expert_tensor_parallel"), whole(unit, key("expert_tensor_parallel"), 1) or 1
    tensor, context = degree(unit, "tensor_parallel"), degree(unit, "context_parallel")
    if here is None or not experts or experts < 2 or not tensor or not context:
        return
    if named is not None and inner not in (1, tensor) and unit.before("0.3"):
        yield Problem(named, f"{named.shown} must be 1 or the tensor degree {tensor}", set_value(named, 1))
    elif named is not None and inner not in (1, tensor):
        yield Problem(
            named,
            f"{named.shown} must be 1 or the tensor degree {tensor}, and torchtitan 0.3 has no such option",
            set_value(named, 1),
        )
    shard = sharding(unit, job)
    if shard is not None and shard > 0 and shard * context * tensor % (experts * inner):
        yield Problem(
            here, f"expert degree {experts} does not divide shard x context x tensor degree {shard * context * tensor}"
        )


@rule("TI005", "replication-with-model-parallelism", tools=TITAN, harm="crash", causes=("ddp-nd",))
def replication_with_model_parallelism(unit: Unit, job: Job) -> Found:
    """Allow replication-with-model-parallelism.

    ## What it does
    Looks for replication without sharding (DDP) together with tensor parallelism.

    ## Why is this bad?
    DDP is only supported by itself; torchtitan stops: "DDP has not supported > 1D parallelism".

    ## Example
    ```toml train.toml
    [training]
    seq_len = 4096
    [parallelism]
    data_parallel_replicate_degree = 4
    data_parallel_shard_degree = 1
    tensor_parallel_degree = 2
    ```

    ## Use instead
    ```toml train.toml
    [training]
    seq_len = 4096
    [parallelism]
    data_parallel_replicate_degree = 1
    data_parallel_shard_degree = 4
    tensor_parallel_degree = 2
    ```

    ## Versions
    0.2.

    ## References
    - torchtitan 0.2.2, torchtitan/models/llama3/infra/parallelize.py
    """
    here, replicas, shard = (
        degree_setting(unit, "data_parallel_replicate"),
        degree(unit, "data_parallel_replicate"),
        degree_setting(unit, "data_parallel_shard"),
    )
    if (
        here is None
        or shard is None
        or not replicas
        or replicas < 2
        or degree(unit, "data_parallel_shard") != 1
        or degree(unit, "context_parallel") != 1
    ):
        return
    if (degree(unit, "tensor_parallel") or 1) > 1 or (degree(unit, "pipeline_parallel") or 1) > 1:
        yield Problem(
            here,
            f"{here.shown} without sharding is DDP, which cannot be combined with tensor or pipeline parallelism",
            _swap(here, shard, replicas),
        )


def _swap(replicate: Setting, shard: Setting, count: int) -> Fix:
    one, two = set_value(replicate, 1), set_value(shard, count)
    return Fix(f"{one.description}; {two.description}", (*one.edits, *two.edits))


@rule(
    "TI006",
    "mixed-precision-without-sharding",
    tools=TITAN,
    harm="slow",
    severity="warning",
    causes=("mixed-precision-ignored",),
)
def mixed_precision_without_sharding(unit: Unit, job: Job) -> Found:
    """Allow mixed-precision-without-sharding.

    ## What it does
    Looks for tensor or pipeline parallelism without any sharding of the parameters.

    ## Why is this bad?
    FSDP is what trains in bf16 here. Without it torchtitan warns and trains in fp32: "Mixed precision training with TP
    or PP is only supported when FSDP/HSDP/CP is enabled".

    ## Example
    ```toml train.toml
    [training]
    seq_len = 4096
    [parallelism]
    data_parallel_shard_degree = 1
    tensor_parallel_degree = 8
    ```

    ## Use instead
    ```toml train.toml
    [training]
    seq_len = 4096
    [parallelism]
    data_parallel_shard_degree = 2
    tensor_parallel_degree = 4
    ```

    ## Versions
    0.2. Not where `training.dtype` is bfloat16 or the parameters are meant to be float32.

    ## References
    - torchtitan 0.2.2, torchtitan/distributed/utils.py, maybe_enable_amp
    """
    here, shard, context = (
        degree_setting(unit, "data_parallel_shard"),
        sharding(unit, job),
        degree(unit, "context_parallel"),
    )
    tensor, pipeline = degree(unit, "tensor_parallel"), degree(unit, "pipeline_parallel")
    at = here or degree_setting(unit, "tensor_parallel") or degree_setting(unit, "pipeline_parallel")
    plain = (
        unit.text("training.dtype", "float32") == "float32"
        and unit.text("training.mixed_precision_param", "bfloat16") == "bfloat16"
    )
    if at is None or shard != 1 or context != 1 or not plain or degree(unit, "data_parallel_replicate") != 1:
        return
    if max(tensor or 1, pipeline or 1) > 1:
        yield Problem(
            at,
            "nothing is sharded, so that tensor or pipeline parallelism trains in float32, not in bfloat16",
            advise("shard over 2 ranks or more, or set training.dtype to bfloat16"),
        )


@rule("TI007", "asynchronous-tp-without-compile", tools=TITAN, harm="crash", causes=("async-tp-compile",))
def asynchronous_tp_without_compile(unit: Unit, job: Job) -> Found:
    """Allow asynchronous-tp-without-compile.

    ## What it does
    Looks for `enable_async_tensor_parallel` without a compiled model.

    ## Why is this bad?
    The compiler is what splits the products. torchtitan stops: "Async TP requires 'model' in --compile.components and
    --compile.enable".

    ## Example
    ```toml train.toml
    [training]
    seq_len = 4096
    [parallelism]
    tensor_parallel_degree = 2
    enable_async_tensor_parallel = true
    [compile]
    enable = false
    ```

    ## Use instead
    ```toml train.toml
    [training]
    seq_len = 4096
    [parallelism]
    tensor_parallel_degree = 2
    enable_async_tensor_parallel = true
    [compile]
    enable = true
    ```

    ## Versions
    All; the option stands under `compile` from 0.3 on.

    ## References
    - torchtitan 0.2.2, torchtitan/distributed/tensor_parallel.py
    - pytorch/torchtitan#1608
    """
    here = unit.setting("parallelism.enable_async_tensor_parallel", "compile.enable_async_tensor_parallel")
    if (
        here is None
        or unit.truth(here.name) is not True
        or (degree(unit, "tensor_parallel") or 1) < 2
        or compiled(unit) is not False
    ):
        return
    enable = unit.setting("compile.enable")
    fix = (
        set_value(enable, True)
        if enable is not None and unit.truth("compile.enable") is False
        else advise("compile the model")
    )
    yield Problem(here, f"{here.shown} needs a compiled model", fix)


@rule("TI008", "context-parallel-attention", tools=TITAN, harm="crash", causes=("cp-attention", "cp-load-balancer"))
def context_parallel_attention(unit: Unit, job: Job) -> Found:
    """Allow context-parallel-attention.

    ## What it does
    Checks context parallelism against the attention of the flavor (variable-length attention and, for DeepSeek, flex
    attention cannot be cut) and against the load balancer's name.

    ## Why is this bad?
    torchtitan stops: "Varlen attention is not supported with CP"; an empty name is refused, null means none.

    ## Example
    ```toml train.toml
    [model]
    name = "llama3"
    flavor = "8B_varlen"
    [parallelism]
    context_parallel_degree = 2
    ```

    ## Use instead
    ```toml train.toml
    [model]
    name = "llama3"
    flavor = "8B"
    [parallelism]
    context_parallel_degree = 2
    ```

    ## Versions
    0.2.

    ## References
    - torchtitan 0.2.2, torchtitan/models/llama3/model/args.py
    - torchtitan 0.2.2, torchtitan/models/deepseek_v3/infra/parallelize.py
    - torchtitan 0.2.2, torchtitan/distributed/context_parallel.py
    """
    here, flavor = unit.setting("model.flavor"), unit.text("model.flavor") or ""
    deepseek = unit.text("model.name") == "deepseek_v3" and "flex" in flavor
    if (degree(unit, "context_parallel") or 1) < 2:
        return
    if here is not None and ("varlen" in flavor or deepseek):
        plain = flavor.replace("_varlen_attn", "").replace("_varlen", "").replace("_flex_attn", "").replace("_flex", "")
        yield Problem(here, f"the attention of {flavor} cannot be cut by context parallelism", set_value(here, plain))
    balancer, kind = (
        unit.setting("parallelism.context_parallel_load_balancer"),
        unit.text("parallelism.context_parallel_load_balancer"),
    )
    if balancer is not None and kind is not None and kind not in ("headtail", "ptrr"):
        yield Problem(balancer, f"{balancer.shown} is not headtail or ptrr", set_value(balancer, "headtail"))


@rule("TI009", "deepep-without-experts", tools=TITAN, harm="crash", causes=("deepep-ep",))
def deepep_without_experts(unit: Unit, job: Job) -> Found:
    """Allow deepep-without-experts.

    ## What it does
    Looks for the DeepEP backend without expert parallelism, or with tensor-parallel experts.

    ## Why is this bad?
    torchtitan stops: "DeepEP requires expert parallelism (ep_degree > 1)".

    ## Example
    ```toml train.toml
    [training]
    seq_len = 4096
    [parallelism]
    expert_parallel_degree = 1
    expert_parallel_comm_backend = "deepep"
    ```

    ## Use instead
    ```toml train.toml
    [training]
    seq_len = 4096
    [parallelism]
    expert_parallel_degree = 8
    expert_parallel_comm_backend = "deepep"
    ```

    ## Versions
    0.2.

    ## References
    - torchtitan 0.2.2, torchtitan/models/deepseek_v3/infra/parallelize.py
    """
    here = unit.setting("parallelism.expert_parallel_comm_backend")
    if here is None or here.value != "deepep":
        return
    if degree(unit, "expert_parallel") == 1:
        yield Problem(here, f"{here.shown} needs an expert degree above 1", set_value(here, "standard"))
    elif (whole(unit, key("expert_tensor_parallel"), 1) or 1) > 1:
        yield Problem(here, f"{here.shown} cannot be used with tensor-parallel experts", set_value(here, "standard"))


@rule("TI010", "optimizer-in-backward-of-parts", tools=TITAN, harm="crash", causes=("optim-in-bwd-parallel",))
def optimizer_in_backward_of_parts(unit: Unit, job: Job) -> Found:
    """Allow optimizer-in-backward-of-parts.

    ## What it does
    Looks for `early_step_in_backward` with pipeline or expert parallelism or fault tolerance.

    ## Why is this bad?
    torchtitan stops: "Optimizers in backward is not supported with Pipeline Parallel".

    ## Example
    ```toml train.toml
    [optimizer]
    early_step_in_backward = true
    [parallelism]
    pipeline_parallel_degree = 2
    ```

    ## Use instead
    ```toml train.toml
    [optimizer]
    early_step_in_backward = false
    [parallelism]
    pipeline_parallel_degree = 2
    ```

    ## Versions
    0.2.

    ## References
    - torchtitan 0.2.2, torchtitan/components/optimizer.py, build_optimizers
    """
    here = unit.setting("optimizer.early_step_in_backward")
    if here is None or unit.truth(here.name) is not True:
        return
    for name in ("pipeline_parallel", "expert_parallel"):
        other = degree_setting(unit, name)
        if other is not None and (degree(unit, name) or 1) > 1:
            yield Problem(here, f"{here.shown} cannot be used with {other.shown}", remove(here), (other,))
            return
    tolerant = unit.setting("fault_tolerance.enable")
    if tolerant is not None and unit.truth(tolerant.name) is True:
        yield Problem(here, f"{here.shown} cannot be used with fault tolerance", remove(here), (tolerant,))
