"""SGLang's speculative decoding: sizes that belong together, draft models, and what it does not go with."""

from advisor_mcp.linting.edits import Fix, add_after, advise, both, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._sg import algorithm, attention_groups, backends
from advisor_mcp.linting.unit import Setting, Unit

SGLANG = ("sglang",)
STEPS, WIDTH, TOKENS = "speculative_num_steps", "speculative_eagle_topk", "speculative_num_draft_tokens"
EAGLES = ("EAGLE", "EAGLE3", "STANDALONE")


@rule("SG030", "draft-sizes-incomplete", tools=SGLANG, harm="crash", causes=("spec-tokens",))
def draft_sizes_incomplete(unit: Unit, job: Job) -> Found:
    r"""Allow draft-sizes-incomplete.

    ## What it does
    Checks that `--speculative-num-steps`, `--speculative-eagle-topk` and `--speculative-num-draft-tokens` are all given or all
    left out.

    ## Why is this bad?
    SGLang chooses all three where the steps are left out, and stops at an assertion without text where another one is set
    then. Where the steps are set, it compares numbers that are not there: "'>' not supported between 'NoneType' and 'int'".

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B-Instruct --speculative-algorithm EAGLE3 \
      --speculative-draft-model-path yuhuili/EAGLE3-LLaMA3.1-Instruct-8B --speculative-num-draft-tokens 4
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B-Instruct --speculative-algorithm EAGLE3 \
      --speculative-draft-model-path yuhuili/EAGLE3-LLaMA3.1-Instruct-8B --speculative-num-draft-tokens 4 \
      --speculative-num-steps 3 --speculative-eagle-topk 1
    ```

    ## Versions
    All. Algorithms other than EAGLE, EAGLE3, NEXTN and STANDALONE are not checked.

    ## References
    - sglang 0.5.9, srt/server_args.py, _handle_speculative_decoding
    - sglang 0.5.23, srt/arg_groups/speculative_hook.py
    - sgl-project/sglang#5673
    """
    given = [unit[name] for name in (STEPS, WIDTH, TOKENS) if name in unit]
    if algorithm(unit)[1] not in EAGLES or len(given) in (0, 3) or unit.open or "speculative_adaptive" in unit:
        return
    missing = [name for name in (STEPS, WIDTH, TOKENS) if name not in unit]
    width, tokens = unit.number(WIDTH, 1), unit.number(TOKENS)
    steps = unit.number(STEPS, (tokens - 1) if tokens and width == 1 else 3)
    values = {STEPS: steps, WIDTH: 1, TOKENS: (steps or 3) + 1}
    fixes = [add_after(given[-1], "--" + name.replace("_", "-"), f"{values[name]:.12g}") for name in missing]
    known = given[-1].syntax == "shell" and width == 1
    names = " and ".join(name.replace("_", "-") for name in missing)
    yield Problem(
        given[0], f"{given[0].written} is set without {names}", both(*fixes) if known else advise(f"set {names}")
    )


@rule(
    "SG031", "draft-tokens-adjusted", tools=SGLANG, harm="ignored", severity="warning", causes=("spec-tokens-adjusted",)
)
def draft_tokens_adjusted(unit: Unit, job: Job) -> Found:
    r"""Allow draft-tokens-adjusted.

    ## What it does
    Checks that with `--speculative-eagle-topk 1` the draft tokens are the steps plus one.

    ## Why is this bad?
    The draft is a chain then: every step adds one token. SGLang warns and sets the number itself, so the value in the file is
    not the one that is used.

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --speculative-algorithm EAGLE \
      --speculative-num-steps 3 --speculative-eagle-topk 1 --speculative-num-draft-tokens 8
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --speculative-algorithm EAGLE \
      --speculative-num-steps 3 --speculative-eagle-topk 1 --speculative-num-draft-tokens 4
    ```

    ## Versions
    All.

    ## References
    - sglang 0.5.23, srt/arg_groups/speculative_hook.py
    - sgl-project/sglang#13212
    """
    steps, width, tokens = unit.number(STEPS), unit.number(WIDTH), unit.number(TOKENS)
    if algorithm(unit)[1] in EAGLES and width == 1 and steps is not None and tokens is not None and tokens != steps + 1:
        setting = unit[TOKENS]
        message = f"a chain of {steps:.12g} steps is checked as {steps + 1:.12g} tokens, not {tokens:.12g}"
        yield Problem(setting, message, set_value(setting, f"{steps + 1:.12g}"), (unit[STEPS],))


