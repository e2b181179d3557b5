"""Answers a question with Claude and the advisor's tools, speaking as one of its personas.

    pip install 'advisor-mcp[client]' && export ANTHROPIC_API_KEY=...
    python clients/anthropic_agent.py "Will a 70B model in FP8 fit on two H100s at 32k tokens?" --persona optima

The loop is the Messages API's own (`anthropic` 2.x): send the conversation with the tools, run the tools that the
reply asks for over MCP, send what they answered, until the reply asks for none.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import anyio
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam, TextBlock, ToolParam, ToolResultBlockParam, ToolUseBlock
from mcp import Client, StdioServerParameters
from mcp.types import ContentBlock, EmbeddedResource, TextContent, TextResourceContents

MODEL = "claude-sonnet-5-5"
MAX_TOKENS = 8_000
MAX_ROUNDS = 20
SERVER = (sys.executable, "-P", "-m", "advisor_mcp", "serve")


async def answer(claude: AsyncAnthropic, advisor: Client, question: str, persona: str, model: str = MODEL) -> str:
    """The answer to one question, or a sentence that none came within `MAX_ROUNDS` rounds of tool calls."""
    system = await briefing(advisor, persona)
    tools: list[ToolParam] = [
        {"name": tool.name, "description": tool.description or "", "input_schema": dict(tool.input_schema)}
        for tool in (await advisor.list_tools()).tools
    ]
    messages: list[MessageParam] = [{"role": "user", "content": question}]
    for _ in range(MAX_ROUNDS):
        reply = await claude.messages.create(
            model=model, max_tokens=MAX_TOKENS, system=system, tools=tools, messages=messages
        )
        if reply.stop_reason != "tool_use":
            return "".join(block.text for block in reply.content if isinstance(block, TextBlock))
        results = [await run_tool(advisor, block) for block in reply.content if isinstance(block, ToolUseBlock)]
        messages += [{"role": "assistant", "content": reply.content}, {"role": "user", "content": results}]
    return f"No answer: the model still asked for tools after {MAX_ROUNDS} rounds; ask a narrower question."


async def briefing(advisor: Client, persona: str) -> str:
    """The persona's prompt, after the server's own instructions: what the model is to know before the question."""
    prompt = await advisor.get_prompt(persona)
    return "\n\n".join([advisor.instructions or "", text_of([m.content for m in prompt.messages])]).strip()


async def run_tool(advisor: Client, call: ToolUseBlock) -> ToolResultBlockParam:
    """Run one tool that the model asked for; a refusal goes back as an error, for the model to mend its call."""
    result = await advisor.call_tool(call.name, dict(call.input))
    return {
        "type": "tool_result",
        "tool_use_id": call.id,
        "content": text_of(result.content),
        "is_error": bool(result.is_error),
    }


def text_of(content: Sequence[ContentBlock]) -> str:
    """The text of MCP content, embedded documents included."""
    parts = []
    for block in content:
        if isinstance(block, TextContent):
            parts.append(block.text)
        elif isinstance(block, EmbeddedResource) and isinstance(block.resource, TextResourceContents):
            parts.append(block.resource.text)
    return "\n\n".join(parts)


async def run(question: str, persona: str, model: str) -> str:
    """Start the server, ask Claude, and stop the server again."""
    # by default a server started over stdio sees only a few variables of this environment
    advisor = StdioServerParameters(command=SERVER[0], args=list(SERVER[1:]), env=dict(os.environ))
    async with AsyncAnthropic() as claude, Client(advisor) as client:
        return await answer(claude, client, question, persona, model)


def main() -> None:
    """Read the command line, ask, print."""
    parser = argparse.ArgumentParser(description="Ask Claude with the advisor's tools and one of its personas.")
    parser.add_argument("question")
    parser.add_argument("--persona", default="optima", help="the MCP prompt to speak as (default: optima)")
    parser.add_argument("--model", default=MODEL, help=f"default: {MODEL}")
    given = parser.parse_args()
    print(anyio.run(run, given.question, given.persona, given.model))


if __name__ == "__main__":
    main()
