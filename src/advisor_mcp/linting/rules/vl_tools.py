"""vLLM's parsers of tool calls and reasoning."""

from advisor_mcp.linting.edits import add_after, advise, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._vl import is_absent, is_off, is_on, model_name, names_since, nearest, switch
from advisor_mcp.linting.unit import Setting, Unit

TOOL_PARSERS = names_since({
    "": "granite granite-20b-fc hermes internlm jamba llama3_json mistral pythonic",
    "0.7.3": "llama4_json phi4_mini_json",
    "0.8.5": "deepseek_v3 llama4_pythonic minimax xlam",
    "0.9.2": "deepseek_v31 glm45 hunyuan_a13b kimi_k2 openai qwen3_coder seed_oss step3",
    "0.10.2": "ernie45 longcat minimax_m2 olmo3 qwen3_xml",
    "0.12.0": "deepseek_v32 functiongemma gigachat3 glm47",
    "0.14.1": "step3p5",
    "0.17.1": "deepseek_v4 gemma4 granite4 hy_v3 mimo",
    "0.20.2": "apertus cohere_command3 cohere_command4 lfm2 minicpm5 minimax_m3 poolside_v1",
    "0.24.0": "dots inkling kimi_k3 ling3 muse_glimmer",
    "0.28.0": "beam deepseek_v41 hf hy_v4 k2_horizon muse musespark1x plamo3 qwen3_json step5",
})  # fmt: skip
REASONING_PARSERS = names_since({
    "0.6.6": "deepseek_r1",
    "0.7.3": "granite",
    "0.8.5": "qwen3",
    "0.9.2": "glm45 hunyuan_a13b mistral openai_gptoss step3",
    "0.10.2": "deepseek_v3 ernie45 kimi_k2 minimax_m2 minimax_m2_append_think olmo3 seed_oss",
    "0.12.0": "holo2",
    "0.14.1": "nemotron_v3 step3p5",
    "0.17.1": "deepseek_v4 gemma4 hy_v3 mimo",
    "0.20.2": "cohere_command3 cohere_command4 glm47 minimax_m3 poolside_v1",
    "0.24.0": "inkling kimi_k3 ling3 muse_glimmer",
    "0.28.0": "beam deepseek_v41 granite_thinking_parser hf hy_v4 k2_horizon minicpmv muse musespark1x plamo3 step5",
})  # fmt: skip
# The format that a family of models writes its tool calls in; the longest part of a name that fits counts.
FAMILY_TOOLS: dict[str, tuple[str, ...]] = {
    "qwen2.5": ("hermes",),
    "qwq": ("hermes",),
    "qwen3-coder": ("qwen3_coder", "qwen3_xml"),
    "llama-3.1": ("llama3_json",),
    "llama-3.2": ("llama3_json", "pythonic"),
    "llama-3.3": ("llama3_json",),
    "llama-4": ("llama4_pythonic", "llama4_json"),
    "mistral-7b-instruct": ("mistral",),
    "mistral-small": ("mistral",),
    "mistral-large": ("mistral",),
    "mistral-nemo": ("mistral",),
    "kimi-k2": ("kimi_k2",),
    "glm-4.5": ("glm45",),
    "glm-4.6": ("glm45",),
    "glm-4.7": ("glm47",),
    "gpt-oss": ("openai",),
    "deepseek-v3-0324": ("deepseek_v3",),
    "deepseek-r1-0528": ("deepseek_v3",),
    "deepseek-v3.1": ("deepseek_v31",),
}
FAMILY_REASONING: dict[str, tuple[str, ...]] = {
    "deepseek-r1": ("deepseek_r1",),
    "deepseek-v3.1": ("deepseek_v3",),
    "qwq-32b": ("deepseek_r1",),
    "qwen3": ("qwen3", "deepseek_r1"),
    "granite-3.2": ("granite",),
    "glm-4.5": ("glm45",),
    "gpt-oss": ("openai_gptoss",),
    "hunyuan-a13b": ("hunyuan_a13b",),
    "kimi-k2": ("kimi_k2",),
}
DERIVED = (
    "finetun",
    "-ft",
    "lora",
    "merged",
    "hermes",
    "nous",
    "xlam",
    "watt",
    "toolace",
    "groq",
    "distill",
    "functionary",
)


