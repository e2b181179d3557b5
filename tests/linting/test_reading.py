"""What the readers make of files: values, the places they stand in, and what they refuse."""

from __future__ import annotations

import pytest

from advisor_mcp.linting.reading_json import read_json
from advisor_mcp.linting.reading_python import python_units
from advisor_mcp.linting.reading_toml import read_toml
from advisor_mcp.linting.reading_yaml import read_yaml
from advisor_mcp.linting.shell import read_shell
from advisor_mcp.linting.source import LARGEST_BYTES, SourceFile, Unreadable, Utf8, decode
from advisor_mcp.linting.tree import UNKNOWN, IsTemplate, Malformed, Mapping, Node, Scalar, at, plain, walk


def yaml(text: str) -> Node:
    return read_yaml(SourceFile("a.yaml", text))[0]


def places(node: Node) -> dict[str, tuple[int, int]]:
    return {".".join(path): node.source.position(entry.key.start) for path, entry in walk(node)}


def test_yaml_keys_know_their_line_and_column_behind_other_alphabets() -> None:
    node = yaml("# größe\nä: 1\nb:\n  c: [1, {d: 2}]\n")
    assert places(node) == {"ä": (2, 1), "b": (3, 1), "b.c": (4, 3), "b.c.1.d": (4, 11)}
    assert plain(node) == {"ä": 1, "b": {"c": [1, {"d": 2}]}}


def test_a_place_in_utf_8_is_that_of_the_character_it_begins() -> None:
    text = "aü€\U0001f600\nz"  # one, two, three and four bytes
    utf8 = Utf8(text)
    assert [utf8.at(byte) for byte in (0, 1, 3, 6, 10, 11, 12)] == [0, 1, 2, 3, 4, 5, 6]
    assert utf8.data == text.encode()


def test_json_toml_and_shell_know_their_places_behind_other_alphabets() -> None:
    assert places(read_json(SourceFile("a.json", '{"ä€": 1, "b": {"c": 2}}'))) == {
        "ä€": (1, 2),
        "b": (1, 11),
        "b.c": (1, 17),
    }
    toml = read_toml(SourceFile("a.toml", '# größe\n"ä" = "€"\n[b]\nc = {x = "ü", d = 1}\n'))
    assert places(toml) == {"ä": (2, 1), "b": (3, 2), "b.c": (4, 1), "b.c.x": (4, 6), "b.c.d": (4, 15)}
    (command,) = read_shell(SourceFile("a.sh", "# größe\npython 'ü€' --seed 1\n")).commands
    assert [(word.text, word.span.column) for word in command.words] == [
        ("python", 1),
        ("ü€", 9),
        ("--seed", 13),
        ("1", 20),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_python_knows_its_places_behind_other_alphabets_and_any_end_of_line(end: str) -> None:
    text = end.join(["import torchtitan  # größe", 'Trainer.Config(a="ü€", b=1,', "    c=2)", ""])
    (unit,) = python_units(SourceFile("a.py", text))
    assert {name: unit.source.text[found.key.start :][:3] for name, found in unit.settings.items()} == {
        "a": 'a="',
        "b": "b=1",
        "c": "c=2",
    }


def test_yaml_reads_words_as_version_1_1_does_and_keeps_their_text() -> None:
    node = yaml("a: no\nb: 'no'\nc: 2e-5\nd: 1.0e-5\ne: 0777\nf: ~\ng: 2024-01-01\n")
    assert plain(node) == {"a": False, "b": "no", "c": "2e-5", "d": 1e-5, "e": 511, "f": None, "g": "2024-01-01"}
    found = at(node, "a")
    assert isinstance(found, Scalar)
    assert (found.text, found.quoted) == ("no", False)


def test_yaml_merges_and_aliases_are_shared_and_overridden() -> None:
    node = yaml("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\nagain: *b\n")
    assert isinstance(node, Mapping)
    use = node.get("use")
    assert isinstance(use, Mapping)
    assert [plain(use.get(name)) for name in "xy"] == [1, 3]
    assert plain(node.get("again")) == {"x": 1, "y": 2}


def test_what_a_template_or_interpolation_leaves_open_is_unknown() -> None:
    node = yaml('a: "{{ .Values.x }}"\nb: ${oc.env:HOME}\nc: $TP\nd: plain\n')
    assert plain(node) == {"a": UNKNOWN, "b": UNKNOWN, "c": UNKNOWN, "d": "plain"}
    with pytest.raises(IsTemplate):
        yaml("a: {{ .Values.x }}\n{{- if .Values.y }}\nb: 1\n{{- end }}\n")


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("a: 1\n b: 2\n", "is not valid YAML: mapping values are not allowed in this context", (2, 3)),
        ("a: &x\n  b: *x\n", "holds itself through the alias \\*x", (2, 6)),
        ("a: *nowhere\n", "uses the alias \\*nowhere, which nothing defines before it", (1, 4)),
        ("[" * 500 + "]" * 500, "is nested more than 100 levels deep", (1, 101)),
    ],
)
def test_broken_yaml_is_one_sentence_with_its_place(text: str, message: str, place: tuple[int, int]) -> None:
    source = SourceFile("a.yaml", text)
    with pytest.raises(Malformed, match=message) as caught:
        read_yaml(source)
    assert source.position(caught.value.offset) == place


def test_a_bomb_of_aliases_is_refused_before_it_grows() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(Malformed, match="more than 200,000 values"):
        yaml("\n".join(lines))


def test_json_says_what_is_wrong_and_where() -> None:
    assert places(read_json(SourceFile("a.json", '{"ü": {"b": [1, {"c": 2}]}}'))) == {
        "ü": (1, 2), "ü.b": (1, 8), "ü.b.1.c": (1, 18),
    }  # fmt: skip
    source = SourceFile("a.json", '{\n  "a": 1,\n}\n')
    with pytest.raises(Malformed, match="is not valid JSON") as caught:
        read_json(source)
    assert source.position(caught.value.offset)[0] in (2, 3)
    with pytest.raises(Malformed, match="has a comment"):
        read_json(SourceFile("a.json", '{\n  // no\n  "a": 1\n}\n'))
    with pytest.raises(IsTemplate):
        read_json(SourceFile("a.json", '{"a": BATCH_SIZE}'))
    with pytest.raises(Malformed, match="nested"):
        read_json(SourceFile("a.json", "[" * 100_000 + "]" * 100_000))


def test_toml_tables_arrays_and_dotted_keys_have_places() -> None:
    node = read_toml(SourceFile("a.toml", '[a]\nb.c = 1\n[[d]]\ne = "x"\n[[d]]\ne = "y"\n[a.f]\ng = {h = [1, 2]}\n'))
    assert plain(node) == {"a": {"b": {"c": 1}, "f": {"g": {"h": [1, 2]}}}, "d": [{"e": "x"}, {"e": "y"}]}
    assert places(node)["d.1.e"] == (6, 1)
    with pytest.raises(Malformed, match="is not valid TOML"):
        read_toml(SourceFile("a.toml", "[a]\nb = \n"))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"a: \xff\xfe\x00", "is not UTF-8 text"),
        (b"a: \x00b", "holds NUL characters"),
        (b"x" * (LARGEST_BYTES + 1), "is not read"),
    ],
)
def test_what_is_no_text_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(Unreadable, match=message):
        decode("a.yaml", raw)


def test_utf_16_and_byte_order_marks_are_read() -> None:
    assert decode("a", "a: ü".encode("utf-16")).text == "a: ü"
    assert decode("a", b"\xef\xbb\xbfa: 1").text == "a: 1"
