"""The part of an `inspect_gpus` answer that is about a fleet."""

from __future__ import annotations

from pydantic import Field

from advisor_mcp.results import Row


class JobRow(Row):
    """What one job did with its GPUs over the window."""

    job: str = Field(
        description="Slurm's number, else namespace/pod without its ordinal; 'no job' for GPUs that none holds"
    )
    gpu_count: int
    gpu_hours: float
    idle_gpu_hours: float = Field(description="GPU-hours of it in which nothing ran")
    activity_percent: int | None = Field(default=None, description="By the measure that activity_by names")
    tensor_percent: int | None = Field(default=None, description="Cycles in which the tensor pipe was active")
    memory_used_gib: float | None = Field(default=None, description="Mean for one GPU")
    power_w: int | None = Field(default=None, description="Mean for one GPU")


class NotChecked(Row):
    """What could not be looked for."""

    findings: list[str]
    needs: str = Field(description="The metric or label that is not there")


class FleetRow(Row):
    """A fleet over a window, from the metrics that a Prometheus holds."""

    window_h: float
    step_s: float = Field(description="Length of the steps that activity is averaged over")
    host_count: int
    job_count: int
    gpu_hours: float = Field(description="Seen in the window; a part of a GPU counts as its share")
    wasted_gpu_hours: float | None = Field(
        default=None, description="Idle while a job held the GPU; null where no label says who does"
    )
    free_gpu_hours: float | None = Field(default=None, description="Idle without a job; null as above")
    idle_gpu_hours: float
    activity_percent: int | None = None
    activity_by: str = Field(description="The measure of activity, the most telling that was served")
    power_capped_percent: int | None = Field(default=None, description="Of all time; normal at full load")
    jobs: list[JobRow] | None = Field(default=None, description="The most idle GPU-hours first")
    not_checked: list[NotChecked] | None = None
