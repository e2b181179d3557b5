"""LLaMA-Factory: how a run is started, and what is exported or served."""

from __future__ import annotations

from pathlib import PurePosixPath

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import all_used, idle, used
from advisor_mcp.linting.rules.lf_stage import trains
from advisor_mcp.linting.unit import Unit


@rule("LF308", "device-map-in-training", tools=("llamafactory",), harm="crash", causes=("device-map-distributed",))
def device_map_in_training(unit: Unit, job: Job) -> Found:
    """Allow device-map-in-training.

    ## What it does
    Finds `quantization_device_map: auto` in a configuration that trains.

    ## Why is this bad?
    A model that is spread over the GPUs by layers cannot be trained in parallel: "Cannot use device map for quantized
    models in training."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    finetuning_type: lora
    quantization_bit: 4
    quantization_device_map: auto
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    finetuning_type: lora
    quantization_bit: 4
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, hparams/parser.py, get_train_args
    """
    spread = used(unit, "quantization_device_map")
    if spread and trains(unit):
        yield Problem(spread, "quantization_device_map is for inference only", remove(spread), (unit["do_train"],))


@rule("LF310", "inference-engine-in-training", tools=("llamafactory",), harm="crash", causes=("infer-backend-train",))
def inference_engine_in_training(unit: Unit, job: Job) -> Found:
    """Allow inference-engine-in-training.

    ## What it does
    Finds `infer_backend: vllm` (or `sglang`) in a training or prediction configuration.

    ## Why is this bad?
    "vLLM/SGLang backend is only available for API, CLI and Web." Batches of predictions are made by scripts/vllm_infer.py.

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    dataset: identity
    template: qwen
    infer_backend: vllm
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    dataset: identity
    template: qwen
    ```

    ## Versions
    All; `sglang` since llamafactory 0.9.3.

    ## References
    - llamafactory 0.9.5, hparams/parser.py, get_train_args
    """
    engine = used(unit, "infer_backend")
    if engine and engine.value in ("vllm", "sglang") and (runs := used(unit, "do_train", "do_predict", "do_eval")):
        yield Problem(engine, f"{engine.shown} serves only, it neither trains nor predicts", remove(engine), (runs,))


@rule("LF311", "option-that-vllm-refuses", tools=("llamafactory",), harm="crash", causes=("vllm-inference-options",))
def option_that_vllm_refuses(unit: Unit, job: Job) -> Found:
    """Allow option-that-vllm-refuses.

    ## What it does
    Finds `infer_backend: vllm` with `quantization_bit`, `rope_scaling` or another stage than `sft`.

    ## Why is this bad?
    "vLLM engine does not support bnb quantization (GPTQ and AWQ are supported).", "vLLM engine does not support RoPE
    scaling.", "vLLM engine only supports auto-regressive models."

    ## Example
    ```yaml api.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    template: qwen
    infer_backend: vllm
    quantization_bit: 4
    ```

    ## Use instead
    ```yaml api.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct-AWQ
    template: qwen
    infer_backend: vllm
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, hparams/parser.py, get_infer_args
    """
    engine = used(unit, "infer_backend")
    if engine is None or engine.value != "vllm" or used(unit, "do_train", "do_predict", "do_eval"):
        return
    for found in all_used(unit, ("quantization_bit", "rope_scaling")):
        yield Problem(found, f"{found.written} does not work with infer_backend: vllm", remove(found), (engine,))
    kind = used(unit, "stage")
    if kind and kind.value != "sft":
        yield Problem(
            kind,
            f"infer_backend: vllm does not serve a model of {kind.shown}",
            set_value(engine, "huggingface"),
            (engine,),
        )


@rule(
    "LF314",
    "yaml-behind-the-deepspeed-launcher",
    tools=("deepspeed_launcher",),
    harm="crash",
    causes=("deepspeed-cli-yaml",),
)
def yaml_behind_the_deepspeed_launcher(unit: Unit, job: Job) -> Found:
    """Allow yaml-behind-the-deepspeed-launcher.

    ## What it does
    Finds `deepspeed ... src/train.py config.yaml` for LLaMA-Factory.

    ## Why is this bad?
    The launcher puts `--local_rank` before the file, and LLaMA-Factory reads a YAML file as its first argument only:
    "train.py: error: the following arguments are required: --output_dir".

    ## Example
    ```bash launch.sh
    deepspeed --num_gpus 8 src/train.py train.yaml
    ```
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    finetuning_type: lora
    deepspeed: examples/deepspeed/ds_z3_config.json
    ```

    ## Use instead
    ```bash launch.sh
    FORCE_TORCHRUN=1 llamafactory-cli train train.yaml
    ```
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    finetuning_type: lora
    deepspeed: examples/deepspeed/ds_z3_config.json
    ```

    ## Versions
    All.

    ## References
    - hiyouga/LlamaFactory#6075
    - hiyouga/LlamaFactory#3301
    """
    script = PurePosixPath(unit.entry_point).name
    if script not in ("train.py", "train_bash.py", "launcher.py") or not job.others("llamafactory"):
        return
    behind = next((other for other in job.units if other.launcher is unit), None)
    words = behind.arguments if behind else unit.arguments
    if any(word.endswith((".yaml", ".yml")) for word in words):
        fix = advise("start it with FORCE_TORCHRUN=1 llamafactory-cli train and the file")
        yield Problem(
            unit, "the deepspeed launcher puts --local_rank before the YAML file, which is then not read", fix
        )


