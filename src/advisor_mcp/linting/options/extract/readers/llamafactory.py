"""LLaMA-Factory: all argument dataclasses of its one flat file; the training arguments are transformers' own."""

from __future__ import annotations

from advisor_mcp.linting.options.extract.compact import Snapshot, requirement
from advisor_mcp.linting.options.extract.fields import Options, class_fields
from advisor_mcp.linting.options.extract.packages import Release
from advisor_mcp.linting.options.extract.reading import Package

CLASSES = {
    "data_args": "DataArguments",
    "finetuning_args": "FinetuningArguments",
    "generating_args": "GeneratingArguments",
    "model_args": "ModelArguments",
    "evaluation_args": "EvaluationArguments",
    "training_args": "TrainingArguments",
}


def read(release: Release) -> Snapshot:
    base = "src/" if release.files("src/llamafactory/*.py") else ""
    package = Package(release, base)
    options: Options = {}
    for stem, name in CLASSES.items():
        module = package.module(f"{base}llamafactory/hparams/{stem}.py")
        if module and name in module.classes:
            options.update(class_fields(package, module, module.classes[name]))
    metadata = release.text(release.first(*release.files("*.dist-info/METADATA"), "PKG-INFO"))
    requires = {"transformers": requirement(metadata, "transformers")}
    inherits = {"": "transformers:Seq2SeqTrainingArguments"}
    return Snapshot(release.version, release.date, {"": options}, inherits, requires)
