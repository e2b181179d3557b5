"""vLLM's expert parallelism: its sizes, the balancing of experts, and the exchange between ranks."""

from advisor_mcp.linting.edits import Fix, add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.rules._vl import expert_ranks, is_on, several_nodes
from advisor_mcp.linting.unit import Setting, Unit


@rule("VL050", "balancing-without-expert-parallelism", tools=("vllm",), harm="crash", causes=("eplb",))
def balancing_without_expert_parallelism(unit: Unit, job: Job) -> Found:
    """Allow balancing-without-expert-parallelism.

    ## What it does
    Finds `--enable-eplb` without `--enable-expert-parallel`.

    ## Why is this bad?
    vLLM stops: "enable_expert_parallel must be True to use EPLB."

    ## Example
    ```bash serve.sh
    vllm serve deepseek-ai/DeepSeek-V3 --tensor-parallel-size 8 --enable-eplb
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve deepseek-ai/DeepSeek-V3 --tensor-parallel-size 8 --enable-eplb --enable-expert-parallel
    ```

    ## Versions
    0.9 and later.

    ## References
    - vllm 0.33.0, config/parallel.py, _validate_parallel_config
    """
    if is_on(unit, "enable_eplb") and unit.absent("enable_expert_parallel"):
        setting = unit["enable_eplb"]
        message = "enable-eplb moves experts between ranks, and expert parallelism is not on"
        yield Problem(setting, message, _with_switch(setting, "enable_expert_parallel"))


@rule("VL051", "balancing-on-one-gpu", tools=("vllm",), harm="crash", causes=("eplb",))
def balancing_on_one_gpu(unit: Unit, job: Job) -> Found:
    """Allow balancing-on-one-gpu.

    ## What it does
    Finds `--enable-eplb` where tensor and data parallel sizes are 1.

    ## Why is this bad?
    vLLM stops: "EPLB requires tensor_parallel_size or data_parallel_size to be greater than 1".

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-30B-A3B --enable-expert-parallel --enable-eplb
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-30B-A3B --enable-expert-parallel --enable-eplb --tensor-parallel-size 4
    ```

    ## Versions
    0.9 and later.

    ## References
    - vllm 0.33.0, config/parallel.py, _validate_parallel_config
    """
    if is_on(unit, "enable_eplb") and not unit.open and expert_ranks(unit) == 1 and not several_nodes(unit):
        setting = unit["enable_eplb"]
        yield Problem(setting, "enable-eplb balances experts over one GPU", remove(setting))


@rule("VL052", "spare-experts-without-balancing", tools=("vllm",), harm="crash", causes=("redundant-experts",))
def spare_experts_without_balancing(unit: Unit, job: Job) -> Found:
    """Allow spare-experts-without-balancing.

    ## What it does
    Finds a number of redundant experts without `--enable-eplb`.

    ## Why is this bad?
    vLLM stops: "num_redundant_experts is set to 32 but EPLB is not enabled."

    ## Example
    ```bash serve.sh
    vllm serve deepseek-ai/DeepSeek-V3 -tp 8 --enable-expert-parallel --eplb-config '{"num_redundant_experts": 32}'
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve deepseek-ai/DeepSeek-V3 -tp 8 --enable-expert-parallel --enable-eplb --eplb-config '{"num_redundant_experts": 32}'
    ```

    ## Versions
    0.9 and later.

    ## References
    - vllm 0.33.0, config/parallel.py, _validate_parallel_config
    """
    setting = unit.setting("eplb_config.num_redundant_experts", "num_redundant_experts")
    spare = unit.number(setting.name) if setting is not None else None
    if setting is not None and spare and unit.absent("enable_eplb"):
        yield Problem(
            setting, f"{spare:.12g} redundant experts are set, but enable-eplb is not", advise("add --enable-eplb")
        )


@rule("VL053", "expert-parallelism-of-a-dense-model", tools=("vllm",), harm="crash", causes=("ep-dense",))
def expert_parallelism_of_a_dense_model(unit: Unit, job: Job) -> Found:
    """Allow expert-parallelism-of-a-dense-model.

    ## What it does
    Finds `--enable-expert-parallel` with a model that has no experts.

    ## Why is this bad?
    vLLM stops: "Number of experts in the model must be greater than 0 when expert parallelism is enabled."

    ## Example
    ```bash serve.sh model={"model_type":"llama","num_attention_heads":32,"num_hidden_layers":32,"hidden_size":4096}
    vllm serve meta-llama/Llama-3.1-8B-Instruct --tensor-parallel-size 2 --enable-expert-parallel
    ```

    ## Use instead
    ```bash serve.sh model={"model_type":"llama","num_attention_heads":32,"num_hidden_layers":32,"hidden_size":4096}
    vllm serve meta-llama/Llama-3.1-8B-Instruct --tensor-parallel-size 2
    ```

    ## Versions
    0.8.5 and later.

    ## References
    - vllm 0.33.0, config/model.py, _verify_with_expert_parallelism
    """
    if not is_on(unit, "enable_expert_parallel"):
        return
    model = job.model(unit)
    if model is None:
        yield Skipped("the model")
    elif model.model_type and model.get("hidden_size") and not _has_experts(model.config):
        setting = unit["enable_expert_parallel"]
        yield Problem(setting, f"{model.name} has no experts to spread over ranks", remove(setting))