@rule("SG032", "draft-tree-with-pages", tools=SGLANG, harm="crash", causes=("spec-tree-pages",))
def draft_tree_with_pages(unit: Unit, job: Job) -> Found:
    r"""Allow draft-tree-with-pages.

    ## What it does
    Checks a draft that branches (`--speculative-eagle-topk` above 1) against `--page-size` and the attention backend: pages of
    more than one token need flashinfer or fa3 (triton too in recent versions), and trtllm_mha takes no branches.

    ## Why is this bad?
    SGLang stops: "speculative_eagle_topk > 1 with page_size > 1 is unstable and produces incorrect results", or "trtllm_mha
    backend only supports topk = 1".

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --attention-backend trtllm_mha \
      --speculative-algorithm EAGLE --speculative-num-steps 3 --speculative-eagle-topk 4 --speculative-num-draft-tokens 16
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --attention-backend flashinfer \
      --speculative-algorithm EAGLE --speculative-num-steps 3 --speculative-eagle-topk 4 --speculative-num-draft-tokens 16
    ```

    ## Versions
    0.5.3 and later.

    ## References
    - sglang 0.5.9, srt/server_args.py, _handle_speculative_decoding
    - sglang 0.5.23, srt/arg_groups/speculative_hook.py
    """
    width, page = unit.number(WIDTH), unit.number("page_size", 1)
    if algorithm(unit)[1] not in EAGLES or width is None or width < 2 or unit.before("0.5.3"):
        return
    named, setting = backends(unit), unit[WIDTH]
    if "trtllm_mha" in named:
        yield Problem(setting, "trtllm_mha checks a chain only", set_value(setting, 1), (named["trtllm_mha"],))
        return
    known = ("flashinfer", "fa3") if unit.before("0.5.15") else ("flashinfer", "fa3", "triton")
    given = unit.setting("attention_backend")
    if page is not None and page > 1 and given is not None and given.value not in known and given.known:
        message = f"a draft that branches over pages of {page:.12g} tokens needs the backend {' or '.join(known)}"
        yield Problem(given, message, set_value(given, known[0]), (setting, unit["page_size"]))


@rule("SG033", "draft-model-not-named", tools=SGLANG, harm="crash", causes=("spec-draft-model",))
def draft_model_not_named(unit: Unit, job: Job) -> Found:
    r"""Allow draft-model-not-named.

    ## What it does
    Finds EAGLE3, STANDALONE or DFLASH speculation without `--speculative-draft-model-path`.

    ## Why is this bad?
    Only models that carry their own draft layers (EAGLE or NEXTN) need no draft model. SGLang stops: "DFLASH speculative
    decoding requires setting --speculative-draft-model-path", or later at a path that is None.

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-32B --speculative-algorithm STANDALONE
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-32B --speculative-algorithm STANDALONE \
      --speculative-draft-model-path Qwen/Qwen3-0.6B
    ```

    ## Versions
    All.

    ## References
    - sglang 0.5.23, srt/arg_groups/speculative_hook.py
    - sglang documentation, advanced_features/speculative_decoding
    """
    setting, name = algorithm(unit)
    draft = ("speculative_draft_model_path", "speculative_draft_model")
    if setting is not None and name in ("EAGLE3", "STANDALONE", "DFLASH") and unit.absent(*draft):
        yield Problem(setting, f"{name} needs a draft model", advise("add --speculative-draft-model-path"))


