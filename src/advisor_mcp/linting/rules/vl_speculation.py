"""vLLM's speculative decoding, and arguments that are JSON."""

import re

from advisor_mcp.linting.edits import Fix, advise, remove, rename, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._vl import between, nearest
from advisor_mcp.linting.unit import Setting, Unit

CONFIG = "speculative_config"
# Methods that need no number of tokens: suffix has a default, the others may read it from the draft's configuration.
COUNTED_BY_MODEL = (
    "mtp",
    "eagle",
    "eagle3",
    "medusa",
    "mlp_speculator",
    "suffix",
    "dflash",
    "dspark",
    "extract_hidden_states",
)
KEYS = frozenset(re.findall(r"\w+", """
    acceptance_method attention_backend code_revision disable_by_batch_size disable_eagle_block_drop disable_logprobs
    disable_lookahead_block_hashes disable_mqa_scorer disable_padded_drafter_batch draft_lm_head_quantization draft_load_config
    draft_sample_method draft_tensor_parallel_size dspark_draft_topk enable_adaptive_verification enforce_eager fly_entropy_threshold
    fly_entropy_top_k fly_window_size index_share_for_mtp_iteration kv_cache_dtype max_model_len method model moe_backend
    num_speculative_tokens num_speculative_tokens_per_batch_size parallel_drafting posterior_alpha posterior_threshold prompt_lookup_max
    prompt_lookup_min quantization rejection_sample_method revision speculative_token_tree suffix_decoding_max_cached_requests
    suffix_decoding_max_spec_factor suffix_decoding_max_tree_depth suffix_decoding_min_token_prob synthetic_acceptance_length
    synthetic_acceptance_rate synthetic_acceptance_rates tensor_parallel_size use_heterogeneous_vocab use_local_argmax_reduction xpress_topc
"""))  # fmt: skip
RENAMED = {
    "ngram_prompt_lookup_max": "prompt_lookup_max",
    "ngram_prompt_lookup_min": "prompt_lookup_min",
    "speculative_model": "model",
    "num_spec_tokens": "num_speculative_tokens",
    "speculative_draft_tensor_parallel_size": "draft_tensor_parallel_size",
    "speculative_max_model_len": "max_model_len",
    "speculative_disable_by_batch_size": "disable_by_batch_size",
}
JSON_OPTIONS = (
    CONFIG, "hf_overrides", "kv_transfer_config", "kv_events_config", "compilation_config", "override_generation_config",
    "mm_processor_kwargs", "rope_scaling", "eplb_config", "additional_config", "pooler_config", "structured_outputs_config",
    "attention_config", "default_chat_template_kwargs", "media_io_kwargs", "limit_mm_per_prompt", "model_loader_extra_config",
)  # fmt: skip


@rule("VL070", "speculation-without-token-count", tools=("vllm",), harm="crash", causes=("spec-tokens",))
def speculation_without_token_count(unit: Unit, job: Job) -> Found:
    """Allow speculation-without-token-count.

    ## What it does
    Finds a `--speculative-config` with a draft model or n-grams and no `num_speculative_tokens`, or one that is not positive.

    ## Why is this bad?
    Only drafts whose configuration counts their tokens do without it. vLLM stops: "num_speculative_tokens must be provided with
    speculative model unless the draft model config contains an n_predict parameter."

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-32B --speculative-config '{"method": "ngram", "prompt_lookup_max": 4}'
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-32B --speculative-config '{"method": "ngram", "prompt_lookup_max": 4, "num_speculative_tokens": 5}'
    ```

    ## Versions
    0.8 and later.

    ## References
    - vllm 0.33.0, config/speculative.py, _verify_args
    - vllm 0.8.5.post1, config.py, SpeculativeConfig
    """
    whole = unit.setting(CONFIG)
    section = unit.section(CONFIG)
    if whole is None or not section:
        return
    tokens = section.get("num_speculative_tokens")
    method = unit.text(f"{CONFIG}.method", "draft_model" if "model" in section else "")
    draft = (unit.text(f"{CONFIG}.model", "") or "").lower()
    counted = (
        method is None
        or method in COUNTED_BY_MODEL
        or method.endswith("_mtp")
        or any(m in draft for m in ("eagle", "medusa", "mtp"))
    )
    if tokens is None and not counted and "speculative_token_tree" not in section:
        what = f"speculation by {method}" if method else "speculation"
        yield Problem(whole, f"{what} needs num_speculative_tokens", advise('add "num_speculative_tokens": 3'))
    elif tokens is not None and (number := unit.number(f"{CONFIG}.num_speculative_tokens")) is not None and number <= 0:
        yield Problem(tokens, f"num_speculative_tokens is {number:.12g}, and has to be 1 or more", set_value(tokens, 3))


