"""transformers: TrainingArguments and the quantisation configurations."""

from __future__ import annotations

import ast

from advisor_mcp.linting.options.extract.compact import Snapshot
from advisor_mcp.linting.options.extract.fields import Options, class_fields, init_options
from advisor_mcp.linting.options.extract.packages import Release
from advisor_mcp.linting.options.extract.reading import Package

TRAINING = "transformers/training_args.py"
QUANTIZATION = "transformers/utils/quantization_config.py"


def read(release: Release) -> Snapshot:
    package = Package(release)
    scopes: dict[str, Options] = {}
    if module := package.module(TRAINING):
        scopes["TrainingArguments"] = class_fields(package, module, module.classes["TrainingArguments"])
    if (seq2seq := package.module("transformers/training_args_seq2seq.py")) is not None:
        scopes["Seq2SeqTrainingArguments"] = class_fields(
            package, seq2seq, seq2seq.classes["Seq2SeqTrainingArguments"], stop=["TrainingArguments"]
        )
    if module := package.module(QUANTIZATION):
        for name, node in module.classes.items():
            ancestors = {cls.name for _, cls in package.lineage(module, node)}
            if name.endswith("Config") and "QuantizationConfigMixin" in ancestors:
                scopes[name] = init_options(package, module, node)
    trainer = package.module("transformers/trainer_pt_utils.py")
    if trainer and "AcceleratorConfig" in trainer.classes:
        scopes["accelerator_config"] = class_fields(package, trainer, trainer.classes["AcceleratorConfig"])
    scopes["fsdp_config"] = looked_up(package, "fsdp_config", (TRAINING, "transformers/trainer.py"))
    inherits = {"Seq2SeqTrainingArguments": "transformers:TrainingArguments"} if seq2seq else {}
    return Snapshot(release.version, release.date, scopes, inherits)


def looked_up(package: Package, name: str, paths: tuple[str, ...]) -> Options:
    """The keys that the code looks up in a dictionary of that name; each may carry the prefix `fsdp_`."""
    options: Options = {}
    for path in paths:
        module = package.module(path)
        for node in ast.walk(module.tree) if module else ():
            key: ast.expr | None = None
            holder: ast.expr | None = None
            if isinstance(node, ast.Subscript):
                holder, key = node.value, node.slice
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                if node.func.attr in {"get", "setdefault", "pop"}:
                    holder, key = node.func.value, node.args[0]
            elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
                holder, key = node.comparators[0], node.left
            written = ast.unparse(holder).rpartition(".")[2] if holder is not None else ""
            if written == name and isinstance(key, ast.Constant) and isinstance(key.value, str):
                options.setdefault(key.value.removeprefix("fsdp_"), {"a": [f"fsdp_{key.value.removeprefix('fsdp_')}"]})
    return options
