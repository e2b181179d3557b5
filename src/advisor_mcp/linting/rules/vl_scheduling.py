"""vLLM's scheduler: how many tokens and sequences one step may hold."""

from advisor_mcp.linting.edits import remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.rules._vl import between, is_off, is_on, named_before, switch
from advisor_mcp.linting.unit import Setting, Unit


@rule("VL020", "step-shorter-than-a-prompt", tools=("vllm",), harm="crash", causes=("batched-tokens",))
def step_shorter_than_a_prompt(unit: Unit, job: Job) -> Found:
    """Allow step-shorter-than-a-prompt.

    ## What it does
    Without chunked prefill, checks that `--max-num-batched-tokens` is at least `--max-model-len`.

    ## Why is this bad?
    A prompt is then computed in one step, so a step has to hold the longest one. vLLM stops: "max_num_batched_tokens (8192)
    is smaller than max_model_len (16384)".

    ## Example
    ```yaml vllm.yaml
    model: meta-llama/Llama-3.1-8B-Instruct
    max-model-len: 16384
    max-num-batched-tokens: 8192
    enable-chunked-prefill: false
    ```

    ## Use instead
    ```yaml vllm.yaml
    model: meta-llama/Llama-3.1-8B-Instruct
    max-model-len: 16384
    max-num-batched-tokens: 8192
    ```

    ## Versions
    All. Before 0.8 chunked prefill was off unless it was asked for (or the context is longer than 32k).

    ## References
    - vllm 0.33.0, config/scheduler.py, verify_max_model_len
    - vllm-project/vllm#33109
    - verl-project/verl#7626
    - vllm-project/vllm#18681
    """
    tokens = unit.number("max_num_batched_tokens", 0)
    chunked, on = switch(unit, "enable_chunked_prefill")
    default_off = named_before(unit, "0.8") and unit.absent("enable_chunked_prefill")
    if not tokens or not (on is False or default_off):
        return
    length = unit.number("max_model_len", 0)
    model = job.model(unit) if length == 0 else None
    said = length or (model.max_positions if model is not None else None)
    if length == 0 and said is None:
        yield Skipped("the model")
    elif said is not None and tokens < said and not (default_off and said > 32768):
        setting = unit["max_num_batched_tokens"]
        also = tuple(found for found in (unit.setting("max_model_len"), chunked) if found is not None)
        message = f"a step holds {tokens:.12g} tokens, and without chunked prefill it has to hold a prompt of max_model_len = {said:.12g}"
        yield Problem(setting, message, set_value(setting, int(said)), also)


@rule("VL021", "more-sequences-than-tokens", tools=("vllm",), harm="crash", causes=("batched-tokens", "max-num-seqs"))
def more_sequences_than_tokens(unit: Unit, job: Job) -> Found:
    """Allow more-sequences-than-tokens.

    ## What it does
    Checks that `--max-num-batched-tokens` is at least `--max-num-seqs`.

    ## Why is this bad?
    Every running sequence computes one token a step. vLLM stops: "max_num_batched_tokens (128) must be greater than or equal
    to max_num_seqs (256)".

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --max-num-seqs 1024 --max-num-batched-tokens 512
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --max-num-seqs 1024 --max-num-batched-tokens 8192
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, config/scheduler.py, verify_max_model_len
    - verl-project/verl#259
    """
    tokens, sequences = unit.number("max_num_batched_tokens", 0), unit.number("max_num_seqs", 0)
    if tokens and sequences and tokens < sequences:
        setting = unit["max_num_batched_tokens"]
        message = f"a step holds {tokens:.12g} tokens, fewer than the {sequences:.12g} sequences of max_num_seqs"
        yield Problem(setting, message, set_value(setting, max(2048, int(sequences))), (unit["max_num_seqs"],))


