import json, sys, anthropic, openai
url = sys.argv[1]
messages = [{"role": "user", "content": "Hi"}]
seen = []
for kind, attempt in [
    (openai.APIStatusError, lambda: openai.OpenAI(base_url=url, api_key="none", max_retries=0).chat.completions.create(
        model="smollm2", messages=messages)),
    (anthropic.APIStatusError, lambda: anthropic.Anthropic(base_url=url.removesuffix("/v1"), api_key="none", max_retries=0).messages.create(
        model="smollm2", messages=messages, max_tokens=4)),
]:
    try:
        attempt()
    except kind as error:
        seen.append([type(error).__name__, error.status_code, "retry-after" in error.response.headers])
print(json.dumps(seen))
