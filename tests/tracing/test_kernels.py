"""What kernels' names say, on names as libraries spell them."""

from __future__ import annotations

import pytest

from advisor_mcp.tracing.kernels import is_communication, kernel_class, short


@pytest.mark.parametrize(
    "name",
    [
        "ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t(ncclDevComm*, unsigned long, ncclWork*)",
        "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "ncclDevKernel_Generic_1(ncclDevKernelArgs)",
        "rcclGenericKernel", "void multimem_all_reduce_kernel<c10::BFloat16, 16>(c10::BFloat16*, unsigned long)",
        "void vllm::cross_device_reduce_1stage<__nv_bfloat16, 8>(vllm::RankData*)", "void deep_ep::internode_ll::dispatch<true, 3, 10, 7168>(void*)",
        "nvshmemi_transfer_rma", "one_shot_all_reduce_kernel",
    ],
)  # fmt: skip
def test_communication_is_more_than_nccl(name: str) -> None:
    assert is_communication(name)
    assert kernel_class(name) == "communication"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits<64, 128, 128, 4> >(Params)", "attention"),
        ("kernel_unified_attention_3d", "attention"),
        ("fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel)", "attention"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off_kernel", "gemm"),
        ("nvjet_tst_128x272_64x4_2x1_v_bz_coopA_TNT", "gemm"),
        ("Cijk_Alik_Bljk_BBS_BH_Bias_HA_S_SAV_UserArgs_MT16x16x128", "gemm"),
        ("_matmul_ogs_NNT_bf16xbf16xmxfp4_16x128x256x1", "gemm"),
        ("void cudnn::cnn::wgrad_alg0_engine<float, 128, 6, 7, 3, 3, 5, false, 512>(int)", "convolution"),
        ("igemm_fwd_gtcx_nhwc_fp32_bx0_ex0_bt128x128x32", "convolution"),
        ("void at::native::(anonymous namespace)::cunn_SoftMaxForward<8, c10::BFloat16, float>(int)", "softmax"),
        ("void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<c10::BFloat16, float>(int)", "normalisation"),
        ("void cudnn::bn_bw_1C11_kernel_new<float, float, float2, 512, true, 1>(float)", "normalisation"),
        ("void at::native::(anonymous namespace)::multi_tensor_apply_kernel<TensorListMetadata<4>, AdamFunctor<float>>(int)", "optimizer"),
        ("void cudnn::engines_precompiled::nchwToNhwcKernel<__nv_bfloat16, __nv_bfloat16, float>(P)", "layout"),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>(int)", "elementwise"),
        ("void at::native::elementwise_kernel<128, 4, at::native::direct_copy_kernel_cuda(at::TensorIteratorBase&)>(int)", "copy"),
        ("triton_poi_fused_add_cos_sin_0", "elementwise"),
        ("triton_red_fused__to_copy_addmm_mean_rsqrt_transpose_3", "reduction"),
        ("triton_tem_fused_addmm_relu_1", "gemm"),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float>>(R)", "reduction"),
        ("my_own_thing", "other"),
    ],
)  # fmt: skip
def test_the_class_of_a_kernel_is_in_its_name(name: str, kind: str) -> None:
    assert kernel_class(name) == kind


def test_a_kernel_with_dma_or_hip_in_its_name_is_still_compute() -> None:
    assert not is_communication("triton_poi_fused_dma_copy_0")
    assert not is_communication("hipblaslt_gemm_kernel")


def test_short_names_drop_return_types_arguments_and_templates() -> None:
    assert (
        short("void cudnn::bn_bw_1C11_kernel_new<float, float, float2, 512, true, 1>(float, float)")
        == "cudnn::bn_bw_1C11_kernel_new"
    )
    functor = "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, std::array<char*, 3ul> >(int)"
    assert short(functor) == "at::native::vectorized_elementwise_kernel (CUDAFunctor_add)"
    assert short("x" * 200) == "x" * 89 + "…"
    # Nsight Systems' spelling of a namespace without a name
    assert short("void at::native::<unnamed>::CatArrayBatchedCopy<int>(int)") == "at::native::CatArrayBatchedCopy"
