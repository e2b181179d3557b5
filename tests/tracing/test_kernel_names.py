"""Real kernels' names, and the class that each must have.

The third column says where the name was read: a trace in AMD-AGI/TraceLens (tests/traces), facebookresearch/HolisticTraceAnalysis or the
sample traces of pytorch/kineto's tb_plugin, the source that defines the kernel, or a published profile of a serving or training run.
Parameter lists and long template arguments are cut, as profilers cut them; a name must be understood without them.
"""

from __future__ import annotations

import pytest

from advisor_mcp.tracing.kernels import Class, is_communication, is_fp32_product, is_unaligned, kernel_class

COMMUNICATION = [
    ("ncclDevKernel_AllGather_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "TraceLens b200/eager_trace"),
    ("ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<(unsigned long)4096>)", "Nsight Systems profile, FSDP, Nemotron"),
    ("ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<(unsigned long)4096>)", "nsys-ai tests/fixtures/mfu_2gpu_after"),
    ("ncclDevKernel_Generic(ncclDevKernelArgsStorage<4096ul>)", "TraceLens mi300/resnet_act_checkpoint (RCCL)"),
    ("ncclSymkDevKernel_AllReduce_RSxLDMC_AGxSTMC_sum_bf16(ncclSymkDevWorkArgs4K)", "NVIDIA/nccl 2.30 src/device/symmetric/generate.py"),
    ("ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t(ncclDevComm*, unsigned long, ncclWork*)", "HolisticTraceAnalysis (NCCL 2.1x)"),
    ("mscclKernel_Sum_half_Simple_false(ncclDevComm*, mscclAlgo*, mscclWork*)", "rocprof profile, RCCL with MSCCL"),
    ("mscclKernel_Sum_hip_bfloat16_Simple_false", "profile of a serving run on MI300X"),
    ("void deep_ep::intranode::dispatch<(int)2, (int)768, (int)8192>(int4 *, float *)", "Nsight Systems profile, Nemotron, DeepEP"),
    ("void deep_ep::intranode::cached_notify_combine<8>(void**, int*, int, int, int, int**, int)", "SGLang serving profile, GLM, B200"),
    ("void deep_ep::internode::notify_dispatch<false, 4>(int const*, int*)", "SGLang prefill profile, DeepSeek, H100"),
    ("void deep_ep::internode_ll::dispatch<true, 3, 10, 7168>(void*, float*)", "SGLang decode profile, DeepSeek, H100"),
    ("void (anonymous namespace)::multimem_all_reduce_kernel<c10::BFloat16, 16>(c10::BFloat16*, unsigned long)", "TraceLens b200/eager_trace"),
    ("void (anonymous namespace)::all_reduce_one_shot_push_kernel<__nv_bfloat16, 8u, true>", "SGLang serving profile, Laguna, B200"),
    ("void flashinfer::trtllm_allreduce_fusion::allreduce_fusion_kernel_oneshot_lamport<(flashinfer::trtllm_allreduce_fusion::AllReduceFusionPattern)1, __nv_bfloat16, 8, false, false>", "SGLang serving profile, GLM, B200"),
    ("quickreduce::allreduce_prototype_twoshot<AllReduceTwoshot<__half, CodecQ4<__half,8>, true>, __half>", "aiter profile, MI300X"),
    ("moeA2ADispatchKernel", "TensorRT-LLM moeAlltoAllKernels.cu"),
    ("void userbuffers_fp16_sum_inplace_gpu_rr_rs<2>(int, int, int)", "Transformer Engine userbuffers.cu"),
]  # fmt: skip

ATTENTION = [
    ("void flash::flash_fwd_kernel<Flash_fwd_kernel_traits<(int)128, (int)128, (int)64, (int)4>>", "nsys-ai tests/fixtures/mfu_2gpu_after"),
    ("void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits<64, 128, 128, 4>>", "TraceLens h100/Falconsai"),
    ("void cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnFwdSm90<flash::CollectiveMainloopFwdSm90<2, cute::tuple<cute::C<1> >, 128, cutlass::bfloat16_t", "SGLang prefill profile, FlashAttention 3"),
    ("void cutlass::device_kernel<flash::FlashAttnFwdCombine<cute::tuple<cute::C<8>, cute::C<128> >, 6, 256>", "SGLang decode profile, FlashAttention 3"),
    ("kernel_cutlass_kernel_flash_attncuteflash_fwd_sm100FlashAttentionForwardSm100_object_at__tensor0000o11101213", "profile of a diffusion model, FlashAttention 4, B200"),
    ("flash::prepare_varlen_num_blocks_kernel(int, int, int, int const*)", "SGLang prefill profile"),
    ("void flash::flash_fwd_splitkv_mla_kernel<Flash_fwd_kernel_traits_mla<576, 64, 64, 8>>", "FlashMLA, DeepSeek decode profile"),
    ("fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel)", "torch, xFormers"),
    ("fmhaSm100aKernel_QkvE4m3OBfloat16H64PagedKvCausalP16VarSeqQ128Kv128PersistentContext", "TraceLens b200/eager_trace (TensorRT-LLM)"),
    ("fmha_v2_flash_attention_bf16_64_128_S_qkv_128_causal_tma_ws_sm90_kernel", "TensorRT-LLM fmha_v2"),
    ("void masked_multihead_attention_kernel<float, 32, 4, 8, 64>(DecoderMaskedMultiHeadAttentionParams)", "TensorRT-LLM, ONNX Runtime: decoder's masked attention"),
    ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128_4x", "Megatron FSDP profile, H100"),
    ("cudnn_generated_fort_native_sdpa_sm80_flash_fprop_wmma_f16_knob_3_64x64x128_4x1x1_kernel0_0", "torch, CUDNN_ATTENTION"),
    ("void flashinfer::BatchDecodeWithPagedKVCacheKernel<...>", "FlashInfer profile"),
    ("kernel_unified_attention_2d", "TraceLens inference/vllm_decode_full"),
    ("_fwd_grouped_kernel_stage1", "vLLM v1/attention/ops/triton_decode_attention.py"),
    ("_ZN7ck_tile6kentryILi2ENS_38FmhaBatchPrefillWithPagedKVCacheKernelINS_40BlockFmhaBatchPrefillPipelineQRKSVSAsyncI", "TraceLens inference/sglang_prefilldecode"),
    ("void ck_tile::kentry<256, 1, ck_tile::FmhaBwdDQDKDVK", "flash-attention profile on ROCm"),
    ("aiter::fmha_fwd_hd128_bf16_rtz", "TraceLens inference/xdit_flux.1"),
    ("void paged_attention_ll4mi_QKV_mfma16_kernel<0, __hip_bfloat16, __hip_bfloat16, (vllm::Fp8KVCacheDataType)0, 1, 128>", "TraceLens inference/sglang_decode"),
    ("triton_tem_fused_flex_attention_backward_2", "profile of a FlexAttention model"),
]  # fmt: skip

CONVOLUTION = [
    ("sm80_xmma_fprop_implicit_gemm_indexed_tf32f32_tf32f32_f32_nhwckrsc_nchw_tilesize128x128x16_stage4_warpsize2x2x1_g1_tensor16x8x8_alignc4_execute_kernel_cudnn", "HolisticTraceAnalysis critical_path/alexnet"),
    ("void cutlass__5x_cudnn::Kernel<cutlass_tensorop_bf16_s16816fprop_optimized_bf16_256x64_32x4_nhwc_align8>(Params)", "TraceLens h100/google_owlv2"),
    ("void cudnn::cnn::im2col4d_kernel<float, long>(cudnn::cnn::im2col4d_params, cudnnConvolutionStruct)", "kineto tb_plugin/samples/resnet50_num_workers_0"),
    ("cask_cudnn::computeWgradSplitKOffsetsKernel(cask_cudnn::ComputeSplitKOffsetsParams)", "kineto tb_plugin/samples/resnet50_num_workers_0"),
    ("void fft2d_r2c_32x32<float, false, 0u, false>(float2*, float const*, int)", "HolisticTraceAnalysis critical_path/alexnet"),
    ("volta_scudnn_128x64_stridedB_interior_nn_v1", "kineto tb_plugin/samples/resnet50_num_workers_0"),
    ("_ZN2ck16tensor_operation6device12_GLOBAL__N_139kernel_grouped_conv_fwd_xdl_cshuffle_v3INS_34GridwiseGemmMultiD_xdl_cshuffle_v3I", "TraceLens inference/xdit_flux.1"),
    ("miopenSp3AsmConv_v30_3_1_gfx9_fp32_f2x3_stride1", "MIOpen"),
    ("igemm_fwd_gtcx3_nhwc_bf16_bx0_ex1_bt128x256x32_wt32x32x8_ws1x2_wr2x2", "TraceLens inference/xdit_sd_3.5"),
    ("Im2d2Col_v2", "TraceLens inference/xdit_flux.1"),
    ("void causal_conv1d_channellast_fwd_kernel<Causal_conv1d_channellast_fwd_kernel_traits<(int", "Nsight Systems profile, Nemotron"),
]  # fmt: skip

GEMM = [
    ("nvjet_tst_192x8_64x8_4x1_v_bz_TNT", "TraceLens b200/eager_trace"),
    ("nvjet_sm100_tst_32x64_64x16_4x1_v_bz_splitK_TNN", "SGLang serving profile, Laguna, B200"),
    ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off_kernel__5x_cublas", "TraceLens h100/google_owlv2"),
    ("void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_64x64_64x6_tn_align8>(Params)", "TraceLens h100/google_owlv2"),
    ("cutlass3x_sm100_simt_sgemm_f32_f32_f32_f32_f32_128x64x16_1x1x1_3_tnn_align1_bias_f32_relu", "SGLang serving profile, Laguna, B200"),
    ("void cutlass::device_kernel<at::cuda::detail::enable_3x_kernel_for_sm9x<cutlass::gemm::ker", "Nsight Systems profile, torch._grouped_mm"),
    ("_ZN7cutlass13device_kernelINS_4gemm6kernel13GemmUniversalINS1_17GroupProblemShapeIN4cute5tupleI", "SGLang serving profile, Laguna, B200"),
    ("kernel_cutlass_kernel_flashinfergemmkernelsdense_blockscaled_gemm_sm100Sm100BlockScaledPersis", "SGLang serving profile, CUTLASS 4"),
    ("void cublasLt::splitKreduce_kernel<32, 16, int, __nv_bfloat16, __nv_bfloat16, float, __nv_bfloat16, true, true, false>", "TraceLens h100/google_owlv2"),
    ("std::enable_if<!(false), void>::type internal::gemvx::kernel<int, int, float, float, float, float, false, true, true, false, 7, cublasGemvParams<", "HolisticTraceAnalysis (cuBLAS)"),
    ("void deep_gemm::sm100_fp8_fp4_gemm_1d1d_impl<(cute::UMMA::Major)0, (cute::UMMA::Major)0, 128u, 128u, 0u, 0u>", "SGLang serving profile, DeepSeek, B200"),
    ("void deep_gemm::fp8_gemm_kernel<4096u, 7168u, 128u, 160u, 128u, 0u, 64u, 9u, 4u>", "SGLang prefill profile, H100"),
    ("bmm_Bfloat16_MxE2m1MxE4m3_Fp32_t128x16x256u2_s3_et128x16_m128x16x32_cga1x1x1_16dp256b_rM_TN_transOut_schedP2x1x2x3_biasM_bN_tmaOpt_clmp_dynBatch_sm100f", "TraceLens b200/eager_trace (TensorRT-LLM)"),
    ("fused_moe_kernel", "vLLM, SGLang: fused_moe.py"),
    ("_matmul_ogs_NNT_bf16xbf16xmxfp4_16x128x256x1_swiglu", "TraceLens inference/vllm_decode_full"),
    ("void marlin::Marlin<1125899906909960l, 1125899907892224l, 1125899906909960l, 1125899906909960l", "vLLM serving profile"),
    ("void marlin_moe_wna16::Marlin<...>", "vLLM serving profile"),
    ("vllm::gptq::gemm_half_q_half_gptq_4bit_kernel<true, 1>", "vLLM csrc/quantization/gptq/q_gemm.cu (exllama)"),
    ("void vllm::awq::gemm_forward_4bit_cuda_m16nXk32<128>", "vLLM csrc/quantization/awq/gemm_kernels.cu"),
    ("void kgemm_4bit_inference_naive<hip_bfloat16, 128, 1>", "bitsandbytes csrc/kernels.cu"),
    ("Cijk_Alik_Bljk_SB_Bias_AS_SAV_UserArgs_MT64x16x32_MI16x16x1_SN_LDSB0_AFC1_AFEM1", "HolisticTraceAnalysis, MI250"),
    ("Custom_Cijk_Alik_Bljk_BBS_BH_MT256x256x64_MI16x16x1_UserArgs_shortname1_gfx950", "AMD-AGI/Primus examples/deepseek-v4"),
    ("void ck::kernel_gemm_xdl_cshuffle_v3<ck::GridwiseGemmMultiD_ABScale_xdl_cshuffle_v3<", "vLLM serving profile, MI300X"),
    ("void ck_tile::kentry<2, ck_tile::MoeFlatmmKernel<ck_tile::GemmSpatiallyLocalTilePartitioner<", "serving profile, MI355X"),
    ("aiter::fmoe_bf16_pertokenFp8_g1u1_vs_silu_1tg_ps_32x512", "aiter serving profile, MI300X"),
    ("_ZN5aiter42fp8gemm_bf16_blockscale_BpreShuffle_32x128E", "aiter"),
    ("void wvSplitK_hf_sml_<__hip_bfloat16, 64, 4, 16, 8, 1, 4>(int)", "vLLM csrc/rocm/skinny_gemms.cu"),
    ("_bmm_chunk_fwd_kernel", "state-spaces/mamba ssd_bmm.py"),
    ("triton_tem_fused_addmm_relu_1", "torch inductor"),
]  # fmt: skip

SOFTMAX = [
    ("void at::native::(anonymous namespace)::cunn_SoftMaxForward<8, c10::BFloat16, float, c10::BFloat16>", "TraceLens h100/google_owlv2"),
    ("void (anonymous namespace)::softmax_warp_backward<float, float, float, 10, true, false>", "kineto tb_plugin/samples"),
    ("scaled_masked_softmax_warp_forward", "Megatron-LM, Transformer Engine scaled_masked_softmax"),
]  # fmt: skip

NORMALISATION = [
    ("void at::native::<unnamed>::vectorized_layer_norm_kernel<float, float, (bool)0>(int, T2, const T1 *)", "nsys-ai tests/fixtures/mfu_2gpu_after"),
    ("void at::native::(anonymous namespace)::GammaBetaBackwardCUDAKernel<float, float>(long, long, float const*)", "HolisticTraceAnalysis"),
    ("void at::native::(anonymous namespace)::RowwiseMomentsCUDAKernel<float, float>(long, float, float const*, float*, float*)", "HolisticTraceAnalysis"),
    ("void cudnn::bn_fw_tr_1C11_singleread<float, 512, true, 1, 2, 0>(cudnn::bn_fw_tr_1C11_args<float>)", "kineto tb_plugin/samples"),
    ("MIOpenBatchNormFwdTrainSpatialNorm", "TraceLens perf_model/normalization"),
    ("std::enable_if<(((8)>(0)))&&vllm::_typeConvert<c10::BFloat16>::exists, void>::type vllm::fused_add_rms_norm_kernel<c10::BFloat16, 8>(c10::BFloat16*)", "TraceLens b200/eager_trace"),
    ("_ZN5aiter24add_rmsnorm_quant_kernelIDF16bDF16bLi256ELi16ELb0ELb0ELb1ELi1EEEvPT0_PT_Pf", "TraceLens inference/sglang_decode"),
    ("_ZN7ck_tile6kentryILi1ENS_12Rmsnorm2dFwdINS_27Rmsnorm2dFwdPipelineOnePassINS_27Rmsnorm2dFwdPipelineProblemI", "TraceLens inference/vllm_decode_full"),
    ("void flashinfer::norm::FusedAddRMSNormKernel<8u, __nv_bfloat16>(__nv_bfloat16*, __nv_bfloat16*)", "SGLang serving profile, B200"),
    ("kernel_cutlass_kernel_flashinfernormkernelsfused_add_rmsnormFusedAddRMSNormKernel_object_at__", "SGLang serving profile, B200"),
    ("void transformer_engine::normalization::rmsnorm_bwd_finalize_general_kernel<transformer_engine::normalization::Kernel_traits_finalize", "Transformer Engine profile, MI300X"),
    ("_rms_norm_forward_kernel", "Liger ops/rms_norm.py"),
]  # fmt: skip

OPTIMIZER = [
    ("void at::native::<unnamed>::multi_tensor_apply_kernel<at::native::<unnamed>::FusedOptimize", "Nsight Systems profile, Nemotron"),
    ("void multi_tensor_apply_kernel<TensorListMetadata<4>, AdamFunctor<float>, float, float>", "HolisticTraceAnalysis (apex)"),
    ("kOptimizerStatic8bit2StateBlockwise", "bitsandbytes csrc/kernels.cu"),
]  # fmt: skip

LAYOUT = [
    ("void cudnn::engines_precompiled::nchwToNhwcKernel<__nv_bfloat16, __nv_bfloat16, float, false, true>", "TraceLens h100/google_owlv2"),
    ("batched_transpose_32x32_half", "TraceLens inference/xdit_flux.1 (MIOpen)"),
    ("transpose_NCHW2CNHW_V2_2D_WG_off64", "TraceLens mi300/resnet_act_checkpoint"),
    ("void deep_gemm::transpose_fp32<512, 64>(const float *, float *)", "DeepGEMM profile"),
]  # fmt: skip

EMBEDDING = [
    ("void at::native::index_elementwise_kernel<128, 4, at::native::gpu_index_kernel<at::native::index_put_kernel_impl<at::native::OpaqueType<4> >", "HolisticTraceAnalysis"),
    ("void at::native::_scatter_gather_elementwise_kernel<128, 4, at::native::_cuda_scatter_gather_internal_kernel<false, at::native::OpaqueType<4> >", "HolisticTraceAnalysis"),
    ("void at::native::vectorized_gather_kernel<16, long>(char*, char*, long*, int, long, long, long, long, bool)", "TraceLens inference/vllm_decode_full"),
    ("void split_embedding_backward_codegen_rowwise_adagrad_unweighted_kernel_cta_per_row_1<float, float, float, 1ul, 16>", "HolisticTraceAnalysis (FBGEMM)"),
    ("void fbgemm_gpu::permute_2D_lengths_kernel<int>(int, int, int const*, int const*, int*)", "HolisticTraceAnalysis (FBGEMM)"),
    ("_permute_kernel", "Nsight Systems profile, Transformer Engine's expert permutation"),
]  # fmt: skip

REDUCTION = [
    ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::NormTwoOps<float, float, float>, unsigned int, float, 4> >", "HolisticTraceAnalysis"),
    ("void at_cuda_detail::cub::DeviceScanKernel<at_cuda_detail::cub::AgentScanPolicy<128, 15, long", "HolisticTraceAnalysis"),
    ("void rocprim::ROCPRIM_400200_NS::detail::trampoline_kernel<rocprim::ROCPRIM_400200_NS::detail::wrapped_scan_config<", "TraceLens inference/sglang_decode"),
    ("void reduce_1Block_kernel<float, 128, 7, cublasGemvTensorStridedBatched<float>>", "TraceLens h100/google_owlv2"),
    ("void moe::dev::routing::routingRenormalize::routingIndicesHistogramScoresKernel<moe::dev::routing::routingRenormalize::KernelParams<", "TraceLens b200/eager_trace"),
    ("void vllm::moe::topkGatingSoftmax<bf16,16,128,8,32", "vLLM serving profile"),
    ("void ck_tile::kentry<2, ck_tile::MoeSortingKernel<ck_tile::MoeSortingProblemEx<int, float, 2, true>", "serving profile, MI300X"),
    ("void moe::dev::finalize::finalizeKernelVecLoad<moe::dev::finalize::KernelParams<cutlass::bfloat16_t", "TraceLens b200/eager_trace"),
    ("void flashinfer::sampling::TopPSamplingFromProbKernel", "FlashInfer serving profile"),
    ("liger_cross_entropy_kernel", "Liger ops/cross_entropy.py"),
    ("void cunn_ClassNLLCriterion_updateOutput_kernel<float, float>(float*, float*)", "kineto tb_plugin/samples"),
    ("_chunk_scan_fwd_kernel", "Nsight Systems profile, Mamba 2"),
    ("void selective_scan_fwd_kernel<Selective_Scan_fwd_kernel_traits<(int)32, (int)4, (int)1", "state-spaces/mamba selective_scan_fwd_kernel.cuh"),
    ("triton_per_fused__to_copy_add_addmm_mean_mul_pow_rsqrt_transpose_view_8", "TraceLens inference/xdit_sd_3.5"),
]  # fmt: skip

ELEMENTWISE = [
    ("void at::native::vectorized_templated_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, std::array<char*, 3ul>", "TraceLens inference/xdit_flux.1"),
    ("void at::native::unrolled_elementwise_kernel<at::native::CUDAFunctorOnSelf_add<float>, std::array<char *, (unsigned long)2>", "nsys-ai tests/fixtures/mfu_2gpu_after"),
    ("void (anonymous namespace)::elementwise_kernel_with_index<int, at::native::arange_cuda_out(c10::Scalar const&)", "HolisticTraceAnalysis"),
    ("void at::native::(anonymous namespace)::distribution_elementwise_grid_stride_kernel<float, 4, at::native::templates::cuda::normal_and_transform<c10::BFloat16", "TraceLens inference/xdit_flux.1"),
    ("void vllm::rotary_embedding_kernel<c10::BFloat16, true>(long const*, c10::BFloat16*)", "TraceLens inference/vllm_decode_full"),
    ("_ZN7sgl_hip10activation18act_and_mul_kernelI14__hip_bfloat16TnPFT_RKS3_EXadL_Z4siluIS2_ES3_S5_EEEEvPS3_PS4_i", "TraceLens inference/sglang_decode"),
    ("void flashinfer::activation::act_and_mul_kernel<__nv_bfloat16, &(silu(float const&))>", "SGLang prefill profile, H100"),
    ("void tensorrt_llm::kernels::quantize_with_block_size<(tensorrt_llm::BlockScaleQuantizationType)2, __nv_bfloat16, 32, true>(int, int, flashinfer::QuantizationSFLayout)", "TraceLens b200/eager_trace"),
    ("void per_token_group_quant_8bit_kernel<__nv_bfloat16, c10::Float8_e4m3fn, false>", "SGLang prefill profile, H100"),
    ("void kDequantizeBlockwise<half, 512, 64, 8, FP4>", "bitsandbytes csrc/kernels.cu"),
    ("SubTensorOpWithScalar1d", "TraceLens inference/xdit_flux.1 (MIOpen)"),
    ("__amd_rocclr_fillBufferUnAligned", "ROCm's runtime"),
    ("triton_poi_fused__scaled_dot_product_flash_attention_cat_transpose_view_10", "TraceLens inference/xdit_sd_3.5"),
    ("triton_poi_fused__to_copy_add_cat_fmha_v3_fwd_mul_neg_stack_unbind_unsqueeze_view_13", "TraceLens inference/xdit_flux.1"),
]  # fmt: skip

COPY = [
    ("void at::native::elementwise_kernel<(int)128, (int)2, void at::native::gpu_kernel_impl_nocast<at::native::direct_copy_kernel_cuda(at::TensorIteratorBase &)", "nsys-ai tests/fixtures/mfu_2gpu_after"),
    ("void at::native::<unnamed>::CatArrayBatchedCopy_vectorized<at::native::<unnamed>::OpaqueType<(unsigned int)2>, unsigned int, (int)1>", "nsys-ai tests/fixtures/mfu_2gpu_after"),
    ("at::native::detail::split_with_sizes_copy_out_contiguous_no_cast_kernel(char **, char **)", "Nsight Systems profile, FSDP 2"),
    ("void vllm::reshape_and_cache_flash_kernel<__nv_bfloat16, unsigned char, (vllm::Fp8KVCacheDataType)1>", "TraceLens b200/eager_trace"),
    ("void (anonymous namespace)::store_kvcache<2048l, 4, false, long>((anonymous namespace)::StoreKVCacheParams)", "TraceLens inference/sglang_decode"),
    ("__amd_rocclr_copyBuffer", "ROCm's runtime"),
]  # fmt: skip

OTHER = [
    ("void at::native::(anonymous namespace)::max_pool_forward_nchw<float, float>(int, float const*)", "kineto tb_plugin/samples"),
    ("void at::native::(anonymous namespace)::upsample_nearest1d_out_frame<c10::BFloat16, &at::native::nearest_neighbor_compute_source_index>", "TraceLens h100/facebook_timesformer"),
    ("void fbgemm_gpu::_offsets_range_cuda_kernel<int>(long, long, int const*, int*)", "HolisticTraceAnalysis (FBGEMM)"),
    ("_chunk_state_fwd_kernel", "Nsight Systems profile, Mamba 2"),
    ("triton__0d1d2d3d", "HolisticTraceAnalysis (inductor without unique names)"),
]  # fmt: skip

NAMES: list[tuple[Class, list[tuple[str, str]]]] = [
    ("communication", COMMUNICATION), ("attention", ATTENTION), ("convolution", CONVOLUTION), ("gemm", GEMM), ("softmax", SOFTMAX),
    ("normalisation", NORMALISATION), ("optimizer", OPTIMIZER), ("layout", LAYOUT), ("embedding", EMBEDDING), ("reduction", REDUCTION),
    ("elementwise", ELEMENTWISE), ("copy", COPY), ("other", OTHER),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind"),
    [pytest.param(name, kind, id=f"{kind}-{name[:60]}") for kind, rows in NAMES for name, _ in rows],
)
def test_a_real_kernel_has_its_class(name: str, kind: Class) -> None:
    assert kernel_class(name) == kind
    assert is_communication(name) == (kind == "communication")


def test_the_operations_that_inductor_fused_do_not_make_a_kernel_communicate() -> None:
    assert not is_communication("triton_poi_fused_all_reduce_wait_tensor_0")
    assert kernel_class("triton_poi_fused_all_reduce_wait_tensor_0") == "elementwise"
    assert not is_communication("small_reduce_kernel")


@pytest.mark.parametrize(
    "name",
    [
        "ampere_sgemm_128x64_nn", "volta_scudnn_128x64_relu_interior_nn_v1", "sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize32x64x8_stage3_warpsize1x2x1_ffma_aligna4",
        "void cutlass::Kernel2<cutlass_80_simt_sgemm_128x32_8x5_nn_align1>(Params)", "Cijk_Ailk_Bljk_SB_MT32x32x8_SN_EPS0_K1_LPB4_LRVW4_PGR0_PLR0_SVW4_TT4_4_VW4",
        "cutlass3x_sm100_simt_sgemm_f32_f32_f32_f32_f32_128x64x16_1x1x1_3_tnn_align1_bias_f32_relu",
        "void cudnn::cnn::wgrad_alg0_engine<float, 128, 6, 7, 3, 3, 5, false, 512>(int)",
    ],
)  # fmt: skip
def test_these_products_run_on_the_fp32_units(name: str) -> None:
    assert is_fp32_product(name)


@pytest.mark.parametrize(
    "name",
    [
        # TF32, bf16, and AMD's matrix cores (MI16x16x1, gtcx), which take fp32 operands themselves
        "void cutlass::Kernel<cutlass_80_tensorop_s1688gemm_128x64_16x6_tn_align4>(Params)", "nvjet_tst_192x8_64x8_4x1_v_bz_TNT",
        "sm80_xmma_fprop_implicit_gemm_indexed_tf32f32_tf32f32_f32_nhwckrsc_nchw_tilesize128x128x16_stage4",
        "Cijk_Alik_Bljk_S_B_Bias_HA_S_SAV_UserArgs_MT32x64x128_MI16x16x1_SN_LDSB1_AFC1_AF", "igemm_fwd_gtcx_nhwc_fp32_bx0_ex0_bt128x128x32",
        # products with a vector are bound by memory
        "void gemv2T_kernel_val<int, int, float, float, float, float, 128, 16, 2, 2, false, false, cublasGemvParams<",
        "std::enable_if<!(false), void>::type internal::gemvx::kernel<int, int, float, float, float, float, false, true>",
    ],
)  # fmt: skip
def test_these_products_cannot_be_moved_off_the_fp32_units(name: str) -> None:
    assert not is_fp32_product(name)


def test_only_kernels_for_tensor_cores_have_unaligned_operands() -> None:
    assert is_unaligned("void cutlass::Kernel2<cutlass_75_tensorop_bf16_s1688gemm_bf16_128x128_nn_align1>(Params)")
    assert is_unaligned(
        "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_bf16_256x128_64x3_tn_align2>(Params)"
    )
    assert is_unaligned("cutlass_80_tensorop_bf16_s16816gemm_bf16_64x64_32x6_tn_align1_bias")
    assert not is_unaligned(
        "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_bf16_64x64_64x6_tn_align8>(Params)"
    )
    assert not is_unaligned("cutlass_80_tensorop_i16832gemm_s8_256x128_64x3_tn_align16")
    assert not is_unaligned("void cutlass::Kernel2<cutlass_80_simt_sgemm_128x32_8x5_nn_align1>(Params)")
    assert not is_unaligned("void cutlass::Kernel<cutlass_80_tensorop_d884gemm_32x32_16x5_nn_align1>(Params)")
