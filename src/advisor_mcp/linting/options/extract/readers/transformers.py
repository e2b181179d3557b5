"""transformers: TrainingArguments and the quantisation configurations."""

from __future__ import annotations

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
    inherits = {"Seq2SeqTrainingArguments": "transformers:TrainingArguments"} if seq2seq else {}
    return Snapshot(release.version, release.date, scopes, inherits)