@rule("VL071", "lookup-window-reversed", tools=("vllm",), harm="crash", causes=("spec-ngram",))
def lookup_window_reversed(unit: Unit, job: Job) -> Found:
    r"""Allow lookup-window-reversed.

    ## What it does
    Checks that `prompt_lookup_min` is at least 1 and at most `prompt_lookup_max`.

    ## Why is this bad?
    vLLM stops: "prompt_lookup_min=5 must be <= prompt_lookup_max=4".

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-32B \
      --speculative-config '{"method":"ngram","num_speculative_tokens":5,"prompt_lookup_min":5,"prompt_lookup_max":4}'
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-32B \
      --speculative-config '{"method":"ngram","num_speculative_tokens":5,"prompt_lookup_min":2,"prompt_lookup_max":4}'
    ```

    ## Versions
    All; before 0.8 the options were `--ngram-prompt-lookup-min` and `--ngram-prompt-lookup-max`.

    ## References
    - vllm 0.33.0, config/speculative.py, __post_init__
    """
    for prefix in (f"{CONFIG}.", "ngram_"):
        low, high = unit.number(f"{prefix}prompt_lookup_min"), unit.number(f"{prefix}prompt_lookup_max")
        if low is not None and high is not None and low > high:
            setting = unit[f"{prefix}prompt_lookup_min"]
            message = f"prompt_lookup_min is {low:.12g}, more than prompt_lookup_max = {high:.12g}"
            yield Problem(setting, message, set_value(setting, int(high)), (unit[f"{prefix}prompt_lookup_max"],))


@rule("VL072", "draft-parallel-size", tools=("vllm",), harm="crash", causes=("spec-draft-tp",))
def draft_parallel_size(unit: Unit, job: Job) -> Found:
    r"""Allow draft-parallel-size.

    ## What it does
    Checks that `draft_tensor_parallel_size` is 1 or the tensor parallel size of the server.

    ## Why is this bad?
    vLLM stops: "speculative_draft_tensor_parallel_size=2 cannot be other value than 1 or target model tensor_parallel_size".

    ## Example
    ```bash serve.sh
    vllm serve big/model --tensor-parallel-size 8 \
      --speculative-config '{"model":"small/model","num_speculative_tokens":3,"draft_tensor_parallel_size":2}'
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve big/model --tensor-parallel-size 8 \
      --speculative-config '{"model":"small/model","num_speculative_tokens":3,"draft_tensor_parallel_size":1}'
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, config/speculative.py, _verify_and_get_draft_tp
    """
    setting = unit.setting(f"{CONFIG}.draft_tensor_parallel_size", "speculative_draft_tensor_parallel_size")
    draft, target = unit.number(setting.name) if setting is not None else None, unit.size("tensor_parallel")
    if setting is not None and draft is not None and target is not None and draft not in (1, target):
        message = f"the draft's tensor parallel size is {draft:.12g}, and it is 1 or the server's, {target}"
        yield Problem(setting, message, set_value(setting, 1))


