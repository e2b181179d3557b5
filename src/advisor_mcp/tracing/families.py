"""The families of findings over a timeline, and the trust gates that come before them."""

from __future__ import annotations

from advisor_mcp.findings import Family
from advisor_mcp.tracing.case import Case
from advisor_mcp.tracing.job import Job

GATES = Family[Case]("advisor_mcp.tracing.gates")
"""What makes a trace's figures less sure. A gate's page lists under "Lowers" and "Withholds" the findings and figures it touches."""

JOB_GATES = Family[Job]("advisor_mcp.tracing.job_gates")
"""What makes it less sure that several traces are the ranks of one job, or all of them."""

TIMELINE = Family[Case]("advisor_mcp.tracing.findings.timeline")
"""What one device of one trace suffers from."""

JOB = Family[Job]("advisor_mcp.tracing.findings.job")
"""What only several ranks together show."""
