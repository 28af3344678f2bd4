"""Records what a reference implementation answers, for the tests of engine-models.

    python -m venv venv && venv/bin/pip install torch==2.13.0 'transformers>=5.16.1,<5.20' gguf
    venv/bin/python reference.py greedy MODEL.gguf > NAME.json
    venv/bin/python reference.py quant > quant.json

`greedy`: transformers on the weights dequantized to 32-bit floats by the gguf package.
`quant`: blocks of random bytes and the numbers that the gguf package makes of them.
"""
import hashlib, importlib.metadata as meta, json, os, platform, random, sys

CHATS = [
    ["What is the capital of France?"],
    ["Write one sentence about the sea."],
    ["List three colours.", "Red, green and blue.", "Now list three animals, one a line."],
    ["Say hello in German, please: äöü 🙂 \"quoted\" 12345."],
    ["How many days has a week?"],
    ["Explain in two sentences why the sky is blue."],
    ["Write a Python function that adds two numbers."],
    ["Who wrote Romeo and Juliet?"],
    ["Give me a recipe for pancakes."],
    ["Translate to French: good morning"],
    ["My name is Ada.", "Nice to meet you, Ada.", "What is my name?"],
    ["Name the planets."],
]
TEXTS = [
    "The capital of France is",
    "def fibonacci(n):\n    if n < 2:\n        return n\n",
    "Once upon a time, there was a little girl who",
    "Water boils at a temperature of",
    "SELECT name, age FROM people WHERE",
    "1, 2, 4, 8, 16,",
    "The three primary colours are",
    "Dear Sir or Madam,\n\n",
    "# Installation\n\nFirst,",
    "fn main() {\n    let mut sum = 0;",
    "In 1969, the first man",
    "<html>\n<head>",
    "To be, or not to be,",
    "Er sagte, dass",
    "La ville de Paris est",
    "import numpy as np\n",
    "The mitochondria is the",
    "Q: What is 7 times 8?\nA:",
    "It was a dark and stormy night;",
    "{\"name\": \"Ada\", \"born\":",
    "The quick brown fox",
]
TOKENIZE = [
    "", " ", "  two  spaces  ", "line\n\nbreaks\r\n\ttab", "don't can't I'll we've it's",
    "numbers 0 12 345 6789 3.14", "äöü ÄÖÜ ß é 日本語 한국어 العربية עברית हिन्दी ไทย", "🙂👩‍👩‍👧‍👦🏳️‍🌈",
    "<|im_start|>user\nhi<|im_end|>", "<start_of_turn>user\nhi<end_of_turn>", "a<b>c</b>",
    "snake_case camelCase kebab-case", "x" * 100, "\u00a0nbsp\u2003em", "a\u0301 combining", "\x00\x01\x7f", "…—“quotes”",
    "if (a && b) { return a[0]->x; } // 100%", "   leading", "trailing   ", "\n", "\t\t", "1st 2nd 3rd", "É́̂", "a \n b",
]

def provenance(path):
    digest = hashlib.sha256(open(path, "rb").read()).hexdigest()
    return dict(file=os.path.basename(path), sha256=digest, python=platform.python_version(),
                **{name: meta.version(name) for name in ("torch", "transformers", "gguf")},
                command="reference.py " + " ".join([sys.argv[1], os.path.basename(path)]))

def greedy(path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    torch.set_num_threads(2)
    folder, name = os.path.split(os.path.abspath(path))
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
    from gguf import GGUFReader
    field = GGUFReader(path).get_field("tokenizer.ggml.add_bos_token")
    # The converted tokenizer forgets the flag; the model was trained with the token in front.
    begin = [tokenizer.bos_token_id] if field and field.contents() else []
    encode = lambda text: begin + tokenizer(text, add_special_tokens=False)["input_ids"]
    cases = []
    def record(kind, prompt, ids, tokens):
        ids = torch.tensor([ids])
        with torch.no_grad():
            logits = model(ids).logits[0, -1]
            out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False)[0, ids.shape[1]:].tolist()
        top = torch.topk(torch.log_softmax(logits, -1), 5)
        cases.append(dict(kind=kind, prompt=prompt, prompt_ids=ids[0].tolist(), output_ids=out, text=tokenizer.decode(out, skip_special_tokens=True),
                          top=[[int(i), round(float(v), 4)] for i, v in zip(top.indices, top.values)]))
    if tokenizer.chat_template:
        for chat in CHATS:
            messages = [dict(role=("user", "assistant")[i % 2], content=text) for i, text in enumerate(chat)]
            text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            record("chat", chat, tokenizer(text, add_special_tokens=False)["input_ids"], 48)
            cases[-1]["rendered"] = text
    for text in TEXTS:
        record("text", text, encode(text), 32)
    long = " ".join(f"{i}: the quick brown fox jumps over the lazy dog." for i in range(45))
    record("text", long, encode(long), 24)
    tokens = [dict(text=text, ids=encode(text)) for text in TOKENIZE]
    return dict(provenance=provenance(path), cases=cases, tokenization=tokens)

def quant():
    import numpy
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Kind
    from gguf.quants import dequantize
    random.seed(7)
    kinds = []
    for kind in (Kind.F32, Kind.F16, Kind.BF16, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K):
        length, size = GGML_QUANT_SIZES[kind]
        blocks = max(2, 8 // length)
        while True:
            data = numpy.frombuffer(random.randbytes(blocks * size), dtype=numpy.uint8)
            typed = {Kind.F32: numpy.float32, Kind.F16: numpy.float16}.get(kind)
            out = dequantize(data.view(typed) if typed else data, kind).astype(numpy.float32)
            if numpy.isfinite(out).all() and (abs(out) < 65000).all(): break
        kinds.append(dict(name=kind.name, ggml=int(kind), bytes=data.tolist(), bits=out.reshape(-1).view(numpy.uint32).tolist()))
    return dict(provenance=dict(gguf=meta.version("gguf"), numpy=meta.version("numpy"), command="reference.py quant"), kinds=kinds)

result = quant() if sys.argv[1] == "quant" else greedy(sys.argv[2])
print(json.dumps(result, ensure_ascii=True, separators=(",", ":")))
