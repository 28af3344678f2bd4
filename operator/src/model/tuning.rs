//! What a Model says about computing, as the engine's flags.

use crds::model::{
    Adapter, AdapterSource, Arithmetic, Native, Quantization, ToolCallFormat, WeightFormat,
};

use super::validate::NativeEngine;

/// The flags of an engine that are not about where it is and what it serves.
pub(super) fn tuning(engine: &NativeEngine) -> Vec<String> {
    let Native {
        kv_cache,
        host_cache,
        kv_events,
        arithmetic,
        step_tokens,
        tool_call_format,
        reasoning_tag,
        speculative_ngram,
    } = &engine.native;
    let mut flags = Vec::new();
    let mut add = |flag: &str, value: Option<String>| {
        flags.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
    };
    let quantize = engine.quantization.as_ref().map(quantize);
    add("--quantize", quantize.map(str::to_owned));
    add(
        "--arithmetic",
        arithmetic.map(|kind| arithmetic_name(kind).to_owned()),
    );
    add("--kv-cache-mib", kv_cache.as_deref().and_then(mebibytes));
    add(
        "--host-cache-mib",
        host_cache.as_deref().and_then(mebibytes),
    );
    add(
        "--step-tokens",
        step_tokens.map(|tokens| tokens.to_string()),
    );
    add(
        "--tool-call-format",
        tool_call_format.map(|kind| format_name(kind).to_owned()),
    );
    add("--reasoning-tag", reasoning_tag.clone());
    add(
        "--speculative-ngram",
        speculative_ngram.map(|tokens| tokens.to_string()),
    );
    for adapter in &engine.adapters {
        add("--lora", Some(lora(adapter)));
    }
    if *kv_events {
        flags.push("--kv-events".to_owned());
    }
    flags
}

const fn quantize(quantization: &Quantization) -> &'static str {
    match quantization.weights {
        WeightFormat::Int8 => "q8",
        WeightFormat::Int4 => "q4",
    }
}

const fn arithmetic_name(arithmetic: Arithmetic) -> &'static str {
    match arithmetic {
        Arithmetic::Int8 => "int8",
        Arithmetic::F32 => "f32",
    }
}

const fn format_name(format: ToolCallFormat) -> &'static str {
    match format {
        ToolCallFormat::Hermes => "hermes",
        ToolCallFormat::Llama3Json => "llama3-json",
        ToolCallFormat::Mistral => "mistral",
        ToolCallFormat::Pythonic => "pythonic",
    }
}

/// `NAME=SOURCE`, with the digest in the source's fragment.
fn lora(adapter: &Adapter) -> String {
    let Adapter { name, source } = adapter;
    let AdapterSource { uri, sha256 } = source;
    match sha256 {
        Some(sha256) => format!("{name}={uri}#sha256={sha256}"),
        None => format!("{name}={uri}"),
    }
}

/// A quantity in MiB; the schema allows only whole Mi and Gi.
fn mebibytes(quantity: &str) -> Option<String> {
    let (number, factor) = match quantity.strip_suffix("Gi") {
        Some(number) => (number, 1024),
        None => (quantity.strip_suffix("Mi")?, 1),
    };
    let number: u64 = number.parse().ok()?;
    Some(number.checked_mul(factor)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::mebibytes;

    #[test]
    fn quantities_become_mebibytes() {
        for (quantity, expected) in [
            ("512Mi", Some("512")),
            ("2Gi", Some("2048")),
            ("2G", None),
            ("Gi", None),
            ("99999999999999999999Gi", None),
        ] {
            assert_eq!(mebibytes(quantity).as_deref(), expected, "{quantity}");
        }
    }
}
