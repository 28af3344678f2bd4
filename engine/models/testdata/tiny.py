"""Writes tiny checkpoints of each architecture with random weights, and what a reference implementation answers.

    python -m venv venv && venv/bin/pip install torch==2.13.0 'transformers>=5.16.1,<5.20'
    venv/bin/python tiny.py architectures/

Each folder has config.json, model.safetensors (BF16: small, and exact in both implementations) and expected.json: the
logits behind the last token of a prompt, computed with 32-bit floats.
"""
import importlib.metadata as meta, json, os, platform, sys
import torch
from safetensors.torch import save_file
from transformers import (Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM,
                          Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM, SmolLM3Config, SmolLM3ForCausalLM)

SHAPE = dict(vocab_size=128, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0, attn_implementation="eager")
LENGTH = 48

def rope(kind, base=10000.0, **more):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=base, **more))

MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SHAPE, head_dim=12, rms_norm_eps=1e-5, tie_word_embeddings=False)),
    "llama-bias-tied": (LlamaForCausalLM, LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True, tie_word_embeddings=True)),
    "llama-linear": (LlamaForCausalLM, LlamaConfig(**SHAPE, **rope("linear", factor=4.0), tie_word_embeddings=True)),
    "llama-llama3": (LlamaForCausalLM, LlamaConfig(**SHAPE, **rope("llama3", base=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32), tie_word_embeddings=True)),
    "qwen2-yarn": (Qwen2ForCausalLM, Qwen2Config(**SHAPE, **rope("yarn", base=100.0, factor=4.0, original_max_position_embeddings=32), tie_word_embeddings=True)),
    "qwen2-window": (Qwen2ForCausalLM, Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=7, max_window_layers=1, tie_word_embeddings=True)),
    "mistral-window": (MistralForCausalLM, MistralConfig(**SHAPE, sliding_window=9, tie_word_embeddings=True)),
    "mistral": (MistralForCausalLM, MistralConfig(**SHAPE, sliding_window=None, head_dim=16, tie_word_embeddings=True)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**SHAPE, head_dim=16, tie_word_embeddings=True)),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig(**{**SHAPE, "num_hidden_layers": 3}, head_dim=16, query_pre_attn_scalar=21, sliding_window=8, sliding_window_pattern=3,
               rope_parameters=dict(full_attention=dict(rope_type="linear", rope_theta=1000.0, factor=8.0), sliding_attention=dict(rope_type="default", rope_theta=50.0)))),
    "smollm3": (SmolLM3ForCausalLM, SmolLM3Config(**{**SHAPE, "num_hidden_layers": 3}, no_rope_layer_interval=2, **rope("default", base=5000.0))),
}

def randomize(model):
    for name, weight in sorted(model.named_parameters()):
        if name.endswith("norm.weight"): weight.data = weight.data + torch.randn_like(weight) * 0.3
        elif name.endswith("bias"): weight.data = torch.randn_like(weight) * 0.5
        else: weight.data = torch.randn_like(weight) * 0.2
        weight.data = weight.data.to(torch.bfloat16).to(torch.float32)

def write(folder, kind, config):
    torch.manual_seed(11)
    os.makedirs(folder, exist_ok=True)
    model = kind(config).eval().to(torch.float32)
    randomize(model)
    tied = config.tie_word_embeddings
    tensors = {name: weight.to(torch.bfloat16).contiguous() for name, weight in model.state_dict().items() if not (tied and name == "lm_head.weight")}
    save_file(tensors, folder + "/model.safetensors", metadata={"format": "pt"})
    fields = {name: value for name, value in config.to_diff_dict().items() if value is not None and name not in ("attn_implementation", "transformers_version")}
    fields.update({name: getattr(config, name) for name in ("tie_word_embeddings", "hidden_size", "sliding_window") if hasattr(config, name)})
    if fields.get("sliding_window") is None and "mistral" not in folder: fields.pop("sliding_window", None)
    json.dump(fields, open(folder + "/config.json", "w"), indent=1, sort_keys=True)
    prompt = torch.randint(3, config.vocab_size, (1, LENGTH), generator=torch.Generator().manual_seed(5))
    with torch.no_grad(): logits = model(prompt).logits[0]
    provenance = {name: meta.version(name) for name in ("torch", "transformers", "safetensors")} | dict(python=platform.python_version(), command="tiny.py architectures/")
    json.dump(dict(provenance=provenance, prompt=prompt[0].tolist(), logits=[round(v, 5) for v in logits[-1].tolist()], best=logits.argmax(-1).tolist()),
              open(folder + "/expected.json", "w"), separators=(",", ":"))

for name, (kind, config) in MODELS.items():
    write(os.path.join(sys.argv[1], name), kind, config)