@rule("LF315", "export-that-cannot-be-written", tools=("llamafactory",), harm="crash", causes=("export-options",))
def export_that_cannot_be_written(unit: Unit, job: Job) -> Found:
    """Allow export-that-cannot-be-written.

    ## What it does
    Finds an export (`export_dir`) of an adapter on a quantised base, of an adapter with `export_quantization_bit`, or a
    quantising export without `export_quantization_dataset`.

    ## Why is this bad?
    "Cannot merge adapters to a quantized model.", "Please merge adapters before quantizing the model.", "Quantization
    dataset is necessary for exporting."

    ## Example
    ```yaml merge.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    adapter_name_or_path: saves/qwen/lora
    template: qwen
    export_dir: output/merged
    quantization_bit: 4
    ```

    ## Use instead
    ```yaml merge.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    adapter_name_or_path: saves/qwen/lora
    template: qwen
    export_dir: output/merged
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, train/tuner.py, export_model
    - llamafactory 0.9.5, hparams/model_args.py, ExportArguments
    """
    adapter, to_bits = used(unit, "adapter_name_or_path"), used(unit, "export_quantization_bit")
    if to_bits and idle(unit, "export_quantization_dataset"):
        yield Problem(
            to_bits,
            "export_quantization_bit needs export_quantization_dataset",
            advise("set export_quantization_dataset"),
        )
    if not used(unit, "export_dir") or trains(unit) or adapter is None:
        return
    if to_bits:
        yield Problem(
            to_bits,
            "an adapter must be merged before the model is quantised",
            remove(to_bits, why="export twice"),
            (adapter,),
        )
    if bits := used(unit, "quantization_bit"):
        yield Problem(bits, f"an adapter cannot be merged into a model with {bits.shown}", remove(bits), (adapter,))


@rule(
    "LF316",
    "json-configuration-file",
    tools=("llamafactory",),
    harm="crash",
    severity="warning",
    causes=("json-config",),
)
def json_configuration_file(unit: Unit, job: Job) -> Found:
    """Allow json-configuration-file.

    ## What it does
    Finds a LLaMA-Factory configuration that is a JSON file.

    ## Why is this bad?
    This release hands the path to the JSON reader in place of the file's text: "AttributeError: 'PosixPath' object has no
    attribute 'read'".

    ## Example
    ```json train.json
    {"model_name_or_path": "Qwen/Qwen2.5-7B-Instruct", "stage": "sft", "do_train": true, "finetuning_type": "lora"}
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    finetuning_type: lora
    ```

    ## Versions
    llamafactory 0.9.5.

    ## References
    - llamafactory 0.9.5, hparams/parser.py, read_args
    """
    if (
        unit.since("0.9.5")
        and (unit.version is None or unit.before("0.9.6"))
        and unit.tree is not None
        and unit.source.root.name.endswith(".json")
    ):
        yield Problem(unit, "llamafactory 0.9.5 cannot read a JSON configuration", advise("write it as YAML"))


@rule(
    "LF317",
    "deepspeed-on-one-gpu",
    tools=("llamafactory",),
    harm="crash",
    severity="warning",
    causes=("force-torchrun", "deepspeed-single-gpu"),
)
def deepspeed_on_one_gpu(unit: Unit, job: Job) -> Found:
    """Allow deepspeed-on-one-gpu.

    ## What it does
    Finds `deepspeed` on a single GPU where nothing says that torchrun starts the run: no `FORCE_TORCHRUN=1`, no launcher.

    ## Why is this bad?
    On one GPU `llamafactory-cli train` starts no process group, which DeepSpeed needs: "Please use `FORCE_TORCHRUN=1` to
    launch DeepSpeed training."

    ## Example
    ```bash train.sh world_size=1
    llamafactory-cli train train.yaml
    ```
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    finetuning_type: lora
    deepspeed: examples/deepspeed/ds_z2_config.json
    ```

    ## Use instead
    ```bash train.sh world_size=1
    FORCE_TORCHRUN=1 llamafactory-cli train train.yaml
    ```
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    finetuning_type: lora
    deepspeed: examples/deepspeed/ds_z2_config.json
    ```

    ## Versions
    All. A `CUDA_VISIBLE_DEVICES` with one GPU counts as one GPU.

    ## References
    - llamafactory 0.9.5, launcher.py
    - llamafactory 0.9.5, hparams/parser.py, get_train_args
    """
    deepspeed = used(unit, "deepspeed")
    if (
        deepspeed is None
        or unit.tree is None
        or not trains(unit)
        or job.others("torchrun", "accelerate_launch", "deepspeed_launcher")
    ):
        return
    commands = [other for other in job.others("llamafactory") if other.program == "llamafactory-cli train"]
    places = [other.env for other in [*commands, unit]] + [other.settings for other in job.others("env")]
    if any("FORCE_TORCHRUN" in env or "USE_MCA" in env or "USE_RAY" in env for env in places):
        return
    visible = {str(env["CUDA_VISIBLE_DEVICES"].value) for env in places if "CUDA_VISIBLE_DEVICES" in env}
    alone = job.world_size() == 1 or (len(visible) == 1 and visible.pop().isdigit())
    if alone and (commands or job.world_size() == 1):
        yield Problem(
            deepspeed,
            "DeepSpeed on one GPU needs FORCE_TORCHRUN=1",
            advise("start it with FORCE_TORCHRUN=1 llamafactory-cli train"),
        )
