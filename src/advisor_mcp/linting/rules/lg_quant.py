"""LitGPT: quantised weights."""

from __future__ import annotations

from advisor_mcp.linting.edits import set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import used
from advisor_mcp.linting.unit import Unit


@rule("LG006", "quantized-mixed-precision", tools=("litgpt",), harm="crash", causes=("quant-mixed-precision",))
def quantized_mixed_precision(unit: Unit, job: Job) -> Found:
    """Allow quantized-mixed-precision.

    ## What it does
    Finds `quantize: bnb...` with a mixed `precision`.

    ## Why is this bad?
    The quantised layers need one number format for all the rest: "Quantization and mixed precision is not supported."

    ## Example
    ```yaml finetune.yaml
    checkpoint_dir: checkpoints/meta-llama/Llama-3.2-1B
    precision: bf16-mixed
    quantize: bnb.nf4
    train:
      global_batch_size: 8
      micro_batch_size: 4
    ```

    ## Use instead
    ```yaml finetune.yaml
    checkpoint_dir: checkpoints/meta-llama/Llama-3.2-1B
    precision: bf16-true
    quantize: bnb.nf4
    train:
      global_batch_size: 8
      micro_batch_size: 4
    ```

    ## Versions
    All.

    ## References
    - litgpt 0.5.13, finetune/lora.py, setup
    """
    quantize, precision = used(unit, "quantize"), unit.text("precision") or ""
    if quantize and str(quantize.value).startswith("bnb.") and "mixed" in precision:
        written = unit["precision"]
        new = precision.replace("mixed", "true")
        yield Problem(
            written, f"{quantize.shown} cannot be used with {written.shown}", set_value(written, new), (quantize,)
        )


@rule("LG007", "quantized-on-many-gpus", tools=("litgpt",), harm="crash", causes=("quant-multi-gpu",))
def quantized_on_many_gpus(unit: Unit, job: Job) -> Found:
    """Allow quantized-on-many-gpus.

    ## What it does
    Finds `quantize` with more than one device.

    ## Why is this bad?
    The weights cannot be sharded: "Quantization is currently not supported for multi-GPU training. Please set devices=1
    and num_nodes=1 when using the --quantize flag."

    ## Example
    ```yaml finetune.yaml
    checkpoint_dir: checkpoints/mistralai/Mistral-7B-v0.3
    quantize: bnb.nf4
    devices: 2
    train:
      global_batch_size: 8
      micro_batch_size: 4
    ```

    ## Use instead
    ```yaml finetune.yaml
    checkpoint_dir: checkpoints/mistralai/Mistral-7B-v0.3
    quantize: bnb.nf4
    devices: 1
    train:
      global_batch_size: 8
      micro_batch_size: 4
    ```

    ## Versions
    All.

    ## References
    - Lightning-AI/litgpt#712
    - litgpt 0.5.13, finetune/lora.py, setup
    """
    quantize = used(unit, "quantize")
    if quantize is None:
        return
    for name in ("devices", "num_nodes"):
        count = unit.whole(name)
        if count and count > 1:
            yield Problem(
                unit[name],
                f"{quantize.shown} needs one device, not {unit[name].shown}",
                set_value(unit[name], 1),
                (quantize,),
            )


@rule("LG008", "quantized-without-adamw", tools=("litgpt",), harm="crash", causes=("quant-optimizer",))
def quantized_without_adamw(unit: Unit, job: Job) -> Found:
    """Allow quantized-without-adamw.

    ## What it does
    Finds `quantize: bnb...` with an optimizer that is not AdamW.

    ## Why is this bad?
    LitGPT puts bitsandbytes' paged AdamW in its place and knows no other: "The chosen quantization format only supports the
    AdamW optimizer."

    ## Example
    ```yaml finetune.yaml
    checkpoint_dir: checkpoints/mistralai/Mistral-7B-v0.3
    quantize: bnb.nf4
    train:
      global_batch_size: 8
      micro_batch_size: 4
    optimizer:
      class_path: torch.optim.SGD
      init_args:
        lr: 0.01
    ```

    ## Use instead
    ```yaml finetune.yaml
    checkpoint_dir: checkpoints/mistralai/Mistral-7B-v0.3
    quantize: bnb.nf4
    train:
      global_batch_size: 8
      micro_batch_size: 4
    optimizer:
      class_path: torch.optim.AdamW
      init_args:
        lr: 0.0002
    ```

    ## Versions
    litgpt 0.4 and later.

    ## References
    - litgpt 0.5.13, utils.py, instantiate_bnb_optimizer
    """
    quantize = used(unit, "quantize")
    optimizer = unit.setting("optimizer.class_path", "optimizer")
    if quantize is None or optimizer is None or not isinstance(optimizer.value, str):
        return
    if str(quantize.value).startswith("bnb.") and "AdamW" not in optimizer.value:
        yield Problem(
            optimizer,
            f"{quantize.shown} needs AdamW, not {optimizer.value}",
            set_value(optimizer, "torch.optim.AdamW"),
            (quantize,),
        )
