//! What the parts of a model are called in the files of each family.

/// Names of a model's tensors without `.weight` and `.bias`.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) embedding: String,
    pub(super) output: String,
    pub(super) output_norm: String,
    /// What a layer's number stands behind.
    pub(super) layers: String,
    pub(super) parts: Parts,
    /// What is added to the weights of norms: some files hold the distance from 1.
    pub(super) norm_offset: f32,
}

/// Names of a layer's parts; `None` where the family has none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    pub(super) attention_norm: &'static str,
    pub(super) query: &'static str,
    pub(super) key: &'static str,
    pub(super) value: &'static str,
    pub(super) query_norm: &'static str,
    pub(super) key_norm: &'static str,
    pub(super) attention_output: &'static str,
    pub(super) attention_post_norm: Option<&'static str>,
    pub(super) feed_forward_norm: &'static str,
    pub(super) gate: &'static str,
    pub(super) up: &'static str,
    pub(super) down: &'static str,
    pub(super) feed_forward_post_norm: Option<&'static str>,
}

const GGUF: Parts = Parts {
    attention_norm: "attn_norm",
    query: "attn_q",
    key: "attn_k",
    value: "attn_v",
    query_norm: "attn_q_norm",
    key_norm: "attn_k_norm",
    attention_output: "attn_output",
    attention_post_norm: Some("post_attention_norm"),
    feed_forward_norm: "ffn_norm",
    gate: "ffn_gate",
    up: "ffn_up",
    down: "ffn_down",
    feed_forward_post_norm: Some("post_ffw_norm"),
};

const SAFETENSORS: Parts = Parts {
    attention_norm: "input_layernorm",
    query: "self_attn.q_proj",
    key: "self_attn.k_proj",
    value: "self_attn.v_proj",
    query_norm: "self_attn.q_norm",
    key_norm: "self_attn.k_norm",
    attention_output: "self_attn.o_proj",
    attention_post_norm: None,
    feed_forward_norm: "post_attention_layernorm",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    down: "mlp.down_proj",
    feed_forward_post_norm: None,
};

/// With a norm on both sides of attention and feed-forward layer.
const SAFETENSORS_SANDWICH: Parts = Parts {
    attention_post_norm: Some("post_attention_layernorm"),
    feed_forward_norm: "pre_feedforward_layernorm",
    feed_forward_post_norm: Some("post_feedforward_layernorm"),
    ..SAFETENSORS
};

/// What stands before a text model's tensors, alone and inside of models that see images too.
const PREFIXES: [&str; 4] = [
    "model.",
    "",
    "model.language_model.",
    "language_model.model.",
];

impl Names {
    pub(super) fn gguf() -> Self {
        Self {
            embedding: "token_embd".to_owned(),
            output: "output".to_owned(),
            output_norm: "output_norm".to_owned(),
            layers: "blk.".to_owned(),
            parts: GGUF,
            norm_offset: 0.0,
        }
    }

    /// The names in a safetensors file; `contains` says whether it has a tensor.
    pub(super) fn safetensors(is_gemma: bool, contains: impl Fn(&str) -> bool) -> Self {
        let prefix = PREFIXES
            .into_iter()
            .find(|prefix| contains(&format!("{prefix}embed_tokens.weight")))
            .unwrap_or(PREFIXES[0]);
        let output = ["lm_head", "language_model.lm_head", "model.lm_head"]
            .into_iter()
            .find(|name| contains(&format!("{name}.weight")))
            .unwrap_or("lm_head");
        Self {
            embedding: format!("{prefix}embed_tokens"),
            output: output.to_owned(),
            output_norm: format!("{prefix}norm"),
            layers: format!("{prefix}layers."),
            parts: if is_gemma {
                SAFETENSORS_SANDWICH
            } else {
                SAFETENSORS
            },
            norm_offset: if is_gemma { 1.0 } else { 0.0 },
        }
    }
}