@rule("VL001", "auto-tool-choice-without-parser", tools=("vllm",), harm="crash", causes=("tool-parser",))
def auto_tool_choice_without_parser(unit: Unit, job: Job) -> Found:
    """Allow auto-tool-choice-without-parser.

    ## What it does
    Finds `--enable-auto-tool-choice` without `--tool-call-parser`.

    ## Why is this bad?
    The server cannot tell a tool call from text without the parser of the model's format, and stops before it loads
    anything: "--enable-auto-tool-choice requires --tool-call-parser".

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen2.5-7B-Instruct --enable-auto-tool-choice
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen2.5-7B-Instruct --enable-auto-tool-choice --tool-call-parser hermes
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, entrypoints/common/cli_args.py, validate_parsed_serve_args
    - QwenLM/Qwen-Agent#344
    - runpod-workers/worker-vllm#113
    """
    if not is_on(unit, "enable_auto_tool_choice") or not unit.absent("tool_call_parser"):
        return
    setting = unit["enable_auto_tool_choice"]
    parser = next(iter(_family(model_name(unit), FAMILY_TOOLS)), None)
    name = "--tool-call-parser" if setting.syntax == "shell" else _like(setting, "tool_call_parser")
    fix = add_after(setting, name, parser) if parser else advise("add the tool-call-parser of the model's family")
    yield Problem(
        setting, "enable-auto-tool-choice is set, but no tool-call-parser says how the model writes its calls", fix
    )


@rule(
    "VL002",
    "tool-parser-without-auto-choice",
    tools=("vllm",),
    harm="ignored",
    severity="warning",
    causes=("tool-parser",),
)
def tool_parser_without_auto_choice(unit: Unit, job: Job) -> Found:
    """Allow tool-parser-without-auto-choice.

    ## What it does
    Finds `--tool-call-parser` without `--enable-auto-tool-choice`.

    ## Why is this bad?
    The parser is used only when the model may choose tools itself. Requests with `tool_choice: "auto"`, which is what
    clients send by default, are answered with 400: ""auto" tool choice requires --enable-auto-tool-choice and
    --tool-call-parser to be set".

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen2.5-7B-Instruct --tool-call-parser hermes
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen2.5-7B-Instruct --tool-call-parser hermes --enable-auto-tool-choice
    ```

    ## Versions
    All.

    ## References
    - QwenLM/Qwen-Agent#344
    - vllm documentation, features/tool_calling
    """
    if unit.text("tool_call_parser") is None or is_on(unit, "enable_auto_tool_choice"):
        return
    setting = unit["tool_call_parser"]
    found, _ = switch(unit, "enable_auto_tool_choice")
    if found is None and unit.absent("enable_auto_tool_choice", "no_enable_auto_tool_choice"):
        fix = add_after(setting, _like(setting, "enable_auto_tool_choice"), None if setting.syntax == "shell" else True)
        yield Problem(setting, f"{setting.shown} is not used: enable-auto-tool-choice is not set", fix)
    elif found is not None and is_off(unit, "enable_auto_tool_choice"):
        yield Problem(setting, f"{setting.shown} is not used: {found.shown}", also=(found,))


@rule("VL003", "unknown-tool-parser", tools=("vllm",), harm="crash", causes=("tool-parser-name",))
def unknown_tool_parser(unit: Unit, job: Job) -> Found:
    """Allow unknown-tool-parser.

    ## What it does
    Checks that `--tool-call-parser` names a parser that the version in use has.

    ## Why is this bad?
    The server stops: "invalid tool call parser". A parser of a newer release, or of another server, is not there.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen2.5-7B-Instruct --enable-auto-tool-choice --tool-call-parser qwen25
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen2.5-7B-Instruct --enable-auto-tool-choice --tool-call-parser hermes
    ```

    ## Versions
    The names are those of 0.6.6 to 0.33.0; a version between two that were read is given the benefit of the doubt.

    ## References
    - vllm 0.33.0, tool_parsers/__init__.py
    - vllm 0.33.0, entrypoints/launchers/api_server, validate_api_server_args
    """
    yield from _unknown(unit, "tool_call_parser", TOOL_PARSERS, FAMILY_TOOLS, "tool_parser_plugin")


@rule("VL004", "unknown-reasoning-parser", tools=("vllm",), harm="crash", causes=("reasoning-parser-name",))
def unknown_reasoning_parser(unit: Unit, job: Job) -> Found:
    """Allow unknown-reasoning-parser.

    ## What it does
    Checks that `--reasoning-parser` names a parser that the version in use has.

    ## Why is this bad?
    The server stops: "invalid reasoning parser".

    ## Example
    ```bash serve.sh vllm=0.8.5
    vllm serve Qwen/Qwen3-8B --reasoning-parser qwen3
    ```

    ## Use instead
    ```bash serve.sh vllm=0.9.2
    vllm serve Qwen/Qwen3-8B --reasoning-parser qwen3
    ```

    ## Versions
    The names are those of 0.7.3 to 0.33.0; a version between two that were read is given the benefit of the doubt.

    ## References
    - vllm 0.33.0, reasoning/__init__.py
    - vllm-project/vllm#18538
    """
    yield from _unknown(unit, "reasoning_parser", REASONING_PARSERS, FAMILY_REASONING, "reasoning_parser_plugin")