@rule("VL022", "partial-prefills-without-chunks", tools=("vllm",), harm="crash", causes=("partial-prefills",))
def partial_prefills_without_chunks(unit: Unit, job: Job) -> Found:
    """Allow partial-prefills-without-chunks.

    ## What it does
    Checks `--max-num-partial-prefills` of more than 1 against chunked prefill, and `--max-long-partial-prefills` against it.

    ## Why is this bad?
    vLLM stops: "Chunked prefill must be enabled to set max_num_partial_prefills > 1", or because more long prompts than
    prompts may be in work at once.

    ## Example
    ```bash serve.sh vllm=0.12.0
    vllm serve Qwen/Qwen3-8B --max-num-partial-prefills 2 --max-long-partial-prefills 4
    ```

    ## Use instead
    ```bash serve.sh vllm=0.12.0
    vllm serve Qwen/Qwen3-8B --max-num-partial-prefills 4 --max-long-partial-prefills 2
    ```

    ## Versions
    0.7 to 0.27.

    ## References
    - vllm 0.12.0, config/scheduler.py
    """
    most, long = unit.number("max_num_partial_prefills", 1), unit.number("max_long_partial_prefills", 1)
    if most is None or not unit.before("0.28") or unit.version is None:
        return
    if most > 1 and is_off(unit, "enable_chunked_prefill"):
        setting, off = unit["max_num_partial_prefills"], switch(unit, "enable_chunked_prefill")[0]
        also = (off,) if off is not None else ()
        yield Problem(
            setting, f"{most:.12g} partial prefills need chunked prefill, which is off", remove(setting), also
        )
    elif long is not None and long > most:
        setting = unit["max_long_partial_prefills"]
        message = f"max_long_partial_prefills is {long:.12g}, more than max_num_partial_prefills = {most:.12g}"
        yield Problem(setting, message, set_value(setting, int(most)))


@rule("VL023", "long-prompt-threshold-too-high", tools=("vllm",), harm="crash", causes=("long-prefill",))
def long_prompt_threshold_too_high(unit: Unit, job: Job) -> Found:
    """Allow long-prompt-threshold-too-high.

    ## What it does
    Checks that `--long-prefill-token-threshold` is at most `--max-model-len`.

    ## Why is this bad?
    vLLM stops: "long_prefill_token_threshold (...) cannot be greater than the max_model_len".

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --max-model-len 8192 --long-prefill-token-threshold 16384
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --max-model-len 8192 --long-prefill-token-threshold 2048
    ```

    ## Versions
    0.7.3 and later.

    ## References
    - vllm 0.33.0, config/scheduler.py, verify_max_model_len
    """
    threshold, length = unit.number("long_prefill_token_threshold", 0), unit.number("max_model_len", 0)
    if threshold and length and threshold > length:
        setting = unit["long_prefill_token_threshold"]
        message = f"long_prefill_token_threshold is {threshold:.12g}, more than max_model_len = {length:.12g}"
        yield Problem(setting, message, set_value(setting, int(length)), (unit["max_model_len"],))


@rule("VL024", "more-active-sequences-than-sequences", tools=("vllm",), harm="crash", causes=("max-num-active-seqs",))
def more_active_sequences_than_sequences(unit: Unit, job: Job) -> Found:
    """Allow more-active-sequences-than-sequences.

    ## What it does
    Checks that `--max-num-active-seqs` is at most `--max-num-seqs`.

    ## Why is this bad?
    vLLM stops: "max_num_active_seqs (...) cannot be greater than max_num_seqs".

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --max-num-seqs 64 --max-num-active-seqs 128
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --max-num-seqs 128 --max-num-active-seqs 64
    ```

    ## Versions
    Later than 0.28.

    ## References
    - vllm 0.33.0, config/scheduler.py, verify_max_model_len
    """
    active, most = unit.number("max_num_active_seqs", 0), unit.number("max_num_seqs", 0)
    if active and most and active > most:
        setting = unit["max_num_active_seqs"]
        message = f"max_num_active_seqs is {active:.12g}, more than max_num_seqs = {most:.12g}"
        yield Problem(setting, message, set_value(setting, int(most)), (unit["max_num_seqs"],))


@rule("VL025", "async-scheduling-not-supported", tools=("vllm",), harm="crash", causes=("async-scheduling",))
def async_scheduling_not_supported(unit: Unit, job: Job) -> Found:
    """Allow async-scheduling-not-supported.

    ## What it does
    Finds `--async-scheduling` with what the version in use cannot combine it with: pipeline parallelism, speculative
    decoding, the executor `uni`.

    ## Why is this bad?
    vLLM stops: "Async scheduling is not supported with pipeline-parallel-size > 1", or the like.

    ## Example
    ```bash serve.sh vllm=0.10.2
    vllm serve Qwen/Qwen3-32B --async-scheduling --pipeline-parallel-size 2
    ```

    ## Use instead
    ```bash serve.sh vllm=0.10.2
    vllm serve Qwen/Qwen3-32B --async-scheduling --tensor-parallel-size 2
    ```

    ## Versions
    0.10 and 0.11 for all three, 0.12 for pipeline parallelism.

    ## References
    - vllm 0.10.2, engine/arg_utils.py
    - vllm 0.12.0, config/vllm.py
    """
    if not is_on(unit, "async_scheduling") or not between(unit, "0.10", "0.13"):
        return
    setting = unit["async_scheduling"]
    for found, what in _unsupported(unit):
        yield Problem(setting, f"this version does not schedule asynchronously with {what}", remove(setting), (found,))
        return


