//! Claims about configurations, above all absurd ones.

use serde_json::{Value, json};

use super::{ModelConfig, Positions};
use crate::config::Activation;

fn llama() -> Value {
    json!({
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "vocab_size": 100,
    })
}

fn with(changes: Value) -> Result<ModelConfig, String> {
    let mut config = llama();
    let changes = serde_json::from_value::<serde_json::Map<_, _>>(changes).unwrap();
    config.as_object_mut().unwrap().extend(changes);
    ModelConfig::from_json(&config).map_err(|error| error.to_string())
}

#[track_caller]
fn check_refused(changes: Value, expected: &str) {
    assert_eq!(with(changes).unwrap_err(), expected);
}

#[test]
fn absurd_configurations_are_refused_with_the_field() {
    let inconsistent = |what: &str| format!("the weights are inconsistent: {what}");
    for (changes, expected) in [
        (
            json!({"num_attention_heads": 0}),
            "num_attention_heads is 0, which is not 1 to 1024",
        ),
        (
            json!({"hidden_size": -1}),
            "hidden_size is -1, which is not 1 to 131072",
        ),
        (
            json!({"hidden_size": 1e99}),
            "hidden_size is 1e+99, which is not 1 to 131072",
        ),
        (
            json!({"num_hidden_layers": 4_000_000_000_u64}),
            "num_hidden_layers is 4000000000, which is not 1 to 1024",
        ),
        (json!({"vocab_size": null}), "vocab_size is missing"),
        (
            json!({"intermediate_size": "big"}),
            "intermediate_size is \"big\", which is not 1 to 131072",
        ),
        (json!({"hidden_size": 2}), "head_dim would be 0"),
        (
            json!({"num_key_value_heads": 3}),
            "the query heads are not shared evenly",
        ),
        (json!({"head_dim": 131_072}), "the heads are too wide"),
        (
            json!({"head_dim": 15}),
            "an odd number of a head's numbers rotates",
        ),
        (
            json!({"partial_rotary_factor": 0.0}),
            "more of a head rotates than there is",
        ),
        (
            json!({"rms_norm_eps": 7}),
            "the epsilon of the norms is not small",
        ),
        (
            json!({"rope_theta": 0}),
            "the base of the positions is not a number over 1",
        ),
        (
            json!({"rope_theta": "x"}),
            "rope_theta is \"x\", which is not a number",
        ),
        (
            json!({"rope_scaling": []}),
            "the parameters of positions are not an object",
        ),
        (
            json!({"rope_scaling": {"type": "linear", "factor": 0}}),
            "factor of the positions is missing",
        ),
        (
            json!({"layer_types": ["full_attention"]}),
            "layer_types does not name each layer",
        ),
    ] {
        check_refused(changes, &inconsistent(expected));
    }
}

#[test]
fn what_would_give_wrong_numbers_is_refused() {
    let uses = |what: &str| format!("the model uses {what}, which is not supported");
    for (changes, expected) in [
        (json!({"hidden_act": "relu"}), "the activation relu"),
        (
            json!({"rope_scaling": {"type": "dynamic", "factor": 2}}),
            "rope scaling of type dynamic",
        ),
        (
            json!({"layer_types": ["linear_attention", "full_attention"]}),
            "layers of type \"linear_attention\"",
        ),
        (
            json!({"quantization_config": {"quant_method": "awq"}}),
            "weights quantized by awq",
        ),
        (
            json!({"attn_logit_softcapping": 50.0}),
            "soft-capped attention",
        ),
        (json!({"num_experts": 8}), "mixture of experts"),
    ] {
        check_refused(changes, &uses(expected));
    }
    check_refused(
        json!({"model_type": "mamba"}),
        "architecture \"mamba\" is not supported; llama, mistral, qwen2, qwen3, gemma3, smollm3 and bert are",
    );
}

#[test]
fn gemma3_leaves_much_out() {
    let text = json!({
        "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    });
    let config =
        ModelConfig::from_json(&json!({"model_type": "gemma3", "text_config": text})).unwrap();
    assert_eq!(
        (
            config.heads,
            config.key_value_heads,
            config.head_width,
            config.vocabulary
        ),
        (8, 4, 256, 262_208)
    );
    assert_eq!((config.rope_base, config.rope_scale), (1e6, 8.0));
    assert_eq!(config.attention_scale, 1.0 / 16.0);
    assert_eq!(config.activation, Activation::Gelu);
    assert_eq!(config.window_of(5), None);
    assert_eq!(config.positions_of(5), Positions::Global);
    let window = config.window_of(4).unwrap();
    assert_eq!((window.length, window.rope_base), (1024, 1e4));
    assert_eq!(config.positions_of(4), Positions::Local);
}

#[test]
fn windows_and_positions_are_chosen_by_layer() {
    let kinds = |changes: Value| -> Vec<_> {
        let config = with(changes).unwrap();
        (0..config.layers)
            .map(|layer| {
                (
                    config.window_of(layer).map(|window| window.length),
                    config.positions_of(layer),
                )
            })
            .collect()
    };
    let (plain, global) = ((None, Positions::Global), Positions::Global);
    assert_eq!(
        kinds(json!({"sliding_window": 8})),
        [plain; 2],
        "llama has no windows"
    );
    let mistral = |window: Value| kinds(json!({"model_type": "mistral", "sliding_window": window}));
    assert_eq!(mistral(json!(8)), [(Some(8), global); 2]);
    assert_eq!(mistral(json!(null)), [plain; 2]);
    let qwen = |is_on: bool| {
        kinds(json!({
            "model_type": "qwen2", "sliding_window": 8, "use_sliding_window": is_on, "max_window_layers": 1
        }))
    };
    assert_eq!(qwen(false), [plain; 2]);
    assert_eq!(qwen(true), [plain, (Some(8), global)]);
    let smollm3 = kinds(json!({"model_type": "smollm3", "num_hidden_layers": 4}));
    assert_eq!(smollm3, [plain, plain, plain, (None, Positions::None)]);
}