@rule("SG034", "speculation-with-attention-groups", tools=SGLANG, harm="crash", causes=("spec-dp-attention",))
def speculation_with_attention_groups(unit: Unit, job: Job) -> Found:
    r"""Allow speculation-with-attention-groups.

    ## What it does
    Finds data-parallel attention with STANDALONE or NGRAM speculation, and with DFLASH where `--enable-dp-lm-head` is missing.

    ## Why is this bad?
    SGLang stops: "Currently standalone speculative decoding does not support dp attention", or "DFLASH with dp attention
    requires --enable-dp-lm-head".

    ## Example
    ```bash serve.sh sglang=0.5.9
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --dp-size 8 --enable-dp-attention \
      --speculative-algorithm NGRAM
    ```

    ## Use instead
    ```bash serve.sh sglang=0.5.9
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --dp-size 8 --enable-dp-attention \
      --speculative-algorithm EAGLE
    ```

    ## Versions
    All for STANDALONE and DFLASH; NGRAM up to 0.5.14.

    ## References
    - sglang 0.5.9, srt/server_args.py, _handle_speculative_decoding
    - sglang 0.5.23, srt/arg_groups/speculative_hook.py
    """
    setting, name = algorithm(unit)
    groups, place = attention_groups(unit), unit.setting("enable_dp_attention", "attn_dp_size")
    if setting is None or place is None or groups is None or groups < 2:
        return
    old_ngram = name == "NGRAM" and unit.version is not None and unit.before("0.5.15")
    if name == "STANDALONE" or old_ngram:
        yield Problem(setting, f"{name} does not go with data-parallel attention", remove(setting), (place,))
    elif name == "DFLASH" and unit.absent("enable_dp_lm_head"):
        fix = (
            add_after(setting, "--enable-dp-lm-head") if setting.syntax == "shell" else advise("set enable-dp-lm-head")
        )
        yield Problem(setting, "DFLASH with data-parallel attention needs enable-dp-lm-head", fix, (place,))


@rule(
    "SG035",
    "mixed-chunks-with-speculation",
    tools=SGLANG,
    harm="ignored",
    severity="warning",
    causes=("mixed-chunk-spec",),
)
def mixed_chunks_with_speculation(unit: Unit, job: Job) -> Found:
    """Allow mixed-chunks-with-speculation.

    ## What it does
    Finds `--enable-mixed-chunk` with speculative decoding.

    ## Why is this bad?
    SGLang turns mixed chunks off with a warning, or stops: "enable_mixed_chunk is required for speculative decoding" (it means
    that it must not be set).

    ## Example
    ```bash serve.sh sglang=0.5.9
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --speculative-algorithm EAGLE --enable-mixed-chunk
    ```

    ## Use instead
    ```bash serve.sh sglang=0.5.9
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --speculative-algorithm EAGLE
    ```

    ## Versions
    Up to 0.5.14 for all algorithms; from then on for STANDALONE and NGRAM.

    ## References
    - sglang 0.5.9, srt/server_args.py, check_server_args
    - sglang 0.5.23, srt/speculative/spec_info.py, supports_mixed_chunk
    """
    (setting, name), mixed = algorithm(unit), unit.setting("enable_mixed_chunk")
    if setting is None or mixed is None or mixed.value is False or not name:
        return
    old = unit.version is not None and unit.before("0.5.15")
    if old or name in ("STANDALONE", "NGRAM"):
        yield Problem(mixed, f"{name} speculation turns mixed chunks off", remove(mixed), (setting,))