@rule(
    "VL005",
    "tool-parser-of-another-model",
    tools=("vllm",),
    harm="wrong_result",
    severity="warning",
    causes=("tool-parser-model",),
)
def tool_parser_of_another_model(unit: Unit, job: Job) -> Found:
    """Allow tool-parser-of-another-model.

    ## What it does
    Compares `--tool-call-parser` with the format that the model's family is documented to write tool calls in.

    ## Why is this bad?
    Nothing fails: the parser does not find its marks, and every tool call comes back as plain text in `content` with an
    empty `tool_calls`.

    ## Example
    ```bash serve.sh
    vllm serve meta-llama/Llama-3.1-8B-Instruct --enable-auto-tool-choice --tool-call-parser hermes
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve meta-llama/Llama-3.1-8B-Instruct --enable-auto-tool-choice --tool-call-parser llama3_json
    ```

    ## Versions
    All. Fine-tuned models may write another format than their base; names that look like one are passed over.

    ## References
    - vllm documentation, features/tool_calling
    - QwenLM/Qwen3 discussion 1098
    """
    yield from _of_another(unit, "tool_call_parser", TOOL_PARSERS, FAMILY_TOOLS)


@rule(
    "VL006",
    "reasoning-parser-of-another-model",
    tools=("vllm",),
    harm="wrong_result",
    severity="warning",
    causes=("reasoning-parser-model",),
)
def reasoning_parser_of_another_model(unit: Unit, job: Job) -> Found:
    """Allow reasoning-parser-of-another-model.

    ## What it does
    Compares `--reasoning-parser` with the parser that is documented for the model's family.

    ## Why is this bad?
    The marks around the reasoning are not found: it stays in the answer, or the answer ends up in the reasoning field.

    ## Example
    ```bash serve.sh
    vllm serve deepseek-ai/DeepSeek-R1 --reasoning-parser granite
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve deepseek-ai/DeepSeek-R1 --reasoning-parser deepseek_r1
    ```

    ## Versions
    All.

    ## References
    - vllm documentation 0.26.0, features/reasoning_outputs
    """
    yield from _of_another(unit, "reasoning_parser", REASONING_PARSERS, FAMILY_REASONING)


@rule("VL007", "log-outputs-without-log-requests", tools=("vllm",), harm="crash", causes=("log-outputs",))
def log_outputs_without_log_requests(unit: Unit, job: Job) -> Found:
    """Allow log-outputs-without-log-requests.

    ## What it does
    Finds `--enable-log-outputs` without `--enable-log-requests`.

    ## Why is this bad?
    The server stops: "--enable-log-outputs requires --enable-log-requests".

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --enable-log-outputs
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --enable-log-outputs --enable-log-requests
    ```

    ## Versions
    0.11 and later.

    ## References
    - vllm 0.12.0, entrypoints/openai/cli_args.py
    """
    if is_on(unit, "enable_log_outputs") and unit.since("0.11") and unit.absent("enable_log_requests"):
        setting = unit["enable_log_outputs"]
        fix = add_after(setting, _like(setting, "enable_log_requests"), None if setting.syntax == "shell" else True)
        yield Problem(setting, "enable-log-outputs is set without enable-log-requests, which it needs", fix)


def _like(setting: Setting, name: str) -> str:
    """A name as this file spells names: with dashes on a command line and where the other key has them."""
    if setting.syntax == "shell":
        return "--" + name.replace("_", "-")
    return name if "_" in setting.written else name.replace("_", "-")


def _family(name: str, table: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    fits = sorted((part for part in table if part in name), key=len)
    return table[fits[-1]] if fits and not any(mark in name for mark in DERIVED) else ()


def _unknown(
    unit: Unit, option: str, known: dict[str, str], families: dict[str, tuple[str, ...]], plugin: str
) -> Found:
    name = unit.text(option)
    if not name or plugin in unit or not is_absent(unit, name, known):
        return
    setting = unit[option]
    here = [other for other in known if is_absent(unit, other, known) is False]
    better = next((n for n in _family(model_name(unit), families) if n in here), None) or nearest(name, here)
    which = f"vLLM {unit.target}" if unit.version is not None else "vLLM"
    fix = set_value(setting, better) if better else advise("use a parser of this version, or a newer version")
    yield Problem(setting, f"{which} has no {option.replace('_', '-')} {name}", fix)


def _of_another(unit: Unit, option: str, known: dict[str, str], families: dict[str, tuple[str, ...]]) -> Found:
    name, fitting = unit.text(option), _family(model_name(unit), families)
    if not name or not fitting or name in fitting or name not in known or is_absent(unit, name, known):
        return
    others = {parser for parsers in families.values() for parser in parsers}
    if name in others:
        setting = unit[option]
        message = (
            f"{option.replace('_', '-')} is {name}, but {model_name(unit)} writes the format of {' or '.join(fitting)}"
        )
        yield Problem(setting, message, set_value(setting, fitting[0]))