@rule(
    "VL054", "expert-parallelism-on-one-gpu", tools=("vllm",), harm="ignored", severity="info", causes=("ep-useless",)
)
def expert_parallelism_on_one_gpu(unit: Unit, job: Job) -> Found:
    """Allow expert-parallelism-on-one-gpu.

    ## What it does
    Finds `--enable-expert-parallel` where tensor and data parallel sizes are 1.

    ## Why is this bad?
    The expert-parallel size is the product of the two: with one GPU the option does nothing.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-30B-A3B --enable-expert-parallel
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-30B-A3B --enable-expert-parallel --tensor-parallel-size 4
    ```

    ## Versions
    All.

    ## References
    - vllm documentation, serving/expert_parallel_deployment
    """
    on = is_on(unit, "enable_expert_parallel") and not is_on(unit, "enable_eplb")
    if on and not unit.open and expert_ranks(unit) == 1 and not several_nodes(unit):
        setting = unit["enable_expert_parallel"]
        yield Problem(setting, "expert parallelism over one GPU does nothing", remove(setting))


@rule(
    "VL064",
    "exchange-backend-removed",
    tools=("vllm",),
    harm="ignored",
    severity="warning",
    causes=("all2all-removed",),
)
def exchange_backend_removed(unit: Unit, job: Job) -> Found:
    """Allow exchange-backend-removed.

    ## What it does
    Finds `--all2all-backend pplx` and `naive` in versions that no longer have them.

    ## Why is this bad?
    vLLM goes on with `allgather_reducescatter`, whose speed is another: "The 'pplx' all2all backend has been removed."

    ## Example
    ```bash serve.sh
    vllm serve deepseek-ai/DeepSeek-V3 -dp 8 --enable-expert-parallel --all2all-backend pplx
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve deepseek-ai/DeepSeek-V3 -dp 8 --enable-expert-parallel --all2all-backend deepep_low_latency
    ```

    ## Versions
    pplx from 0.17 on, naive from 0.20 on.

    ## References
    - vllm 0.17.1 and 0.20.2, config/parallel.py, _validate_parallel_config
    """
    backend = unit.text("all2all_backend")
    if (backend == "pplx" and unit.since("0.17")) or (backend == "naive" and unit.since("0.20")):
        setting = unit["all2all_backend"]
        message = f"the exchange {backend} was removed; allgather_reducescatter is used in its place"
        yield Problem(setting, message, set_value(setting, "allgather_reducescatter"))


@rule("VL065", "two-batches-without-their-exchange", tools=("vllm",), harm="crash", causes=("dbo",))
def two_batches_without_their_exchange(unit: Unit, job: Job) -> Found:
    """Allow two-batches-without-their-exchange.

    ## What it does
    Finds `--enable-dbo` without an `--all2all-backend` that supports it.

    ## Why is this bad?
    Two batches overlap only with exchanges that can run beside the computing. vLLM stops: "Microbatching currently only
    supports the deepep_low_latency and deepep_high_throughput all2all backends".

    ## Example
    ```bash serve.sh
    vllm serve deepseek-ai/DeepSeek-V3 -dp 8 --enable-expert-parallel --enable-dbo
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve deepseek-ai/DeepSeek-V3 -dp 8 --enable-expert-parallel --enable-dbo --all2all-backend deepep_low_latency
    ```

    ## Versions
    0.11 and later; nixl_ep too in the newest, and on ROCm others.

    ## References
    - vllm 0.11.2 and 0.33.0, config/vllm.py, __post_init__
    """
    if not is_on(unit, "enable_dbo") or unit.open or "VLLM_ALL2ALL_BACKEND" in unit.env:
        return
    backend = unit.text("all2all_backend", "allgather_reducescatter")
    amd = job.gpu is not None and job.gpu.vendor == "amd"
    if backend is not None and not backend.startswith("deepep") and backend != "nixl_ep" and not amd:
        setting = unit["enable_dbo"]
        also = (unit["all2all_backend"],) if "all2all_backend" in unit else ()
        yield Problem(
            setting,
            f"enable-dbo does not go with the exchange {backend}",
            advise("use --all2all-backend deepep_low_latency"),
            also,
        )


def _has_experts(config: object) -> bool:
    """Whether any field of a configuration, however deep, counts experts."""
    if not isinstance(config, dict):
        return False
    return any(
        ("expert" in key and bool(value)) or "moe" in key or _has_experts(value) for key, value in config.items()
    )


def _with_switch(setting: Setting, name: str) -> Fix:
    if setting.syntax == "shell":
        return add_after(setting, "--" + name.replace("_", "-"))
    return add_after(setting, name.replace("_", "-") if "-" in setting.written else name, True)
