from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, is_busy, together


@GPUS.kind("link-below-capability", "warning")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds a GPU under load whose PCIe link runs at an older generation, or on fewer lanes, than GPU and system can do.
    Copies to and from the host then take longer in proportion. An idle GPU lowers its link to save power, and is left alone.

    ## Formula

    Current generation or width below the largest that GPU and system have together, while utilisation is at least 50 %.

    ## Threshold

    One generation or one lane: under load the link is expected at its maximum; 50 % is a choice of ours.

    ## Could also be

    - A slot or a riser that is wired with fewer lanes than it is wide.
    - A load that does not touch the host, on a board that saves power while the link is quiet.

    ## Change

    Reseat the board; check slot, riser and cable, and the BIOS for a limited generation or for bifurcation.

    ## Next measurement

    `nvidia-smi --query-gpu=pcie.link.gen.current,pcie.link.width.current --format=csv` while a copy runs, or `nvbandwidth`
    against the siblings.

    ## References

    - https://docs.nvidia.com/deploy/nvml-api/
    """
    busy = [r for r in machine.readings if is_busy(r)]
    narrow = (
        Seen(r.index, f"PCIe runs on {{figure}} of {r.pcie_width_max} lanes under load", r.pcie_width)
        for r in busy
        if r.pcie_width and r.pcie_width_max and r.pcie_width < r.pcie_width_max
    )
    yield from together(narrow, "lanes", worst=min)
    slow = (
        Seen(r.index, f"PCIe runs at generation {{figure}} of {r.pcie_gen_max} under load", r.pcie_gen)
        for r in busy
        if r.pcie_gen and r.pcie_gen_max and r.pcie_gen < r.pcie_gen_max
    )
    yield from together(slow, "generation", worst=min)
