"""The view behind `diagnose-trace --html OUT`: reads, diagnoses, and writes the page."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from advisor_mcp import __version__, access, terminal
from advisor_mcp.declaration import BRIEF_BYTES, FULL_BYTES, Shown
from advisor_mcp.errors import UsageError, shown
from advisor_mcp.findings import Family
from advisor_mcp.tracing.diagnosis import Diagnosis
from advisor_mcp.tracing.families import GATES, JOB, TIMELINE
from advisor_mcp.tracing.figures import device_row
from advisor_mcp.tracing.page import words
from advisor_mcp.tracing.page.graphics import Boxes, Chart
from advisor_mcp.tracing.page.lanes import NOTHING, picture, worst_step
from advisor_mcp.tracing.reading import diagnosed
from advisor_mcp.tracing.record_families import COMPILING, MEMORY
from advisor_mcp.tracing.report import report, worst_case

EVERYTHING_BYTES = 1 << 30
"""The page has no limit of its own: its tables are as long as those of the longest answer."""

FINDINGS = 1


def write(asked: Shown) -> int:
    """Write the page, print the summary and where the page is; 1 where something was found, as the answer itself ends.

    With `--json` the answer alone is printed, and the place is said on standard error. Raises `UsageError` where the page
    cannot be written there, before anything is read.
    """
    paths, earlier = list(asked.arguments["trace"]), list(asked.arguments["baseline"] or [])
    target = _target(asked.value or "", [*paths, *earlier])
    found = diagnosed(paths, asked.progress)
    before = diagnosed(earlier, asked.progress) if earlier else None
    size = _save(target, asked.value or "", page(found, before, paths))
    detail = asked.arguments["detail"]
    answer = report(found, detail, FULL_BYTES if detail == "full" else BRIEF_BYTES, before)
    place = f"The page is in {asked.value} ({size / 1000:,.0f} kB); open it in a browser."
    if asked.as_json:
        print(json.dumps(answer.data(), ensure_ascii=False, indent=2))
        print(place, file=sys.stderr)
    else:
        print(terminal.without_controls(answer.summary))
        print(place)
    return FINDINGS if answer.findings else 0


def _target(given: str, inputs: Sequence[str]) -> Path:
    """Where the page goes. A page that is there is replaced; any other file is not, lest a trace is lost to a slip."""
    path = access.expanded(given)
    name = shown(given, 300)
    try:
        if not given or "\0" in given or path.is_dir():
            raise UsageError(f"{name} cannot be a page; name a file, such as trace.html")
        if not path.parent.is_dir():
            raise UsageError(
                f"there is no folder {shown(str(path.parent), 300)} for the page; make it, or name another"
            )
        if path.is_file() and path.stat().st_size and not _is_page(path):
            raise UsageError(f"{name} is there and is no HTML page; name another file for the page")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise UsageError(f"{name} cannot be written; name a file in a folder that you may write to")
    except OSError as error:
        raise _unwritable(given, error) from None
    return path


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(512).lstrip().lower().startswith((b"<!doctype html", b"<html"))


def _save(path: Path, given: str, text: str) -> int:
    # a name may hold half of a surrogate pair, which no encoding has a form for
    content = text.encode("utf-8", errors="replace")
    try:
        path.write_bytes(content)
    except OSError as error:
        raise _unwritable(given, error) from None
    return len(content)


def _unwritable(given: str, error: OSError) -> UsageError:
    reason = (error.strerror or "it is not usable").lower()
    return UsageError(f"{shown(given, 300)} cannot be written: {reason}; name another file for the page")


# ---- the page ----


def page(found: Diagnosis, before: Diagnosis | None, paths: Sequence[str]) -> str:
    """The page as HTML."""
    answer = report(found, "full", EVERYTHING_BYTES, before)
    data, slowest = answer.data(), worst_case(found)
    drawn = picture(slowest, worst_step(slowest)) if slowest else NOTHING
    script, style = _asset("page.js"), _asset("page.css")
    html: str = (
        _environment()
        .get_template("page.html.jinja")
        .render(
            answer=answer,
            data=data,
            compared=words.compared(data.get("comparison", {})),
            title=words.title(found),
            about=words.about(slowest),
            lead=words.lead(found, slowest, answer),
            gpu=slowest.facts.name if slowest else "",
            timed=slowest is not None,
            which=slowest.label if slowest and len(found.job.ranks) > 1 else "",
            shown=device_row(slowest) if slowest and slowest.device is not None else None,
            idle=words.idle_rows(slowest) if slowest and slowest.device is not None else [],
            whys={one.kind.name: _paragraph(one.kind.page) for one in (*found.gates, *found.findings)},
            looked_for=_looked_for(found),
            picture=drawn,
            boxes=Boxes(drawn),
            chart=Chart(answer.step_rows or [], parted=slowest is not None and slowest.device is not None),
            withheld=found.withheld,
            made_from=_sources(paths),
            words=words,
            version=__version__,
            script=script,
            style=style,
            hashes=[_hash(script), _hash(style)],
        )
    )
    return html.lstrip()


def _looked_for(found: Diagnosis) -> dict[str, int]:
    """How many kinds of doubts and of findings the evidence was held against."""
    families: list[Family[Any]] = [TIMELINE, JOB] if found.cases else []
    families += [MEMORY] if found.memories else []
    families += [COMPILING] if found.compile_log else []
    return {
        "doubts": len(GATES.kinds()) if found.cases else 0,
        "findings": sum(len(family.kinds()) for family in families),
    }


def _paragraph(page: str) -> str:
    return " ".join(page.split("\n## ")[0].split())


def _sources(paths: Sequence[str]) -> str:
    names = [Path(path).name or path for path in paths]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _environment() -> Any:
    import jinja2

    folder = files("advisor_mcp.tracing.page")
    load: Callable[[str], str] = lambda name: folder.joinpath(name).read_text(encoding="utf-8")  # noqa: E731
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(load), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )  # fmt: skip
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    environment.filters |= {"time": words.time, "share": words.share, "heading": words.heading, "cell": words.cell}
    return environment


def _asset(name: str) -> Any:
    from markupsafe import Markup

    return Markup(files("advisor_mcp.tracing.page").joinpath(name).read_text(encoding="utf-8"))


def _hash(text: str) -> str:
    """The form in which a content security policy allows an inline script or style sheet."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
