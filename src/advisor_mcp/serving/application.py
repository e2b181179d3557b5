"""The MCP server itself: tools, prompts, resources and completions, each handed to the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from anyio import CapacityLimiter, to_thread
from mcp import MCPError
from mcp.server import MCPServer
from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolResult,
    Completion,
    CompletionArgument,
    CompletionContext,
    GetPromptResult,
    Prompt,
    PromptArgument,
    PromptMessage,
    PromptReference,
    Resource,
    ResourceTemplate,
    ResourceTemplateReference,
    TextContent,
    Tool,
    ToolAnnotations,
)

from advisor_mcp import __version__
from advisor_mcp.catalogue import Catalogue, PersonaEntry, ToolEntry
from advisor_mcp.errors import AdvisorError, UsageError, nearest, shown, unknown
from advisor_mcp.results import present
from advisor_mcp.serving.introduction import instructions
from advisor_mcp.serving.progress import RequestProgress
from advisor_mcp.serving.references import KINDS, MARKDOWN, MOST_COMPLETIONS, SCHEME, References, render

Access = Callable[[], AbstractContextManager[None]]

DEPTHS = ("brief", "full")
CALLS_AT_ONCE = 8  # of their own, so that calls never keep the transport from reading a cancellation
ONE_HOUR_MS = 3_600_000
_LISTS: tuple[CacheableMethod, ...] = (
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
)
_PROMPT_ARGUMENTS = (
    PromptArgument(name="focus", description="What to concentrate on, in a few words", required=False),
    PromptArgument(name="depth", description="brief or full (default)", required=False),
)


class AdvisorServer(MCPServer[Any]):
    """An `MCPServer` over a catalogue: lists come from its entries, a tool's module is imported on its first call."""

    def __init__(self, catalogue: Catalogue, access: Access | None = None) -> None:
        hint = CacheHint(ttl_ms=ONE_HOUR_MS, scope="private" if catalogue.folders else "public")
        super().__init__(
            "advisor",
            title="Advisor",
            version=__version__,
            instructions=instructions(catalogue),
            log_level="WARNING",
            cache_hints=dict.fromkeys(_LISTS, hint),
        )
        self.catalogue = catalogue
        self._access: Access = access or nullcontext
        self._references = References(catalogue)
        self._listed = [_tool(entry) for _, entry in sorted(catalogue.tools.items())]
        self._calls = CapacityLimiter(CALLS_AT_ONCE)
        self.completion()(self.complete)  # type: ignore[no-untyped-call]

    async def list_tools(self) -> list[Tool]:
        """The tools by name, from the catalogue's entries."""
        return self._listed

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult:
        """Run a tool in a worker thread and return both channels of its answer, or one sentence with `is_error`."""
        progress = RequestProgress(context.report_progress if context else None)
        try:
            return await to_thread.run_sync(
                self._answer, name, arguments, progress, abandon_on_cancel=True, limiter=self._calls
            )
        finally:
            progress.withdraw()

    async def list_prompts(self) -> list[Prompt]:
        """One prompt per persona."""
        return [_prompt(entry) for entry in self.catalogue.personas.values()]

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[Any, Any] | None = None
    ) -> GetPromptResult:
        """A persona's briefing; raises `MCPError` with INVALID_PARAMS for a name or an argument that cannot be used."""
        try:
            text = await to_thread.run_sync(self._brief, name, arguments or {})
        except AdvisorError as error:
            raise MCPError(INVALID_PARAMS, error.message) from None
        except Exception as error:
            self.catalogue.faults.log(f"the persona {name} could not be rendered", error)
            sentence = f"the persona {shown(name)} could not be rendered; the server's log says why"
            raise MCPError(INTERNAL_ERROR, sentence) from error
        message = PromptMessage(role="user", content=TextContent(text=text))
        return GetPromptResult(description=self.catalogue.personas[name].description, messages=[message])

    async def list_resources(self) -> list[Resource]:
        """The lists of ids, and every persona's briefing."""
        lists = [
            Resource(uri=kind.index, name=kind.folder, title=f"{kind.title}s", mime_type="application/json")
            for kind in KINDS.values()
        ]
        return lists + [_briefing(entry) for entry in self.catalogue.personas.values()]

    async def list_resource_templates(self) -> list[ResourceTemplate]:
        """One template per kind."""
        return [
            ResourceTemplate(
                uri_template=kind.template,
                name=kind.kind,
                title=kind.title,
                description=kind.description,
                mime_type=kind.mime_type,
            )
            for kind in KINDS.values()
        ]

    async def read_resource(self, uri: Any, context: Context[Any, Any] | None = None) -> Iterable[ReadResourceContents]:
        """A fact as JSON or a persona as Markdown; raises `ResourceNotFoundError` naming the nearest id."""
        try:
            text, mime_type = await to_thread.run_sync(self._references.read, str(uri))
        except AdvisorError as error:
            raise ResourceNotFoundError(error.message) from None
        except Exception as error:
            self.catalogue.faults.log(f"the resource {uri} could not be read", error)
            raise ResourceError(f"{shown(str(uri))} could not be read; the server's log says why") from error
        return [ReadResourceContents(content=text, mime_type=mime_type)]

    async def complete(
        self,
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion:
        """Values that begin as typed, at most a hundred of them."""
        if isinstance(ref, PromptReference):
            known = DEPTHS if argument.name == "depth" else ()
            values = [depth for depth in known if depth.startswith(argument.value.lower())]
        else:
            folder = ref.uri.removeprefix(SCHEME).partition("/")[0]
            values = await to_thread.run_sync(self._references.complete, folder, argument.value)
        more = len(values) > MOST_COMPLETIONS
        return Completion(values=values[:MOST_COMPLETIONS], total=len(values), has_more=more)

    def _answer(self, name: str, arguments: Mapping[str, Any], progress: RequestProgress) -> CallToolResult:
        try:
            with self._access():
                answer = self.catalogue.call(name, arguments, progress)
            data, text = present(answer, self.catalogue.limit(name, arguments))
        except AdvisorError as error:
            return _refusal(_sentence(error))
        except Exception as error:
            self.catalogue.faults.log(f"{name} failed", error)
            return _refusal(f"{name} failed on a fault of its own; please report the arguments you gave")
        return CallToolResult(content=[TextContent(text=text)], structured_content=data)

    def _brief(self, name: str, arguments: Mapping[str, Any]) -> str:
        given = {key: value for key, value in arguments.items() if value != ""}  # how some clients send "not given"
        known = [argument.name for argument in _PROMPT_ARGUMENTS]
        if name not in self.catalogue.personas:
            raise unknown("prompt", name, self.catalogue.personas)
        for key in given:
            if key not in known:
                raise UsageError(f"{name}: unknown argument {shown(key)}{nearest(key, known)} (it takes focus, depth)")
            if not isinstance(given[key], str):
                raise UsageError(f"{name}: {key} must be text, not {shown(given[key])}")
        return render(self.catalogue, name, **given)


def _tool(entry: ToolEntry) -> Tool:
    return Tool(
        name=entry.name,
        title=entry.title,
        description=entry.description,
        annotations=ToolAnnotations.model_validate(dict(entry.annotations)),
        input_schema=dict(entry.input_schema),
        output_schema=dict(entry.output_schema),
    )


def _prompt(entry: PersonaEntry) -> Prompt:
    return Prompt(name=entry.name, title=entry.title, description=entry.description, arguments=list(_PROMPT_ARGUMENTS))


def _briefing(entry: PersonaEntry) -> Resource:
    uri = f"{KINDS['personas'].index}/{entry.name}"
    return Resource(uri=uri, name=entry.name, title=entry.title, description=entry.description, mime_type=MARKDOWN)


def _refusal(sentence: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=sentence)], is_error=True)


def _sentence(error: AdvisorError) -> str:
    return f"{error.message}; needs: {', '.join(error.needs)}" if error.needs else error.message
