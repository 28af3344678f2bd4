//! scratch
fn main() {
    for f in ["target/weights/smollm2-hf/tokenizer.json", "target/weights/gemma3-tokenizer/tokenizer.json"] {
        let bytes = std::fs::read(f).unwrap();
        let t = std::time::Instant::now();
        let tok = tokenizers::Tokenizer::from_bytes(&bytes).unwrap();
        let e = t.elapsed();
        let n = tok.encode("hello world, it's me", true).unwrap().get_ids().len();
        let t = std::time::Instant::now();
        let v: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        eprintln!("{f} {e:?} {n}; value {:?} {}", t.elapsed(), v.is_object());
    }
    for f in ["target/weights/SmolLM2-135M-Instruct.Q4_1.gguf", "target/weights/gemma-3-270m-q4_k_m.gguf"] {
        for _ in 0..2 {
        let t = std::time::Instant::now();
        let g = engine_models::GgufFile::open(std::path::Path::new(f)).unwrap();
        let a = t.elapsed();
        let l = engine_models::Loaded::open(std::path::Path::new(f)).unwrap();
        eprintln!("{f} gguf {a:?} all {:?} {}", t.elapsed() - a, l.parameters + g.size());
        }
    }
}