@rule("VL026", "multi-step-with-others", tools=("vllm",), harm="crash", causes=("multi-step",))
def multi_step_with_others(unit: Unit, job: Job) -> Found:
    """Allow multi-step-with-others.

    ## What it does
    Finds `--num-scheduler-steps` of more than 1 with speculative decoding, or with chunked prefill and pipeline parallelism.

    ## Why is this bad?
    vLLM stops: "Speculative decoding is not supported with multi-step (--num-scheduler-steps > 1)", or "Multi-Step
    Chunked-Prefill is not supported for pipeline-parallel-size > 1".

    ## Example
    ```bash serve.sh vllm=0.7.3
    vllm serve big/model --num-scheduler-steps 8 --speculative-model small/model --num-speculative-tokens 5
    ```

    ## Use instead
    ```bash serve.sh vllm=0.7.3
    vllm serve big/model --speculative-model small/model --num-speculative-tokens 5
    ```

    ## Versions
    Before 0.10; then multi-step scheduling was removed.

    ## References
    - vllm 0.6.6.post1, engine/arg_utils.py, create_engine_config
    """
    steps = unit.number("num_scheduler_steps", 1)
    if steps is None or steps <= 1 or not named_before(unit, "0.10"):
        return
    setting, draft = unit["num_scheduler_steps"], unit.setting("speculative_model", "speculative_config")
    if draft is not None:
        yield Problem(
            setting, f"{steps:.12g} scheduler steps do not go with speculative decoding", remove(setting), (draft,)
        )
    elif is_on(unit, "enable_chunked_prefill") and (unit.size("pipeline_parallel") or 1) > 1:
        also = (unit["pipeline_parallel_size"],)
        yield Problem(
            setting,
            f"{steps:.12g} scheduler steps do not go with chunked prefill and pipeline stages",
            remove(setting),
            also,
        )


@rule("VL027", "few-tokens-a-step", tools=("vllm",), harm="slow", severity="warning", causes=("batched-tokens-low",))
def few_tokens_a_step(unit: Unit, job: Job) -> Found:
    """Allow few-tokens-a-step.

    ## What it does
    Finds `--max-num-batched-tokens` below 512 where the server may run more than a few sequences.

    ## Why is this bad?
    Prompts are computed in chunks of that size beside the decoding sequences. A few hundred tokens do not fill a GPU, so
    the time to the first token grows and throughput falls; the documentation advises 2048 at least, more than 8192 for
    throughput.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --max-num-batched-tokens 256
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --max-num-batched-tokens 8192
    ```

    ## Versions
    0.8 and later, where chunked prefill is on by default.

    ## References
    - vllm documentation, configuration/optimization, chunked prefill
    """
    tokens, sequences = unit.number("max_num_batched_tokens", 0), unit.number("max_num_seqs", 256)
    if tokens and tokens < 512 and sequences is not None and 8 < sequences <= tokens and unit.since("0.8"):
        setting = unit["max_num_batched_tokens"]
        yield Problem(
            setting,
            f"a step of {tokens:.12g} tokens leaves the GPU idle while prompts are computed",
            set_value(setting, 8192),
        )


def _unsupported(unit: Unit) -> list[tuple[Setting, str]]:
    found = list[tuple[Setting, str]]()
    if (unit.size("pipeline_parallel") or 1) > 1:
        found.append((unit["pipeline_parallel_size"], "pipeline parallelism"))
    if unit.before("0.12") and "speculative_config" in unit:
        found.append((unit["speculative_config"], "speculative decoding"))
    if unit.before("0.12") and unit.text("distributed_executor_backend") == "uni":
        found.append((unit["distributed_executor_backend"], "the executor uni"))
    return found
