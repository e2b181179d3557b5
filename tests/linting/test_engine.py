"""From files to findings: what belongs together, what is accepted, what is fixed, what could not be checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from advisor_mcp.linting import edits, formats
from advisor_mcp.linting.engine import Options, Report, fixed, lint_paths, lint_text
from advisor_mcp.linting.job import Given

MISMATCH = '{"train_batch_size": 9, "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2}\n'


def found(report: Report) -> list[tuple[str, str, int, int]]:
    return [(f.rule, f.place.file, f.place.line, f.place.column) for f in report.findings]


def lint(folder: Path, *names: str, **given: object) -> Report:
    return lint_paths([folder / name for name in names] or [folder], Options(Given(**given)))  # type: ignore[arg-type]


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return folder


def test_a_finding_stands_on_its_key_and_names_its_file(tmp_path: Path) -> None:
    report = lint(write(tmp_path, ds__json="\n" + MISMATCH))
    assert found(report) == [("DS001", str(tmp_path / "ds.json"), 2, 2)]
    assert formats.summary(report) == "1 file checked: 1 error."


def test_a_check_without_its_fact_is_listed_and_not_guessed(tmp_path: Path) -> None:
    write(tmp_path, ds__json=MISMATCH.replace("9", "64"))
    report = lint(tmp_path)
    assert found(report) == []
    assert [(n.needs, n.rules) for n in report.not_checked] == [("the world size", ("DS001",))]
    assert found(lint(tmp_path, world_size=8)) == []
    assert len(found(lint(tmp_path, world_size=4))) == 1


@pytest.mark.parametrize(
    ("flag", "meant"),
    [("--num_procesess", "num_processes"), ("--num_proc", "num_processes"), ("--use_fdsp", "use_fsdp")],
)
def test_the_flags_of_accelerate_launch_are_checked_and_may_not_be_shortened(flag: str, meant: str) -> None:
    report = lint_text({"a.sh": f"accelerate launch --mixed-precision bf16 {flag} 2 train.py\n"}, Options())
    assert [(f.rule, f.severity, f.place.column) for f in report.findings] == [("OP001", "error", 42)]
    assert report.findings[0].message.endswith(f"did you mean {meant!r}?")


def test_the_launcher_of_a_folder_says_how_many_ranks_there_are(tmp_path: Path) -> None:
    write(tmp_path, ds__json=MISMATCH.replace("9", "64"))
    write(tmp_path, launch__sh="deepspeed --num_gpus 4 train.py --deepspeed_config ds.json\n")
    assert [f[0] for f in found(lint(tmp_path))] == ["DS001"]


def test_files_that_nothing_links_stay_apart(tmp_path: Path) -> None:
    write(tmp_path, a__json=MISMATCH.replace("9", "64"), b__json=MISMATCH.replace("9", "64"))
    write(tmp_path, launch__sh="torchrun --nproc_per_node 4 other.py\n")
    report = lint(tmp_path)
    assert found(report) == []
    assert len(report.not_checked) == 2


def test_broken_and_binary_files_are_one_finding_each(tmp_path: Path) -> None:
    write(tmp_path, a__json='{"a": 1,}', b__yaml="a: 1\n b: 2\n", c__toml="x = \n")
    (tmp_path / "d.yaml").write_bytes(b"a: \x00")
    (tmp_path / "e.yaml").write_bytes(b"\xff\xfe\xff")
    assert sorted({f.rule for f in lint(tmp_path).findings}) == ["CF001", "CF002"]
    assert len(lint(tmp_path).findings) == 5


def test_a_device_without_an_end_is_read_no_further_than_a_configuration_may_be() -> None:
    (finding,) = lint_paths([Path("/dev/zero")], Options()).findings
    assert (finding.rule, finding.message) == (
        "CF002",
        "the file has 2,000,001 bytes; a configuration of more than 2,000,000 is not read",
    )


def test_templates_and_unknown_files_are_said_not_to_be_checked(tmp_path: Path) -> None:
    write(tmp_path, a__json='{"train_batch_size": BATCH_SIZE}', b__yaml="name: somebody\n")
    report = lint(tmp_path, "a.json", "b.yaml")
    assert report.findings == []
    assert [n.needs.split(":")[0] for n in report.not_checked] == [
        "a file in place of the template", "a configuration that is known",
    ]  # fmt: skip


def test_a_comment_accepts_a_finding_and_must_say_why() -> None:
    text = "zero_optimization: {{stage: 0}}\ntrain_batch_size: 9{}\ntrain_micro_batch_size_per_gpu: 4\n"
    for comment, expected in (
        ("", ["DS001"]),
        ("  # advisor: ignore[DS001] measured", []),
        ("  # advisor: ignore[mismatched-batch-arithmetic] measured", []),
        ("  # advisor: ignore[DS001]", ["CF004"]),
        ("  # advisor: ignore[CF001] other", ["CF003", "DS001"]),
    ):
        report = lint_text({"ds.yaml": text.format(comment)}, Options())
        assert sorted(f.rule for f in report.findings if f.rule in ("DS001", "CF003", "CF004")) == expected, comment


def test_a_comment_above_or_for_the_file_works_too() -> None:
    text = "{}\ntrain_batch_size: 9\ntrain_micro_batch_size_per_gpu: 4\n"
    for comment in ("# advisor: ignore[DS001] why", "# advisor: ignore-file[DS001] why"):
        assert "DS001" not in [f.rule for f in lint_text({"ds.yaml": text.format(comment)}, Options()).findings]


def test_files_without_comments_are_accepted_in_advisor_toml(tmp_path: Path) -> None:
    write(tmp_path, ds__json=MISMATCH)
    write(tmp_path, advisor__toml='[ignore]\n"ds.json:train_batch_size" = ["DS001"]\n')
    assert lint(tmp_path).findings == []
    write(tmp_path, advisor__toml='[ignore]\n"other.json:train_batch_size" = ["DS001"]\n')
    assert [f[0] for f in found(lint(tmp_path))] == ["DS001"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("advisor__toml", "ignore = 3\ntarget = [1]\n"), ("pyproject__toml", "tool = 3\n")],
)
def test_settings_of_another_shape_accept_nothing(name: str, text: str, tmp_path: Path) -> None:
    write(tmp_path, ds__json=MISMATCH, **{name: text})
    assert [finding.rule for finding in lint(tmp_path).findings] == ["DS001"]


def test_rules_are_selected_and_ignored_by_id_prefix_and_name() -> None:
    for options, expected in (
        (Options(select=("DS",)), ["DS001"]),
        (Options(select=("MD",)), []),
        (Options(ignore=("DS001",)), []),
        (Options(ignore=("mismatched-batch-arithmetic",)), []),
    ):
        assert [f.rule for f in lint_text({"ds.json": MISMATCH}, options).findings] == expected


def test_a_lock_file_or_target_says_which_version_is_meant(tmp_path: Path) -> None:
    write(tmp_path, serve__sh="vllm serve m\n")
    write(tmp_path, requirements__txt="torch==2.8.0\nvllm == 0.10.2\n")
    from advisor_mcp.linting.engine import lock_targets

    assert lock_targets(tmp_path) == {"torch": "2.8.0", "vllm": "0.10.2"}


def test_only_safe_fixes_are_made_unless_all_are_asked_for() -> None:
    report = lint_text({"ds.json": MISMATCH}, Options())
    assert fixed(report) == {}
    before, after = fixed(report, unsafe=True)["ds.json"]
    assert (before, after) == (MISMATCH, '{"train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2}\n')


@pytest.mark.parametrize(
    ("name", "text", "change", "expected"),
    [
        ("a.yaml", "a: 1 # one\nb: 2\nc: 3\n", "remove", "a: 1 # one\nc: 3\n"),
        ("a.yaml", "a: 1\nb:\n  - x\n  - y\nc: 3\n", "remove", "a: 1\nc: 3\n"),
        ("a.yaml", "{a: 1, b: 2, c: 3}\n", "remove", "{a: 1, c: 3}\n"),
        ("a.json", '{\n  "a": 1,\n  "b": 2\n}\n', "remove", '{\n  "a": 1\n}\n'),
        ("a.json", '{\n  "b": 2,\n  "a": 1\n}\n', "remove", '{\n  "a": 1\n}\n'),
        ("a.toml", 'a = 1\nb = "x" # why\nc = 3\n', "remove", "a = 1\nc = 3\n"),
        ("a.yaml", "a: 1\nb: 2\nc: 3\n", "rename", "a: 1\nd: 2\nc: 3\n"),
        ("a.json", '{"b": 2}', "rename", '{"d": 2}'),
        ("a.yaml", "b: two  # why\n", "set", 'b: "no"  # why\n'),
        ("a.json", '{"b": "two"}', "set", '{"b": "no"}'),
        ("a.yaml", "x:\n  b: 2\nc: 3\n", "add", "x:\n  b: 2\n  e: true\nc: 3\n"),
        ("a.json", '{\n  "b": 2\n}\n', "add", '{\n  "b": 2,\n  "e": true\n}\n'),
        ("a.toml", "[x]\nb = 2\n[y]\n", "add", "[x]\nb = 2\ne = true\n[y]\n"),
    ],
)
def test_an_edit_changes_nothing_else(name: str, text: str, change: str, expected: str) -> None:
    from advisor_mcp.linting import reading_json, reading_toml, reading_yaml, tree
    from advisor_mcp.linting.source import SourceFile
    from advisor_mcp.linting.unit import flatten

    source = SourceFile(name, text)
    syntax = {"json": "json", "toml": "toml", "yaml": "yaml"}[name[2:]]
    node = {"json": reading_json.read_json, "toml": reading_toml.read_toml}.get(
        syntax, lambda s: reading_yaml.read_yaml(s)[0]
    )(source)
    assert isinstance(node, tree.Mapping)
    settings = flatten(node, syntax)  # type: ignore[arg-type]
    setting = next(s for path, s in settings.items() if path.split(".")[-1] == "b")
    fix = {
        "remove": lambda: edits.remove(setting),
        "rename": lambda: edits.rename(setting, "d"),
        "set": lambda: edits.set_value(setting, "no"),
        "add": lambda: edits.add_after(setting, "e", True),
    }[change]()
    assert edits.apply(text, fix.edits) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run --a 1 --b 2 --c\n", "run --a 1 --c\n"),
        ("run \\\n  --a 1 \\\n  --b 2 \\\n  --c\n", "run \\\n  --a 1 \\\n  --c\n"),
        ("run \\\n  --a 1 \\\n  --b 2\n", "run \\\n  --a 1\n"),
    ],
)
def test_a_flag_is_removed_with_its_value_and_its_line(text: str, expected: str) -> None:
    from advisor_mcp.linting.flag_words import parse_options
    from advisor_mcp.linting.shell import read_shell
    from advisor_mcp.linting.source import SourceFile

    words = read_shell(SourceFile("a.sh", text)).commands[0].words[1:]
    assert edits.apply(text, edits.remove(parse_options(words, "nobody", "").settings["b"]).edits) == expected


def test_a_model_in_a_folder_beside_the_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(
        '{"num_attention_heads": 12, "model_type": "llama"}', encoding="utf-8"
    )
    write(tmp_path, serve__sh="vllm serve ./model --tensor-parallel-size 8\n")
    report = lint(tmp_path, "serve.sh")
    assert "MD001" in [f.rule for f in report.findings]
    assert any("the config.json in ./model: 12 attention heads" in f.message for f in report.findings)


def test_over_a_network_nothing_above_the_folder_is_read(tmp_path: Path) -> None:
    from advisor_mcp import access

    (tmp_path / "inner").mkdir()
    write(tmp_path, advisor__toml='[ignore]\n"ds.json" = ["DS001"]\n')
    write(tmp_path / "inner", ds__json=MISMATCH)
    assert lint(tmp_path / "inner").findings == []
    with access.limited(tmp_path / "inner"):
        assert [f[0] for f in found(lint(tmp_path / "inner"))] == ["DS001"]


def test_comments_in_json_are_a_warning_where_the_tool_takes_them_and_the_rest_is_still_checked() -> None:
    text = '{\n  // nine\n  "train_batch_size": 9,\n  "train_micro_batch_size_per_gpu": 4,\n}\n'
    report = lint_text({"ds.json": text}, Options())
    assert [(f.rule, f.severity, f.place.line) for f in report.findings] == [
        ("CF001", "warning", 2),
        ("DS001", "error", 3),
    ]
    other = lint_text({"train.json": '{"output_dir": "o", "bf16": true, "max_steps": 5,}'}, Options())
    assert [(f.rule, f.severity) for f in other.findings] == [("CF001", "error")]


def test_an_adapters_own_file_is_held_against_its_class() -> None:
    text = '{"peft_type": "LORA", "r": 16, "lora_alpha": 32, "lora_droput": 0.1, "target_modules": ["q_proj"]}'
    report = lint_text({"adapter_config.json": text}, Options())
    assert report.tools == {"adapter_config.json": ["peft"]}
    assert [(f.rule, f.severity, f.key) for f in report.findings] == [("OP001", "warning", "lora_droput")]