@rule("VL073", "speculation-key-unknown", tools=("vllm",), harm="crash", causes=("spec-config-key",))
def speculation_key_unknown(unit: Unit, job: Job) -> Found:
    """Allow speculation-key-unknown.

    ## What it does
    Checks the keys of `--speculative-config`: those of 0.8.5 to 0.33.0 are known. `tensor_parallel_size` is refused there.

    ## Why is this bad?
    vLLM stops: "SpeculativeConfig ... Unexpected keyword argument", or "'tensor_parallel_size' is not a valid argument in the
    speculative_config. Please pass 'draft_tensor_parallel_size' instead."

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-32B --speculative-config '{"method":"ngram","num_speculative_tokens":5,"ngram_prompt_lookup_max":4}'
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-32B --speculative-config '{"method":"ngram","num_speculative_tokens":5,"prompt_lookup_max":4}'
    ```

    ## Versions
    0.8 and later.

    ## References
    - vllm 0.8.5.post1 to 0.33.0, SpeculativeConfig
    - vllm-project/vllm#15348
    """
    section = unit.section(CONFIG)
    for key, setting in section.items():
        if key == "tensor_parallel_size":
            fix = (
                rename(setting, "draft_tensor_parallel_size")
                if "draft_tensor_parallel_size" not in section
                else remove(setting)
            )
            yield Problem(
                setting, "the speculative configuration takes draft_tensor_parallel_size, not tensor_parallel_size", fix
            )
        elif key not in KEYS:
            better = RENAMED.get(key) or nearest(key, KEYS)
            fix = rename(setting, better) if better and better not in section else remove(setting)
            yield Problem(
                setting, f"the speculative configuration has no key {key}", fix, severity=None if better else "warning"
            )


@rule("VL074", "draft-model-not-supported", tools=("vllm",), harm="crash", causes=("spec-draft-model",))
def draft_model_not_supported(unit: Unit, job: Job) -> Found:
    """Allow draft-model-not-supported.

    ## What it does
    Finds speculation by a plain draft model in versions that lost it with the old engine.

    ## Why is this bad?
    vLLM stops: "Speculative decoding with draft model is not supported yet. Please consider using other speculative decoding
    methods such as ngram, medusa, eagle, or deepseek_mtp."

    ## Example
    ```bash serve.sh vllm=0.10.2
    vllm serve Qwen/Qwen3-32B --speculative-config '{"method":"draft_model","model":"Qwen/Qwen3-0.6B","num_speculative_tokens":3}'
    ```

    ## Use instead
    ```bash serve.sh vllm=0.10.2
    vllm serve Qwen/Qwen3-32B --speculative-config '{"method":"ngram","prompt_lookup_max":4,"num_speculative_tokens":3}'
    ```

    ## Versions
    0.10 to 0.12.

    ## References
    - vllm 0.10.2 and 0.12.0, engine/arg_utils.py
    """
    setting = unit.setting(f"{CONFIG}.method")
    if setting is not None and setting.value == "draft_model" and between(unit, "0.10", "0.13"):
        yield Problem(
            setting,
            "this version does not speculate with a draft model",
            advise("use ngram or an EAGLE head, or another version"),
        )


@rule("VL075", "step-too-short-for-drafts", tools=("vllm",), harm="crash", causes=("spec-lora-tokens",))
def step_too_short_for_drafts(unit: Unit, job: Job) -> Found:
    r"""Allow step-too-short-for-drafts.

    ## What it does
    With LoRA and speculation, checks that `--max-num-batched-tokens` is at least `--max-num-seqs` x (drafted tokens + 1).

    ## Why is this bad?
    vLLM stops: "Consider increasing max_num_batched_tokens or decreasing num_speculative_tokens".

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --enable-lora --max-num-seqs 1024 --max-num-batched-tokens 4096 \
      --speculative-config '{"method":"ngram","prompt_lookup_max":4,"num_speculative_tokens":5}'
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --enable-lora --max-num-seqs 256 --max-num-batched-tokens 4096 \
      --speculative-config '{"method":"ngram","prompt_lookup_max":4,"num_speculative_tokens":5}'
    ```

    ## Versions
    0.10 and later.

    ## References
    - vllm 0.33.0, engine/arg_utils.py, create_engine_config
    """
    tokens, sequences = unit.number("max_num_batched_tokens"), unit.number("max_num_seqs")
    drafted = unit.number(f"{CONFIG}.num_speculative_tokens")
    if tokens is None or sequences is None or drafted is None or unit.truth("enable_lora") is not True:
        return
    if tokens < sequences * (drafted + 1):
        setting = unit["max_num_batched_tokens"]
        message = (
            f"max_num_batched_tokens is {tokens:.12g}, less than {sequences:.12g} sequences x {drafted + 1:.12g} tokens"
        )
        yield Problem(setting, message, set_value(setting, int(sequences * (drafted + 1))))