@rule(
    "SG036", "few-requests-with-speculation", tools=SGLANG, harm="slow", severity="info", causes=("spec-max-running",)
)
def few_requests_with_speculation(unit: Unit, job: Job) -> Found:
    r"""Allow few-requests-with-speculation.

    ## What it does
    Finds speculative decoding without `--max-running-requests`.

    ## Why is this bad?
    SGLang then takes 48 requests at a time in place of thousands, over all data-parallel groups together: with 8 groups 6 each.
    Under load the others wait, and throughput falls.

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --speculative-algorithm EAGLE
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --speculative-algorithm EAGLE \
      --max-running-requests 256
    ```

    ## Versions
    0.5.4 and later, except DeepSeek-V4, which brings its own number.

    ## References
    - sgl-project/sglang#34290
    - sgl-project/sglang#33199
    - sglang 0.5.23, srt/arg_groups/speculative_hook.py
    """
    setting, name = algorithm(unit)
    if setting is None or name not in (*EAGLES, "NGRAM", "DFLASH") or unit.before("0.5.4"):
        return
    named = unit.named("model")
    own_default = named is not None and "deepseek-v4" in str(named.value).lower()
    if unit.absent("max_running_requests") and not own_default:
        groups = attention_groups(unit) or 1
        each = f", {48 // groups} in each of {groups} groups" if groups > 1 else ""
        message = f"speculation limits the server to 48 requests at a time{each}, where max-running-requests is not set"
        yield Problem(setting, message, _limit(setting))


@rule("SG037", "speculation-with-backend", tools=SGLANG, harm="crash", causes=("spec-backend",))
def speculation_with_backend(unit: Unit, job: Job) -> Found:
    r"""Allow speculation-with-backend.

    ## What it does
    Finds speculative decoding with the attention backend flex_attention, and before 0.5 with trtllm_mla.

    ## Why is this bad?
    SGLang stops: "Speculative decoding is currently not supported with Flex Attention backend".

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --attention-backend flex_attention \
      --speculative-algorithm EAGLE
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --attention-backend flashinfer \
      --speculative-algorithm EAGLE
    ```

    ## Versions
    0.5.3 and later for flex_attention.

    ## References
    - sglang 0.5.23, srt/arg_groups/attention_hook.py
    - sglang 0.4.10.post2, srt/server_args.py, __post_init__
    """
    setting, backend = algorithm(unit)[0], unit.setting("attention_backend")
    if setting is None or backend is None:
        return
    old = unit.version is not None and unit.before("0.5")
    if backend.value == "flex_attention" or (old and backend.value == "trtllm_mla"):
        yield Problem(
            backend,
            f"{backend.value} does not go with speculative decoding",
            set_value(backend, "flashinfer"),
            (setting,),
        )


@rule("SG038", "adapters-with-speculation", tools=SGLANG, harm="crash", causes=("spec-lora",))
def adapters_with_speculation(unit: Unit, job: Job) -> Found:
    r"""Allow adapters-with-speculation.

    ## What it does
    Finds LoRA adapters with speculative decoding other than NGRAM.

    ## Why is this bad?
    SGLang stops: "Currently LoRA is only compatible with NGRAM speculative decoding".

    ## Example
    ```bash serve.sh sglang=0.5.9
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --lora-paths sql=/adapters/sql --speculative-algorithm EAGLE3 \
      --speculative-draft-model-path Tengyunw/qwen3_8b_eagle3
    ```

    ## Use instead
    ```bash serve.sh sglang=0.5.9
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --lora-paths sql=/adapters/sql --speculative-algorithm NGRAM
    ```

    ## Versions
    0.5.4 to 0.5.14. From then on EAGLE and others go with adapters, STANDALONE does not.

    ## References
    - sglang 0.5.9, srt/server_args.py, check_lora_server_args
    - sglang 0.5.23, srt/arg_groups/lora_hook.py
    """
    (setting, name), adapters = algorithm(unit), unit.setting("lora_paths", "enable_lora")
    if setting is None or adapters is None or adapters.value is False or not name or unit.before("0.5.4"):
        return
    old = unit.version is not None and unit.before("0.5.15")
    if name == "STANDALONE" or (old and name != "NGRAM"):
        yield Problem(setting, f"adapters do not go with {name} speculation", remove(setting), (adapters,))


def _limit(setting: Setting) -> Fix:
    return (
        add_after(setting, "--max-running-requests", 256)
        if setting.syntax == "shell"
        else advise("set max-running-requests")
    )
