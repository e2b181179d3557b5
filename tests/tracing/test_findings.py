"""Every kind of finding: a trace that has it, with the value worked out by hand, and one next to it that does not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.tracing.made import V100, Made

from advisor_mcp.tracing.diagnosis import diagnose

NCCL = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64"


def busy(length: float, name: str = GEMM, **args: Any) -> Made:
    """A device that computes from 0 to `length` in kernels of 100 microseconds, launched far ahead."""
    made = Made()
    for place in range(int(length // 100)):
        made.kernel(
            f"{name}_{place % 4}" if name == GEMM else name,
            100 * place,
            100,
            launch=100 * place - 5000,
            grid=[264, 1, 1],
            **args,
        )
    return made


def bounds(made: Made) -> dict[str, float | None]:
    return {one.kind.name: one.seen.saves_at_most_percent for one in made.diagnosis().findings}


def test_launch_bound_is_the_share_of_gaps_that_end_with_a_late_launch() -> None:
    made = Made()
    for place in range(50):  # 10 busy, 10 idle
        made.kernel(GEMM, 20 * place, 10, launch=20 * place - 6)
    assert made.found() == {"launch-bound": pytest.approx(100 * 490 / 990), "kernel-hotspot": 100.0}
    assert bounds(made)["launch-bound"] == pytest.approx(100 * 490 / 990)


def test_a_device_that_waits_for_15_percent_or_less_is_not_launch_bound() -> None:
    made = Made()
    for place in range(50):
        made.kernel(f"{GEMM}_{place % 4}", 20 * place, 17.5, launch=20 * place - 1)
    assert made.found() == {}


def test_a_data_loader_stall_is_the_idle_time_under_next() -> None:
    made = busy(1000).range("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", 990, 410)
    made.kernel(GEMM, 1500, 500, launch=1450, grid=[264, 1, 1])
    assert made.found()["dataloader-stall"] == pytest.approx(100 * 400 / 2000)
    assert "launch-bound" not in made.found()


def test_a_data_loader_on_a_machine_without_gpu_is_measured_by_the_steps() -> None:
    made = Made().steps(0, 100, 200).range("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", 10, 30)
    made.operator("aten::mm", 50, 10)
    assert made.found() == {"dataloader-stall": pytest.approx(15.0)}


def test_host_sync_is_the_idle_time_that_begins_in_a_blocking_call() -> None:
    made = Made()
    for place in range(10):  # 1 ms busy, the host waits for it, 1 ms idle
        start = 2000 * place
        made.kernel(GEMM, start, 1000, launch=start - 10, grid=[264, 1, 1]).call("cudaStreamSynchronize", start, 1001)
        made.operator("aten::item", start - 1, 1003)
    found = made.diagnosis().findings
    (sync,) = [one for one in found if one.kind.name == "host-sync"]
    assert sync.seen.measured == pytest.approx(100 * 9 / 19)
    assert sync.seen.rows[0] == "1.001 ms cudaStreamSynchronize in aten::item"


def test_what_a_wait_hides_is_no_more_than_the_device_works() -> None:
    made = Made()
    for place in range(10):  # 1 ms busy, the host waits for it, then 3 ms of a checkpoint
        start = 4000 * place
        made.kernel(GEMM, start, 1000, launch=start - 10, grid=[264, 1, 1]).call("cudaStreamSynchronize", start, 1001)
        made.range("save_checkpoint", start + 1002, 2980)
    (sync,) = [one for one in made.diagnosis().findings if one.kind.name == "host-sync"]
    assert sync.seen.measured == pytest.approx(100 * 27 / 37)
    assert sync.seen.saves_at_most_percent == pytest.approx(100 * 9 / 37)
    assert sync.seen.message.endswith("; it then is in save_checkpoint.")


def test_time_of_the_steps_before_the_device_begins_is_told_with_what_the_host_did() -> None:
    made = Made().steps(0, 2000).range("preprocess", 5, 400)
    for place in range(16):
        made.kernel(f"{GEMM}_{place % 4}", 400 + 100 * place, 100, launch=300 + place, grid=[264, 1, 1])
    (seen,) = [one.seen for one in made.diagnosis().findings]
    assert seen.measured == pytest.approx(20.0)
    assert (
        seen.message
        == "0.4 ms of the steps (20.0 %) pass outside the device's span of 1.6 ms, most of it in preprocess."
    )


def test_copies_within_the_device_are_no_matter_of_pinned_memory() -> None:
    made = busy(1000).copy(1000, 1000, launch=0, name="Memcpy DtoD (Device -> Device)", bytes=10_000_000)
    (found,) = [one for one in made.diagnosis().findings if one.kind.name == "copy-bound"]
    assert (found.seen.change or "").startswith("Most of it is copied within the device")


def test_a_blocking_call_at_the_end_of_the_window_costs_nothing() -> None:
    assert busy(10_000).call("cudaDeviceSynchronize", 100, 9_950).found() == {}


def test_a_wait_for_another_stream_is_told_from_the_hosts() -> None:
    made = busy(1000).kernel(GEMM, 1500, 500, launch=10, grid=[264, 1, 1])
    assert made.found() == {"stream-wait": pytest.approx(25.0)}


def test_exposed_communication_is_what_compute_does_not_cover() -> None:
    made = busy(1000).kernel(NCCL, 900, 300, launch=0, stream=20).kernel(GEMM, 1200, 800, launch=0, grid=[264, 1, 1])
    assert made.found() == {"exposed-communication": pytest.approx(10.0)}
    assert bounds(made) == {"exposed-communication": pytest.approx(10.0)}


def test_communication_that_compute_covers_is_no_finding() -> None:
    assert busy(2000).kernel(NCCL, 900, 300, launch=0, stream=20).found() == {}


def test_many_small_collectives_are_told_with_their_size() -> None:
    made = busy(1000)
    sizes = {
        "Collective name": "allreduce",
        "In msg nelems": 1024,
        "Out msg nelems": 1024,
        "dtype": "BFloat16",
        "Group size": 8,
    }
    for place in range(30):
        made.kernel(NCCL, 1000 + 10 * place, 10, launch=0, stream=20, **sizes)
    made.kernel(GEMM, 1300, 700, launch=0, grid=[264, 1, 1])
    (small,) = [one for one in made.diagnosis().findings if one.kind.name == "small-collectives"]
    assert small.seen.measured == pytest.approx(15.0)
    assert "30 collectives of less than 1 MiB (median 2,048 bytes)" in small.seen.message


def test_copies_that_nothing_covers_are_copy_bound_and_pageable_ones_are_named() -> None:
    made = busy(1000).copy(1000, 1000, launch=0, name="Memcpy HtoD (Pageable -> Device)", bytes=10_000_000)
    made.kernel(GEMM, 2000, 500, launch=10, grid=[264, 1, 1])
    assert made.found() == {"copy-bound": pytest.approx(40.0), "pageable-copies": pytest.approx(40.0)}


def test_copies_beside_compute_cost_nothing() -> None:
    assert (
        busy(2000).copy(0, 1500, launch=0, name="Memcpy HtoD (Pageable -> Device)", bytes=10_000_000, stream=9).found()
        == {}
    )


@pytest.mark.parametrize(
    "name",
    [
        "ampere_sgemm_128x64_nn", "void cutlass::Kernel<cutlass_80_simt_sgemm_256x128_8x4_nn_align1>(cutlass::Params)",
        "cudnn_ampere_scudnn_128x64_relu_xregs_large_nn_v1", "sm80_xmma_gemm_f32f32_f32f32_f32_nn_n_tilesize64x64x8_stage3_ffma_kernel",
        "void cudnn::detail::dgrad_engine<float, 512, 6, 5, 3, 3, 3, false>(int)",
    ],
)  # fmt: skip
def test_fp32_products_without_tensor_cores_are_found_by_the_words_of_the_libraries(name: str) -> None:
    assert busy(2000, name).found()["fp32-matmul"] == pytest.approx(100.0)


@pytest.mark.parametrize(
    "name",
    [
        "sm80_xmma_fprop_implicit_gemm_indexed_tf32f32_tf32f32_f32_nhwckrsc_nchw_tilesize128x64x16", "nvjet_hsh_128x256_64x4_2x1_v_bz_TNT",
        "ampere_bf16_s16816gemm_bf16_128x64_ldg8_f2f_stages_64x3_tn", "sm90_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize128x128x32",
        "Cijk_Alik_Bljk_BBS_BH_Bias_HA_S_SAV_UserArgs_MT16x16x128",
    ],
)  # fmt: skip
def test_products_on_tensor_cores_are_not(name: str) -> None:
    assert "fp32-matmul" not in busy(2000, name).found()


def test_on_a_device_that_has_no_tf32_it_is_an_opportunity() -> None:
    made = busy(2000, "volta_sgemm_128x64_nn")
    made.head["deviceProperties"] = [V100]
    (found,) = [one for one in made.diagnosis().findings if one.kind.name == "fp32-matmul"]
    assert (found.severity, found.seen.change) == (
        "info", "Train or serve in fp16 under torch.autocast (this device has tensor cores for fp16 only).",
    )  # fmt: skip


def test_unaligned_products_are_found_by_the_kernels_name() -> None:
    name = "void cutlass::Kernel2<cutlass_75_tensorop_bf16_s1688gemm_bf16_256x128_tn_align1>(T::Params)"
    assert busy(2000, name).found()["unaligned-gemm"] == pytest.approx(100.0)
    assert "unaligned-gemm" not in busy(2000, name.replace("align1", "align8")).found()


def products(m: int, n: int, k: int, kind: str = "c10::BFloat16", count: int = 20, dur: float = 100) -> Made:
    """A run of one product, with its operator and shapes."""
    made = Made()
    for place in range(count):
        start = (dur + 20) * place
        made.operator("aten::mm", start - 5000, 10, [[m, k], [k, n]], [kind, kind])
        made.kernel(f"Cijk_{place % 4}", (dur) * place, dur, launch=start - 4998, grid=[264, 1, 1])
    return made


def test_unaligned_products_are_found_by_their_shapes() -> None:
    found = {one.kind.name: one.seen for one in products(4097, 4097, 4097).diagnosis().findings}
    assert found["unaligned-gemm"].measured == pytest.approx(100.0)
    assert found["unaligned-gemm"].rows[0] == "2.0 ms in 20 x aten::mm [4097 x 4097] x [4097 x 4097]"
    assert "unaligned-gemm" not in products(4096, 4096, 4096).found()


def test_a_tall_and_skinny_product_is_bound_by_memory() -> None:
    # 2 x 131072 x 32 x 32 = 268,435,456 FLOP over (131072 x 32 x 2 + 32 x 32) x 2 = 16,779,264 bytes: 16 FLOP a byte
    (found,) = [one for one in products(131_072, 32, 32).diagnosis().findings if one.kind.name == "memory-bound-kernel"]
    # 16,779,264 bytes in 100 us are 168 GB/s, 5 % of an H100's 3,350: slow, so more than an opportunity
    assert found.severity == "warning"
    assert found.seen.message == (
        "100.0 % of kernel time are operators that move more than they compute; they reach 168 GB/s, 5 % of the 3,350 GB/s of h100-sxm. "
        "The longest is aten::mm [131072 x 32] x [32 x 32] at 16.0 FLOP a byte."
    )


def test_a_product_far_below_its_roofline_is_found_and_one_near_it_is_not() -> None:
    # 2 x 8192^3 = 1.0995e12 FLOP take 1,111 us at 989.4 TFLOP/s
    slow = products(8192, 8192, 8192, dur=5000)
    assert slow.found()["below-roofline"] == pytest.approx(100 * (1 - 1111.28 / 5000), rel=1e-3)
    assert "below-roofline" not in products(8192, 8192, 8192, dur=1600).found()


def test_materialised_attention_is_softmax_outside_a_fused_kernel() -> None:
    made = busy(1000)
    softmax = "void at::native::(anonymous namespace)::cunn_SoftMaxForward<8, c10::BFloat16, float>(int)"
    for place in range(5):
        made.operator("aten::_softmax", -100, 90)
        made.kernel(softmax, 1000 + 100 * place, 100, launch=-50, grid=[264, 1, 1])
    assert made.found() == {"materialised-attention": pytest.approx(100 / 3)}


def test_the_softmax_of_a_loss_is_no_attention() -> None:
    made = busy(1000).operator("aten::_log_softmax", -100, 90)
    made.kernel("void at::native::cunn_SoftMaxForward<4, float>(int)", 1000, 500, launch=-50, grid=[264, 1, 1])
    assert made.found() == {}


EAGER = "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<c10::BFloat16>, std::array<char*, 3ul> >(int)"


def test_a_chain_of_eager_elementwise_kernels_could_be_one_and_compiled_ones_are() -> None:
    # twenty of 100 microseconds in a row: one fused kernel takes at least as long as one of them
    made = busy(2000, EAGER)
    assert made.found()["unfused-elementwise"] == pytest.approx(100.0)
    assert bounds(made)["unfused-elementwise"] == pytest.approx(95.0)
    assert "unfused-elementwise" not in busy(2000, "triton_poi_fused_add_mul_0").found()


def test_elementwise_kernels_between_products_are_no_chain() -> None:
    made = Made()
    for place in range(20):
        made.kernel(EAGER if place % 2 else f"{GEMM}_{place}", 100 * place, 100, launch=-5000, grid=[264, 1, 1])
    assert "unfused-elementwise" not in made.found()


def test_a_functor_named_after_a_lambda_is_elementwise_work() -> None:
    name = "void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<at::native::{lambda(float)#1}> >(int)"
    assert busy(2000, name).found()["unfused-elementwise"] == pytest.approx(100.0)


def test_one_kernel_with_more_than_half_of_the_time_is_an_opportunity() -> None:
    (found,) = list(busy(3000, "my_kernel").diagnosis().findings)
    assert (found.kind.name, found.severity, found.seen.measured) == ("kernel-hotspot", "info", 100.0)


def test_layout_conversions_are_found() -> None:
    made = busy(1000)
    for place in range(2):
        made.kernel(
            "void cudnn::engines_precompiled::nchwToNhwcKernel<__half, __half, float>(P)",
            1000 + 50 * place,
            50,
            launch=0,
        )
    assert made.found()["layout-conversion"] == pytest.approx(100 / 11)


def test_the_profilers_own_work_is_found() -> None:
    made = busy(1000).event("overhead", "Buffer Flush", 100, 200)
    assert made.found() == {"profiler-overhead": pytest.approx(20.0)}


def test_allocation_in_the_steps_is_found_and_at_the_start_is_not() -> None:
    def with_calls(*starts: float) -> Made:
        made = Made()
        for place in range(20):
            made.kernel(f"{GEMM}_{place % 4}", 200 * place, 100, launch=200 * place - 10, grid=[264, 1, 1])
        for start in starts:
            made.call("cudaMalloc", start, 80)
        return made

    assert "allocation-calls" in with_calls(2110, 2510, 3110, 3510).found()
    assert "allocation-calls" not in with_calls(110, 310, 510, 710).found()


def test_kernels_with_fewer_blocks_than_multiprocessors_leave_some_unused() -> None:
    made = Made()
    for place in range(20):
        made.kernel(f"{GEMM}_{place % 4}", 100 * place, 100, launch=100 * place - 5000, grid=[33, 1, 1])
    assert made.found() == {"small-grids": pytest.approx(75.0)}


def ranks(late: float, steps: int = 8) -> list[Any]:
    """Two ranks that meet in a collective of 100 microseconds; rank 1 arrives `late` microseconds later."""
    found = []
    for rank in (0, 1):
        made = Made()
        made.head["distributedInfo"] = {"rank": rank, "world_size": 2, "backend": "nccl"}
        for step in range(steps):
            start = 1000 * step
            work = 500 + (late if rank else 0)
            made.kernel(f"{GEMM}_{step % 4}", start, work, launch=start - 5000, grid=[264, 1, 1])
            made.kernel(NCCL, start + work, 500 + late - work + 100, launch=start - 4000, stream=20)
            made.kernel(f"{GEMM}_{step % 4}", start + 600 + late, 400 - late, launch=start - 3000, grid=[264, 1, 1])
        found.append(made.timeline(f"rank{rank}"))
    return found


def test_the_rank_that_the_others_wait_for_is_named_with_what_they_wait() -> None:
    # rank 0 waits 200 of every 1000 microseconds, eight times in 8 ms
    found = {one.kind.name: one.seen for one in diagnose(ranks(200)).findings}
    assert found["straggler-rank"].where == "rank 1"
    assert found["straggler-rank"].measured == pytest.approx(20.0)


def test_two_ranks_that_wait_for_each_other_in_turn_have_no_straggler_but_wait() -> None:
    timelines = []
    for rank in (0, 1):
        made = Made()
        made.head["distributedInfo"] = {"rank": rank, "world_size": 2}
        for step in range(8):
            start, late = 1000 * step, 200 if step % 2 == rank else 0
            made.kernel(f"{GEMM}_{step % 4}", start, 500 + late, launch=-5000, grid=[264, 1, 1])
            made.kernel(NCCL, start + 500 + late, 300 - late, launch=-4000, stream=20)
            made.kernel(f"{GEMM}_{step % 4}", start + 800, 200, launch=-3000, grid=[264, 1, 1])
        timelines.append(made.timeline(f"rank{rank}"))
    (seen,) = [one.seen for one in diagnose(timelines).findings if one.kind.name == "straggler-rank"]
    assert seen.where is None
    assert seen.measured == pytest.approx(10.0)  # each waits 200 of every 2,000 microseconds


def test_ranks_that_arrive_together_have_no_straggler() -> None:
    assert "straggler-rank" not in {one.kind.name for one in diagnose(ranks(0)).findings}


def test_ranks_that_compute_for_different_times_are_told() -> None:
    one, other = Made(), Made()
    for step in range(10):
        one.kernel(f"{GEMM}_{step % 4}", 1000 * step, 1000, launch=-5000, grid=[264, 1, 1])
        other.kernel(f"{GEMM}_{step % 4}", 1000 * step, 500, launch=-5000, grid=[264, 1, 1])
    for rank, made in enumerate((one, other)):
        made.head["distributedInfo"] = {"rank": rank, "world_size": 2}
    found = {one.kind.name: one.seen.measured for one in diagnose([one.timeline(), other.timeline()]).findings}
    assert found["uneven-compute"] == pytest.approx(50.0)


def test_what_a_finding_can_save_is_never_more_than_the_part_it_is_about() -> None:
    for made in (
        busy(2000, "ampere_sgemm_128x64_nn"),
        busy(1000).copy(1000, 1000, launch=0),
        products(4097, 4097, 4097),
    ):
        for one in made.diagnosis().findings:
            assert 0 <= (one.seen.saves_at_most_percent or 0) <= 100
