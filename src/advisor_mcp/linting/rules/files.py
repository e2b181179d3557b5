"""Files that nobody can read as they are, and comments that ignore findings. The engine reports these itself."""

from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, rule
from advisor_mcp.linting.unit import Unit


@rule("CF001", "unparseable-file", tools=(), harm="crash", causes=("syntax-error",))
def unparseable_file(unit: Unit, job: Job) -> Found:
    """Allow unparseable-file.

    ## What it does
    Reports a file that is not in the syntax its name promises: broken YAML, JSON or TOML, an alias that holds itself,
    nesting or size that no configuration has.

    ## Why is this bad?
    The tool stops when it reads the file, often with a message about another line.

    ## Example
    ```json ds_config.json
    {"train_batch_size": 8,}
    ```

    ## Use instead
    ```json ds_config.json
    {"train_batch_size": 8}
    ```

    ## Versions
    All.

    ## References
    - RFC 8259 (JSON), YAML 1.2.2, TOML 1.0.0
    """
    yield from ()


@rule("CF002", "unreadable-file", tools=(), harm="crash")
def unreadable_file(unit: Unit, job: Job) -> Found:
    r"""Allow unreadable-file.

    ## What it does
    Reports a file that is no text: NUL characters, bytes that are not UTF-8, or more than 2,000,000 bytes.

    ## Why is this bad?
    No tool reads it as its configuration; it is usually a wrong path or a broken copy.

    ## Example
    A `train.yaml` that was saved as UTF-16 without its mark, or that is a checkpoint.

    ## Use instead
    The text of the configuration, saved as UTF-8.

    ## Versions
    All.

    ## References
    - YAML 1.2.2, section 5.2: a stream is UTF-8, UTF-16 or UTF-32, the latter two with a mark
    """
    yield from ()


@rule("CF003", "unused-ignore", tools=(), harm="unintended", severity="info")
def unused_ignore(unit: Unit, job: Job) -> Found:
    """Allow unused-ignore.

    ## What it does
    Reports an ignore comment that no finding needs any more.

    ## Why is this bad?
    It would hide the finding when it comes back for another reason.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B  # advisor: ignore[DS001] measured, is fine
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B
    ```

    ## Versions
    All.

    ## References
    - `advisor-mcp lint --help`
    """
    yield from ()


@rule("CF004", "ignore-without-reason", tools=(), harm="unintended", severity="info")
def ignore_without_reason(unit: Unit, job: Job) -> Found:
    """Allow ignore-without-reason.

    ## What it does
    Reports an ignore comment that does not say why.

    ## Why is this bad?
    Whoever reads the file next cannot tell an accepted risk from an oversight.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B  # advisor: ignore[DS001]
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B
    ```

    ## Versions
    All.

    ## References
    - `advisor-mcp lint --help`
    """
    yield from ()
