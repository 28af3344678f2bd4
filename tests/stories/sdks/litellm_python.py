import os

# Prices and windows come with the package: nothing is fetched.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
from seen import CITY, DATA_URL, KEY, ROOT, URL, WEATHER, note, plain, tell

litellm.telemetry = False
litellm.suppress_debug_info = True
user = lambda content: [{"role": "user", "content": content}]
openai = dict(model="openai/fluent", api_base=URL, api_key=KEY, num_retries=0, max_retries=0)
anthropic = dict(model="anthropic/fluent", api_base=ROOT, api_key=KEY, num_retries=0, max_retries=0)
tools = [{"type": "function", "function": {"name": "weather", "description": "Tells.", "parameters": WEATHER}},
         {"type": "function", "function": {"name": "city", "description": "Tells.", "parameters": CITY}}]
picture = user([{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": DATA_URL}}])
call = {"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Zürich","days":7}'}}
answered = [*user("weather?"), {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_0", "content": "sunny ☀"}]
schema = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": CITY}}


def bare(answer):
    """An answer without what LiteLLM makes by chance or by the clock for APIs that have no such field."""
    told = plain(answer)
    for name in ("created", "id"):
        told.pop(name, None)
    return told


for name, where in {"chat": openai, "message": anthropic}.items():
    def ask(text="Zürich ☕ and more", **more):
        return litellm.completion(messages=user(text) if isinstance(text, str) else text, **where, **more)
    note(name)(lambda: bare(ask()))
    note(f"{name} cut")(lambda: bare(ask(max_tokens=2)))
    note(f"{name} streamed")(lambda: [bare(piece) for piece in ask(stream=True, stream_options={"include_usage": True})])
    note(f"{name} with tools")(lambda: bare(ask(tools=tools)))
    note(f"{name} with tools streamed")(lambda: [bare(piece) for piece in ask(tools=tools, stream=True)])
    note(f"{name} after a tool")(lambda: bare(ask(answered, tools=tools)))
    note(f"{name} structured")(lambda: bare(ask(response_format=schema)))
    note(f"{name} of vision")(lambda: bare(ask(picture)))
    for status in (400, 404, 429, 500):
        # The address is in the text of some errors.
        note(f"{name} fault {status}", is_own=True)(lambda: ask(f"fail {status}"))
    note(f"{name} timeout", is_own=True)(lambda: ask("hang", timeout=0.5))
note("embeddings")(lambda: bare(litellm.embedding(input=["one", "two words"], **openai)))
note("response")(lambda: litellm.responses(input="Hi ☕", model="openai/fluent", api_base=URL, api_key=KEY).output)
note("wrong key", is_own=True)(lambda: litellm.completion(messages=user("Hi"), **{**openai, "api_key": "sk-wrong"}))
note("unknown model", is_own=True)(lambda: litellm.completion(messages=user("Hi"), **{**openai, "model": "openai/nobody"}))


@note("cancelled")
def _():
    stream = litellm.completion(messages=user("stall"), stream=True, **openai)
    pieces = [bare(next(stream)), bare(next(stream))]
    stream.completion_stream.close()
    return pieces


tell(left=3)
