"""``python -m advisor_mcp`` is ``advisor-mcp``."""

import sys

from advisor_mcp.cli import main

if __name__ == "__main__":
    sys.exit(main())
