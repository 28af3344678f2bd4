import json, sys
import openai
from openai import OpenAI

client = OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=120)
texts = ["A cat sits on the mat.", "A kitten is on the rug.", "Shares fell on Monday."]
# The SDK asks for base64 and decodes it, unless it is told a format.
embedded = client.embeddings.create(model="smollm2", input=texts)
floats = client.embeddings.create(model="smollm2", input=texts, encoding_format="float")
one, two, three = [entry.embedding for entry in embedded.data]
dot = lambda left, right: sum(a * b for a, b in zip(left, right))
same = max(abs(a - b) for a, b in zip(one, floats.data[0].embedding))
faults = []
for attempt in [
    lambda: client.embeddings.create(model="smollm2", input="x", dimensions=8),
    lambda: client.chat.completions.create(model="smollm2", messages=[{"role": "user", "content": "Hi"}]),
]:
    try:
        attempt()
    except openai.APIStatusError as error:
        faults.append([type(error).__name__, error.param])
print(json.dumps({
    "width": len(one), "close": dot(one, two) > 0.5 > 0.2 > dot(one, three), "formats": same < 1e-6,
    "usage": embedded.usage.prompt_tokens == floats.usage.total_tokens > 0, "faults": faults,
}))
