"""Lines of a shell script that do not belong to the command that they seem to belong to."""

from advisor_mcp.linting.edits import Edit, Fix
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.source import line_start
from advisor_mcp.linting.unit import Unit


@rule(
    "SH001",
    "options-cut-off",
    tools=("stray",),
    harm="ignored",
    causes=("comment-in-continuation", "missing-continuation"),
)
def options_cut_off(unit: Unit, job: Job) -> Found:
    """Allow options-cut-off.

    ## What it does
    Finds a line of a script that begins with an option, so that the shell takes it for a command of its own: the line above
    is a comment, is empty, or lost its backslash.

    ## Why is this bad?
    A comment ends a continued command, backslash or not. The tool starts without the options that follow, and the shell
    reports "--tensor-parallel-size: command not found" only after it has ended, which a server never does.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B \\
      --port 8000 \\
      # --max-model-len 4096 \\
      --tensor-parallel-size 2
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B \\
      --port 8000 \\
      --tensor-parallel-size 2
    ```

    ## Versions
    All shells.

    ## References
    - GNU Bash manual, 3.1.3 Comments, and 3.1.2.1 Escape Character
    """
    source, start = unit.span.source, unit.span.start
    text = source.text
    first = line_start(text, start)
    above = text[line_start(text, max(first - 1, 0)) : max(first - 1, 0)]
    fix: Fix | None
    if above.lstrip().startswith("#"):
        begin = line_start(text, first - 1)
        fix = Fix("take the comment out of the command", (Edit(source, begin, first, ""),))
        why = "the comment above ends the command"
    else:
        end = len(text[: max(first - 1, 0)].rstrip())
        fix = (
            Fix("continue the line above with a backslash", (Edit(source, end, max(first - 1, end), " \\"),))
            if above.strip()
            else None
        )
        why = "nothing continues the line above" if above.strip() else "the empty line above ends the command"
    yield Problem(unit.span, f"{unit.arguments[0]} is taken for a command of its own: {why}", fix)
