"""LLaMA-Factory: templates."""

from __future__ import annotations

import difflib

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity, rule
from advisor_mcp.linting.rules._ft import unset, used
from advisor_mcp.linting.rules._lf_names import EFFICIENT_EOS, TEMPLATES_GONE, TEMPLATES_SINCE
from advisor_mcp.linting.rules.lf_stage import stage, trains
from advisor_mcp.linting.unit import Unit


@rule("LF001", "unknown-template", tools=("llamafactory",), harm="crash", causes=("bad-template",))
def unknown_template(unit: Unit, job: Job) -> Found:
    """Allow unknown-template.

    ## What it does
    Finds a `template` that the version in use has not registered.

    ## Why is this bad?
    Training stops before the model is loaded: "ValueError: Template qwen2.5 does not exist." Names are per family, not per
    release: Qwen2.5 uses `qwen`, Llama 3.1 to 3.3 use `llama3`.

    ## Example
    ```yaml train.yaml llamafactory=0.9.5
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    template: qwen2.5
    ```

    ## Use instead
    ```yaml train.yaml llamafactory=0.9.5
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    template: qwen
    ```

    ## Versions
    All. The names of 0.9.1 to 0.9.5 are known; 0.9.5 dropped 19 old ones. For later versions only what looks like a slip is
    reported, as a warning.

    ## References
    - llamafactory 0.9.5, data/template.py, get_template_and_fix_tokenizer
    - hiyouga/LlamaFactory#6214
    """
    template = used(unit, "template")
    if template is None or not isinstance(template.value, str):
        return
    name = template.value
    known = {n for version, names in TEMPLATES_SINCE.items() if unit.since(version) for n in names}
    if unit.since("0.9.5"):
        known -= TEMPLATES_GONE
    if name in known:
        return
    later = next(
        (version for version, names in TEMPLATES_SINCE.items() if name in names and unit.before(version)), None
    )
    near = difflib.get_close_matches(name, known, 1, 0.6)
    severity: Severity | None = None
    if unit.version is not None and unit.since("0.9.6"):
        if not near and name not in TEMPLATES_GONE:
            return
        severity = "warning"
    if later:
        yield Problem(
            template, f"the template {name} came with llamafactory {later}", advise(f"install llamafactory {later}")
        )
    elif name in TEMPLATES_GONE:
        yield Problem(
            template,
            f"the template {name} is gone since llamafactory 0.9.5",
            advise("use llamafactory 0.9.4 or another template"),
        )
    else:
        fix = set_value(template, near[0], why="the nearest name") if near else None
        yield Problem(template, f"LLaMA-Factory has no template {name!r}", fix, (), severity)


@rule("LF002", "chat-without-template", tools=("llamafactory",), harm="crash", causes=("missing-template",))
def chat_without_template(unit: Unit, job: Job) -> Found:
    """Allow chat-without-template.

    ## What it does
    Finds a fine-tuning stage without a `template`.

    ## Why is this bad?
    Old releases stop: "Please specify which `template` to use." Newer ones try to guess it from the tokenizer, and for a
    base model fall back to an empty template, which trains on bare text.

    ## Example
    ```yaml train.yaml llamafactory=0.9.1
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    dataset: identity
    ```

    ## Use instead
    ```yaml train.yaml llamafactory=0.9.1
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    dataset: identity
    template: qwen
    ```

    ## Versions
    An error up to llamafactory 0.9.1, worth a look since.

    ## References
    - llamafactory 0.9.1, hparams/parser.py, get_train_args
    - llamafactory 0.9.5, data/template.py, get_template_and_fix_tokenizer
    """
    kind = stage(unit)
    if trains(unit) and kind not in ("pt", None) and unset(unit, "template"):
        severity: Severity = "error" if unit.before("0.9.2") else "info"
        yield Problem(
            unit.setting("stage", "do_train") or unit,
            f"stage {kind} has no template",
            advise("name the model's template"),
            (),
            severity,
        )


@rule(
    "LF012", "prompt-training-without-end", tools=("llamafactory",), harm="crash", causes=("template-train-on-prompt",)
)
def prompt_training_without_end(unit: Unit, job: Job) -> Found:
    """Allow prompt-training-without-end.

    ## What it does
    Finds `train_on_prompt: true` with a template that leaves out the end of a turn (`glm4`, `chatglm3`, `falcon` and others).

    ## Why is this bad?
    Prompt and answer cannot be told apart then: "Current template does not support `train_on_prompt`."

    ## Example
    ```yaml train.yaml
    model_name_or_path: THUDM/glm-4-9b-chat
    stage: sft
    do_train: true
    dataset: identity
    template: glm4
    train_on_prompt: true
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: THUDM/glm-4-9b-chat
    stage: sft
    do_train: true
    dataset: identity
    template: glm4
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, data/template.py, get_template_and_fix_tokenizer
    """
    prompt, template = used(unit, "train_on_prompt"), unit.text("template")
    if prompt and template in EFFICIENT_EOS:
        yield Problem(
            prompt, f"train_on_prompt does not work with template: {template}", remove(prompt), (unit["template"],)
        )


@rule(
    "LF013",
    "template-of-a-thinking-model",
    tools=("llamafactory",),
    harm="wrong_result",
    severity="warning",
    causes=("template-thinking",),
)
def template_of_a_thinking_model(unit: Unit, job: Job) -> Found:
    """Allow template-of-a-thinking-model.

    ## What it does
    Finds a template that writes `<think>` (`qwen3`, `qwen3_vl`, `qwen3_omni`) for a model that does not think, by its name
    (`...-Instruct...`, `...-Coder...`).

    ## Why is this bad?
    The template puts an empty thought before each answer. The tuned model then answers with `<think>` tags that its own
    template never had.

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen3-VL-4B-Instruct
    stage: sft
    do_train: true
    dataset: mllm_demo
    template: qwen3_vl
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen3-VL-4B-Instruct
    stage: sft
    do_train: true
    dataset: mllm_demo
    template: qwen3_vl_nothink
    ```

    ## Versions
    llamafactory 0.9.4 and later.

    ## References
    - hiyouga/LlamaFactory#9392
    - hiyouga/LlamaFactory#8832
    - hiyouga/LlamaFactory#9092
    """
    template, model = unit.text("template"), unit.text("model_name_or_path")
    if template not in ("qwen3", "qwen3_vl", "qwen3_omni") or model is None or unit.before("0.9.4"):
        return
    name = model.rstrip("/").rsplit("/", 1)[-1].lower()
    if "qwen3" in name and ("instruct" in name or "coder" in name) and "think" not in name:
        fix = set_value(unit["template"], f"{template}_nothink")
        yield Problem(
            unit["template"],
            f"template: {template} is for models that think, which {model} does not",
            fix,
            (unit["model_name_or_path"],),
        )
