"""Context lengths against the positions that a model was made for."""

from advisor_mcp.linting.edits import Fix, both, remove, set_value
from advisor_mcp.linting.job import Job, ModelFacts
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.unit import Setting, Unit, as_truth

ALLOWS = {"vllm": "VLLM_ALLOW_LONG_MAX_MODEL_LEN", "sglang": "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"}
# scaled positions stand in max_position_embeddings already (vllm 0.33.0, config/model.py, _get_and_verify_max_len)
SCALED_ALREADY = {"su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling", "mrope", "default"}


def positions(model: ModelFacts) -> int | None:
    """The longest context that an engine derives from a configuration; None where it does not say."""
    most = model.max_positions
    scaling = model.get("rope_scaling", "rope_parameters")
    if most is None or not isinstance(scaling, dict):
        return most
    kind, factor = scaling.get("rope_type", scaling.get("type")), scaling.get("factor")
    original = scaling.get("original_max_position_embeddings")
    if kind == "yarn" and isinstance(factor, int | float) and isinstance(original, int) and most == original:
        return int(original * factor)
    if kind in SCALED_ALREADY or not isinstance(factor, int | float) or "gemma3" in (model.model_type or ""):
        return most
    return int(most * factor)


def _scaled_by_user(unit: Unit) -> bool:
    names = (
        "rope_scaling",
        "hf_overrides",
        "json_model_override_args",
        "override_generation_config_path",
        "rope_theta",
    )
    return any(name in unit for name in names)


@rule(
    "MD020", "context-beyond-the-model", tools=("vllm", "sglang"), harm="crash", causes=("max-model-len", "rope-limit")
)
def context_beyond_the_model(unit: Unit, job: Job) -> Found:
    """Allow context-beyond-the-model.

    ## What it does
    Compares the context length asked for with the positions that the model's configuration allows, RoPE scaling included.

    ## Why is this bad?
    vLLM and SGLang stop at start: "User-specified max_model_len (16384) is greater than the derived max_model_len". With
    the variable that turns the check off, positions beyond the limit were never trained: answers degrade or become NaN.

    ## Example
    ```bash serve.sh model={"max_position_embeddings":4096}
    vllm serve my/model --max-model-len 16384
    ```

    ## Use instead
    ```bash serve.sh model={"max_position_embeddings":4096}
    vllm serve my/model --max-model-len 4096
    ```

    ## Versions
    All. Where the user gives a RoPE scaling of his own, nothing is reported.

    ## References
    - vllm 0.33.0, vllm/config/model.py, _get_and_verify_max_len
    - sglang 0.5.23, sglang/srt/configs/model_config.py, _derive_context_length
    - vllm-project/vllm#7080, vllm-project/vllm#3676
    """
    setting = unit.named("max_length")
    length = unit.number(setting.name) if setting else None
    if setting is None or length is None or length <= 0 or _scaled_by_user(unit):
        return
    model = job.model(unit)
    most = positions(model) if model else None
    if model is None or most is None:
        yield Skipped("the model")
        return
    if length <= most:
        return
    allowed = unit.env.get(ALLOWS[unit.tool])
    message = f"{setting.shown} goes beyond the {most:,} positions of the model ({model.said})"
    if allowed is not None and as_truth(allowed.value):
        message += f", and {allowed.name} lets it pass: what stands beyond them was never trained"
        yield Problem(setting, message, _shorter(setting, most, allowed), (allowed,), "warning")
    else:
        yield Problem(setting, message, set_value(setting, most))


def _shorter(setting: Setting, most: int, allowed: Setting) -> Fix:
    return both(set_value(setting, most), remove(allowed))


LENGTHS = {
    "axolotl": ("sequence_len",),
    "llamafactory": ("cutoff_len",),
    "trl": ("max_length", "max_seq_length"),
    "torchtune": ("tokenizer.max_seq_len",),
}


@rule(
    "MD021",
    "training-beyond-the-model",
    tools=tuple(LENGTHS),
    harm="wrong_result",
    severity="warning",
    causes=("train-seq-len", "rope-limit"),
)
def training_beyond_the_model(unit: Unit, job: Job) -> Found:
    """Allow training-beyond-the-model.

    ## What it does
    Compares the sequence length of a fine-tune with the positions that the model's configuration allows.

    ## Why is this bad?
    Positions beyond the limit have no trained rotary angles (or no embedding at all, which is a CUDA index error); the loss
    of long samples is high and the short ones get worse.

    ## Example
    ```yaml train.yaml model={"max_position_embeddings":4096}
    base_model: my/model
    datasets: [{path: my/data, type: alpaca}]
    sequence_len: 32768
    ```

    ## Use instead
    ```yaml train.yaml model={"max_position_embeddings":4096}
    base_model: my/model
    datasets: [{path: my/data, type: alpaca}]
    sequence_len: 4096
    ```

    ## Versions
    All. A RoPE scaling in the file is the user's answer to it, and nothing is reported.

    ## References
    - transformers 5.23.0, transformers/modeling_rope_utils.py
    - arXiv:2309.00071
    """
    setting = unit.setting(*LENGTHS[unit.tool])
    length = unit.number(setting.name) if setting else None
    if setting is None or length is None or any("rope" in name for name in unit.settings):
        return
    model = job.model(unit)
    most = positions(model) if model else None
    if model is not None and most is not None and length > most:
        yield Problem(
            setting,
            f"{setting.shown} goes beyond the {most:,} positions of the model ({model.said})",
            set_value(setting, most),
        )
