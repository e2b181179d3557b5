"""torchtune: LoRA and quantised weights."""

from __future__ import annotations

from advisor_mcp.linting.edits import advise, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import learning_rate, used
from advisor_mcp.linting.rules._tt import component, is_lora, trains
from advisor_mcp.linting.unit import Unit


@rule("TT111", "quantisation-aware-recipe", tools=("torchtune",), harm="crash", causes=("qat-options",))
def quantisation_aware_recipe(unit: Unit, job: Job) -> Found:
    """Allow quantisation-aware-recipe.

    ## What it does
    Finds a quantiser for quantisation-aware training with `compile: true`, one for quantising afterwards in a training
    recipe, and the reverse when generating or evaluating.

    ## Why is this bad?
    "Compile is not yet supported for QAT. Please set compile=False.", "Quantizer mode '...' is not supported for
    finetuning", "QAT quantizers should only be used during quantization aware training".

    ## Example
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    optimizer:
      _component_: torch.optim.AdamW
      lr: 2e-5
    epochs: 1
    quantizer:
      _component_: torchtune.training.quantization.Int8DynActInt4WeightQuantizer
      groupsize: 256
    ```

    ## Use instead
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    optimizer:
      _component_: torch.optim.AdamW
      lr: 2e-5
    epochs: 1
    quantizer:
      _component_: torchtune.training.quantization.Int8DynActInt4WeightQATQuantizer
      groupsize: 256
    ```

    ## Versions
    All.

    ## References
    - torchtune 0.6.1, recipes/qat_distributed.py and recipes/generate.py
    """
    path = component(unit, "quantizer")
    if not path.startswith("torchtune."):
        return
    aware, where = "QAT" in path, unit["quantizer._component_"]
    name = path.rsplit(".", 1)[1]
    if trains(unit):
        if not aware:
            fix = set_value(where, path.replace("Quantizer", "QATQuantizer"))
            yield Problem(where, f"{name} quantises afterwards and does not train", fix)
        elif compiled := used(unit, "compile"):
            yield Problem(compiled, "compile does not work in the QAT recipes", set_value(compiled, False), (where,))
    elif aware and not used(unit, "optimizer"):
        yield Problem(where, f"{name} is for training", set_value(where, path.replace("QATQuantizer", "Quantizer")))


@rule(
    "TT112",
    "quantised-weights-in-another-format",
    tools=("torchtune",),
    harm="crash",
    causes=("quantizer-checkpointer",),
)
def quantised_weights_in_another_format(unit: Unit, job: Job) -> Found:
    """Allow quantised-weights-in-another-format.

    ## What it does
    Finds a `quantizer` with another checkpointer than `FullModelTorchTuneCheckpointer` in generation or evaluation.

    ## Why is this bad?
    Quantised weights are saved in torchtune's own format only: "Quantization is only supported for models quantized and
    saved with the FullModelTorchTuneCheckpointer".

    ## Example
    ```yaml eval.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    checkpointer:
      _component_: torchtune.training.FullModelHFCheckpointer
      model_type: LLAMA3
    quantizer:
      _component_: torchtune.training.quantization.Int8DynActInt4WeightQuantizer
    prompt:
      user: Hello
    ```

    ## Use instead
    ```yaml eval.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    checkpointer:
      _component_: torchtune.training.FullModelTorchTuneCheckpointer
      model_type: LLAMA3
    quantizer:
      _component_: torchtune.training.quantization.Int8DynActInt4WeightQuantizer
    prompt:
      user: Hello
    ```

    ## Versions
    All.

    ## References
    - torchtune 0.6.1, recipes/generate.py and recipes/eleuther_eval.py
    """
    if not component(unit, "quantizer") or used(unit, "optimizer") or not used(unit, "prompt", "tasks"):
        return
    path = component(unit, "checkpointer")
    if path and not path.endswith("TorchTuneCheckpointer"):
        where = unit["checkpointer._component_"]
        fix = set_value(where, "torchtune.training.FullModelTorchTuneCheckpointer")
        yield Problem(
            where,
            "quantised weights are read by FullModelTorchTuneCheckpointer only",
            fix,
            (unit["quantizer._component_"],),
        )


@rule(
    "TT113", "lora-rate-in-a-full-recipe", tools=("torchtune",), harm="nan", severity="warning", causes=("lr-full-ft",)
)
def lora_rate_in_a_full_recipe(unit: Unit, job: Job) -> Found:
    """Allow lora-rate-in-a-full-recipe.

    ## What it does
    Finds a full fine-tune (the model is no `lora_...` one) with Adam and a learning rate of 1e-4 or more.

    ## Why is this bad?
    That is a rate for LoRA, about ten times what all weights bear; the loss rises instead of falling.

    ## Example
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    optimizer:
      _component_: torch.optim.AdamW
      lr: 3e-4
    epochs: 1
    ```

    ## Use instead
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    optimizer:
      _component_: torch.optim.AdamW
      lr: 2e-5
    epochs: 1
    ```

    ## Versions
    All.

    ## References
    - https://thinkingmachines.ai/blog/lora/
    - torchtune 0.6.1, recipes/configs
    """
    rate, model = learning_rate(unit, "optimizer.lr"), component(unit, "model")
    if (
        rate is None
        or not 1e-4 <= rate < 1
        or not model.startswith("torchtune.models.")
        or is_lora(unit)
        or not trains(unit)
    ):
        return
    if "adam" in component(unit, "optimizer").lower():
        where = unit["optimizer.lr"]
        yield Problem(
            where,
            f"{where.shown} is a rate for LoRA, but the recipe trains all weights",
            advise(f"use about {rate / 10:.0e}"),
            (unit["model._component_"],),
        )
