"""What the server says of itself before any tool is seen: made from the catalogue, so it names only what is served."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from advisor_mcp.catalogue import Catalogue, PersonaEntry, ToolEntry

LARGEST_BYTES = 1_200
_PURPOSE = (
    "Answers about training and serving models, calculated, measured and cited. Call a tool before giving a number "
    "and pass on its range, assumptions and sources; where a tool cannot answer, say what it needs instead of guessing."
)


def instructions(catalogue: Catalogue) -> str:
    """The server's instructions, at most `LARGEST_BYTES` of UTF-8.

    Some clients show a model nothing of a server but these and the tools' names. Each tool has the fullest line that
    all of them have room for: the first sentence of its description, its title, or its name alone.
    """
    texts = _from_full_to_short(catalogue)
    return next((text for text in texts if len(text.encode()) <= LARGEST_BYTES), _PURPOSE)


def _from_full_to_short(catalogue: Catalogue) -> Iterator[str]:
    tools, personas = list(catalogue.tools.values()), list(catalogue.personas.values())
    for line in (_sentence, _title):
        yield _paragraphs((_listed("Tools", [f"{tool.name}: {line(tool)}" for tool in tools]), _spoken(personas, True)))
    for shown in range(len(tools), 0, -1):
        names = [tool.name for tool in tools]
        yield _paragraphs((_counted("Tools", names, shown), _spoken(personas, shown == len(tools))))
    for shown in range(len(personas), 0, -1):
        yield _paragraphs((_counted("Personas (prompts)", [persona.name for persona in personas], shown),))


def _paragraphs(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in (_PURPOSE, *parts) if part)


def _sentence(tool: ToolEntry) -> str:
    return tool.description.split(". ")[0].removesuffix(".")


def _title(tool: ToolEntry) -> str:
    return tool.title


def _listed(head: str, lines: list[str]) -> str:
    return "\n".join((f"{head}:", *(f"- {line}" for line in lines))) if lines else ""


def _counted(head: str, names: list[str], shown: int) -> str:
    more = f" and {len(names) - shown} more" if shown < len(names) else ""
    return f"{head}: {', '.join(names[:shown])}{more}."


def _spoken(personas: list[PersonaEntry], titled: bool) -> str:
    if not personas:
        return ""
    return f"Personas, as prompts: {', '.join(f'{p.name} ({p.title})' if titled else p.name for p in personas)}."