@rule("VL076", "argument-is-no-json", tools=("vllm",), harm="crash", causes=("json-flag",))
def argument_is_no_json(unit: Unit, job: Job) -> Found:
    """Allow argument-is-no-json.

    ## What it does
    Finds options that take JSON with a value that is none: without the quotes that the shell took away, with single quotes
    inside, or `image=2` for `--limit-mm-per-prompt`.

    ## Why is this bad?
    vLLM stops: "argument --speculative-config: Value {method:ngram} cannot be converted to <function loads>".

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-32B --hf-overrides {"rope_theta":1000000}
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-32B --hf-overrides '{"rope_theta":1000000}'
    ```

    ## Versions
    All; `--limit-mm-per-prompt image=2` was taken before 0.10.

    ## References
    - vllm 0.33.0, engine/arg_utils.py, parse_type
    - vllm 0.10.2, engine/arg_utils.py, union_dict_and_str
    """
    for name in JSON_OPTIONS:
        setting = unit.setting(name)
        if setting is None or setting.syntax != "shell" or not isinstance(setting.value, str) or unit.section(name):
            continue
        text = setting.value.strip()
        if name == "limit_mm_per_prompt" and re.fullmatch(r"\w+=\d+(,\w+=\d+)*", text):
            if unit.since("0.10"):
                yield Problem(
                    setting, f"{name} takes JSON: {text} was taken by older versions", _as_json(setting, text)
                )
        elif text.startswith("{") and text != "{}":
            yield Problem(
                setting,
                f"the value of {name} is no JSON: {text[:40]}",
                advise("put it in single quotes, with double quotes inside"),
            )


@rule("VL077", "rope-scaling-incomplete", tools=("vllm", "sglang"), harm="crash", causes=("rope-scaling",))
def rope_scaling_incomplete(unit: Unit, job: Job) -> Found:
    r"""Allow rope-scaling-incomplete.

    ## What it does
    Checks a rope scaling that is set on the command line: YaRN, linear and dynamic scaling need a `factor` of 1 or more, and
    the context that is promised has to fit factor x the original context.

    ## Why is this bad?
    Without the factor the model's code stops with a KeyError; a longer context than factor x original reads positions that
    were never scaled, and answers degrade.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen2.5-7B-Instruct --max-model-len 131072 \
      --hf-overrides '{"rope_scaling":{"rope_type":"yarn","original_max_position_embeddings":32768}}'
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen2.5-7B-Instruct --max-model-len 131072 \
      --hf-overrides '{"rope_scaling":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":32768}}'
    ```

    ## Versions
    All. `--rope-scaling` is the old option; in newer models the section is called rope_parameters.

    ## References
    - Qwen documentation, deployment/vllm, context length
    - vllm 0.33.0, transformers_utils/config.py
    """
    for prefix in (
        "rope_scaling",
        "hf_overrides.rope_scaling",
        "hf_overrides.rope_parameters",
        "json_model_override_args.rope_scaling",
    ):
        section = unit.section(prefix)
        kind = unit.text(f"{prefix}.rope_type") or unit.text(f"{prefix}.type")
        if not section or kind not in ("yarn", "linear", "dynamic"):
            continue
        factor = unit.number(f"{prefix}.factor", 0)
        if "factor" not in section:
            yield Problem(unit[prefix], f"rope scaling by {kind} has no factor", advise('add "factor": 4.0'))
        elif factor is not None and factor < 1:
            yield Problem(section["factor"], f"the factor of rope scaling is {factor:.12g}, less than 1", None)
        else:
            yield from _too_long(unit, prefix, factor)


def _too_long(unit: Unit, prefix: str, factor: float | None) -> Found:
    original, promised = unit.number(f"{prefix}.original_max_position_embeddings"), unit.named("max_length")
    length = unit.number(promised.name) if promised is not None else None
    if factor is None or original is None or length is None or promised is None or length <= factor * original:
        return
    message = f"{promised.name} is {length:.12g}, more than factor {factor:.12g} x {original:.12g} positions = {factor * original:.12g}"
    yield Problem(
        promised, message, set_value(promised, int(factor * original)), (unit[f"{prefix}.factor"],), "warning"
    )


def _as_json(setting: Setting, text: str) -> Fix:
    pairs = (pair.split("=") for pair in text.split(","))
    return set_value(setting, "'{" + ", ".join(f'"{key}": {value}' for key, value in pairs) + "}'")
