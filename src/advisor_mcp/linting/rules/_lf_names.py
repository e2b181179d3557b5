"""What LLaMA-Factory ships: its chat templates by version and the data sets of its dataset_info.json."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# From llamafactory 0.9.1 to 0.9.5, data/template.py: the templates each version brought, and those that 0.9.5 took away.
TEMPLATES_SINCE: dict[str, frozenset[str]] = {
    "0.9.1": _words(
        "alpaca aquila atom baichuan baichuan2 belle bluelm breeze chatglm2 chatglm3 chatml chatml_de codegeex2 "
        "codegeex4 cohere cpm cpm3 custom dbrx deepseek deepseekcoder default empty exaone falcon fewshot gemma glm4 "
        "index intern intern2 llama2 llama2_zh llama3 llava llava_next llava_next_llama3 llava_next_mistral "
        "llava_next_qwen llava_next_video llava_next_video_mistral llava_next_video_yi llava_next_yi mistral mllama "
        "olmo openchat openchat-3.6 opencoder orion paligemma phi phi_small pixtral qwen qwen2_vl sailor solar starchat "
        "telechat vicuna video_llava xuanyuan xverse yayi yi yi_vl yuan zephyr ziya"
    ),
    "0.9.2": _words(
        "bailing deepseek3 granite3 marco minicpm_o minicpm_v ministral mistral_small moonlight paligemma_chat phi4 "
        "qwen2_audio skywork_o1 telechat2"
    ),
    "0.9.3": _words(
        "cpm4 deepseekr1 gemma3 glmz1 granite3_vision hunyuan intern_vl kimi_vl llama4 mimo mimo_vl qwen2_omni qwen3 "
        "seed_coder smollm smollm2"
    ),
    "0.9.4": _words(
        "bailing_v2 dots_ocr ernie ernie_nothink ernie_vl falcon_h1 gemma2 gemma3n glm4_5v glm4_moe glm4v gpt_oss "
        "granite4 intern_s1 keye_vl mimo_v2 minimax1 minimax2 ministral3 qwen3_nothink qwen3_omni qwen3_omni_nothink "
        "qwen3_vl qwen3_vl_nothink seed_oss"
    ),
    "0.9.5": _words(
        "aeva gemma4 gemma4n glm4_7 glm_ocr hunyuan_small hy3 lfm2 lfm2_vl minicpm_v_4_6 phi4_mini qwen3_5 "
        "qwen3_5_nothink qwen3_6 youtu youtu_vl"
    ),
    "0.9.6": _words("hy_dense_1_8b hy_dense_7b moss_vl"),  # hiyouga/LLaMA-Factory of August 2026
}
TEMPLATES_GONE = _words(
    "aquila atom baichuan baichuan2 belle bluelm chatglm2 codegeex2 codegeex4 cpm cpm3 intern marco orion "
    "skywork_o1 telechat xverse yayi ziya"
)  # with 0.9.5

# Templates with `efficient_eos`, which do not say where a prompt ends.
EFFICIENT_EOS = _words(
    "aeva bailing bailing_v2 breeze chatglm3 dots_ocr falcon fewshot gemma2 glm4 glm4_5v glm4_7 glm4_moe glm4v "
    "glm_ocr glmz1 gpt_oss index solar yi_vl"
)
# Templates that put images, videos or sound into the prompt.
MULTIMODAL = _words(
    "dots_ocr ernie_vl gemma3 gemma3n gemma4 gemma4n glm4_5v glm4v glm_ocr granite3_vision intern_s1 intern_vl "
    "keye_vl kimi_vl lfm2_vl llama4 llava llava_next llava_next_llama3 llava_next_mistral llava_next_qwen "
    "llava_next_video llava_next_video_mistral llava_next_video_yi llava_next_yi mimo_vl minicpm_o minicpm_v "
    "minicpm_v_4_6 ministral3 mistral_small mllama paligemma paligemma_chat pixtral qwen2_audio qwen2_omni qwen2_vl "
    "qwen3_5 qwen3_5_nothink qwen3_6 qwen3_omni qwen3_omni_nothink qwen3_vl qwen3_vl_nothink video_llava yi_vl "
    "youtu_vl"
)
# data/dataset_info.json at hiyouga/LLaMA-Factory@00577a8: data sets with one answer, with two to compare, and for KTO.
PLAIN = _words(
    "identity alpaca_en_demo alpaca_zh_demo glaive_toolcall_en_demo glaive_toolcall_zh_demo mllm_demo "
    "mllm_audio_demo mllm_video_demo mllm_video_audio_demo alpaca_en alpaca_zh alpaca_gpt4_en alpaca_gpt4_zh "
    "glaive_toolcall_en glaive_toolcall_zh lima guanaco belle_2m belle_1m belle_0.5m belle_dialog belle_math "
    "open_platypus codealpaca alpaca_cot openorca slimorca mathinstruct firefly wikiqa webqa webnovel nectar_sft "
    "deepctrl adgen_train adgen_eval sharegpt_hyper sharegpt4 ultrachat_200k infinity_instruct agent_instruct "
    "lmsys_chat evol_instruct glaive_toolcall_100k cosmopedia stem_zh ruozhiba_gpt4 neo_sft magpie_pro_300k "
    "magpie_ultra web_instruct openo1_sft open_thoughts open_r1_math chinese_r1_distill llava_1k_en llava_1k_zh "
    "llava_150k_en llava_150k_zh pokemon_cap mllm_pt_demo oasst_de dolly_15k_de alpaca-gpt4_de openschnabeltier_de "
    "evol_instruct_de dolphin_de booksum_de airoboros_de ultrachat_de dlr_web wiki_demo c4_demo refinedweb "
    "redpajama_v2 wikipedia_en wikipedia_zh pile skypile fineweb fineweb_edu cci3_hq cci3_data cci4_base cci4_cot "
    "cci4_extra the_stack starcoder_python"
)
RANKED = _words(
    "dpo_en_demo dpo_zh_demo dpo_mix_en dpo_mix_zh ultrafeedback coig_p rlhf_v vlfeedback rlaif_v orca_pairs "
    "nectar_rm orca_dpo_de"
)
TAGGED = _words("kto_en_demo kto_mix_en ultrafeedback_kto")
