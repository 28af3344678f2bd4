"""Trains a tiny tokenizer of each family and records what the `tokenizers` library makes of many texts.

    python -m venv venv && venv/bin/pip install tokenizers==0.23.3
    venv/bin/python tokenizers.py tokenizers/
"""
import importlib.metadata as meta, json, os, random, sys
sys.path.pop(0)  # this file has the library's name
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers, AddedToken

TEXTS = [
    "", " ", "  two  spaces  ", "line\n\nbreaks\r\n\ttab", "don't can't I'll we've it's DON'T",
    "numbers 0 12 345 6789 3.14", "äöü ÄÖÜ ß é 日本語 한국어 العربية עברית हिन्दी ไทย", "🙂👩‍👩‍👧‍👦🏳️‍🌈",
    "<s>user\nhi</s>", "<s> a <b> c </s> d<mask>e <mask> f", "snake_case camelCase kebab-case", "x" * 120, "\u00a0nbsp\u2003em",
    "a\u0301 combining É́̂", "\x00\x01\x7f\u200b\ufeff\ufffd", "…—“quotes”", "if (a && b) { return a[0]->x; } // 100%", "   leading",
    "trailing   ", "\n", "\t\t", "1st 2nd 3rd ½ Ⅷ ①", "ﬁ ﬀ Å Å ẛ̣", "the theatre\u2581the", "中文字符 mixed 漢字", "İstanbul ΑΣ ǅ",
]
CORPUS = ["the theatre of the theme is there, they said; other mothers gather together.", "don't we've it's I'll 123 4567 89 3.14 (a && b) { return x[0]; }",
          "Grüße aus Köln, à bientôt, mañana. The quick brown fox jumps over the lazy dog.", "snake_case camelCase kebab-case trailing   spaces"] * 20
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPECIAL = [AddedToken(text, normalized=False, special=True) for text in ("<unk>", "<s>", "</s>")]
BYTES = pre_tokenizers.ByteLevel.alphabet()

def train(model, trainer, normalizer=None, pre_tokenizer=None, decoder=None, frame=None, **more):
    tokenizer = Tokenizer(model)
    if normalizer: tokenizer.normalizer = normalizer
    if pre_tokenizer: tokenizer.pre_tokenizer = pre_tokenizer
    if decoder: tokenizer.decoder = decoder
    tokenizer.train_from_iterator(CORPUS, trainer(vocab_size=420, special_tokens=SPECIAL, show_progress=False, **more))
    tokenizer.add_tokens([AddedToken("<b>", normalized=True), AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False), AddedToken("the", single_word=True, normalized=False)])
    if frame: tokenizer.post_processor = processors.TemplateProcessing(single=frame, special_tokens=[("<s>", 1), ("</s>", 2)])
    return tokenizer

def with_bytes(tokenizer, **flags):
    """Adds SentencePiece's tokens of single bytes, which no trainer makes."""
    file = json.loads(tokenizer.to_str())
    vocab = file["model"]["vocab"]
    start = len(vocab) + len(file["added_tokens"])
    for byte in range(256): vocab[f"<0x{byte:02X}>"] = start + byte
    file["model"].update(byte_fallback=True, fuse_unk=True, **flags)
    return Tokenizer.from_str(json.dumps(file))

def build():
    sequence = pre_tokenizers.Sequence
    pieces = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    yield "gpt2", train(models.BPE(), trainers.BpeTrainer, None, pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel(), initial_alphabet=BYTES)
    yield "smollm", train(models.BPE(), trainers.BpeTrainer, None, sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=True)]), decoders.ByteLevel(), initial_alphabet=BYTES)
    yield "llama3", train(models.BPE(ignore_merges=True), trainers.BpeTrainer, None, sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]), decoders.ByteLevel(), "<s> $A", initial_alphabet=BYTES)
    yield "qwen", train(models.BPE(), trainers.BpeTrainer, normalizers.NFC(), sequence([pre_tokenizers.Split(Regex(LLAMA3.replace("{1,3}", "")), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]), decoders.ByteLevel(), initial_alphabet=BYTES)
    yield "llama2", with_bytes(train(models.BPE(unk_token="<unk>"), trainers.BpeTrainer, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None, pieces, "<s> $A"))
    yield "gemma", with_bytes(train(models.BPE(unk_token="<unk>"), trainers.BpeTrainer, normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous"), pieces, "<s> $A"))
    yield "mistral", train(models.BPE(unk_token="<unk>", fuse_unk=True), trainers.BpeTrainer, None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False), pieces, "<s> $A")
    yield "unigram", train(models.Unigram(), trainers.UnigramTrainer, normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]), pre_tokenizers.Metaspace(), decoders.Metaspace(), "$A </s>", unk_token="<unk>")
    yield "bert", train(models.WordPiece(unk_token="<unk>"), trainers.WordPieceTrainer, normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(), "<s> $A </s>")
    yield "whitespace", train(models.WordPiece(unk_token="<unk>"), trainers.WordPieceTrainer, normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip()]), sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation("contiguous")]), decoders.WordPiece())

random.seed(3)
LETTERS = list("abcdefghij THE the 0123 ' .,!?-_\n\t   é ü ß 日本 한 🙂 \u0301 \u00a0 ½ Ⅷ ① ﬁ Å▁") + ["<s>", "</s>", "<mask>", " the ", "<b>"]
texts = TEXTS + ["".join(random.choice(LETTERS) for _ in range(random.randint(1, 24))) for _ in range(60)]
os.makedirs(sys.argv[1], exist_ok=True)
expected = dict(provenance=dict(tokenizers=meta.version("tokenizers"), command="tokenizers.py tokenizers/"), texts=texts, ids={})
for name, tokenizer in build():
    tokenizer.save(os.path.join(sys.argv[1], name + ".json"), pretty=False)
    expected["ids"][name] = [tokenizer.encode(text).ids for text in texts]
json.dump(expected, open(os.path.join(sys.argv[1], "expected.json"), "w"), separators=(",", ":"))
