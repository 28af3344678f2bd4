import json, sys
import anthropic
from anthropic import Anthropic

url = sys.argv[1].removesuffix("/v1")
client = Anthropic(base_url=url, api_key="none", max_retries=0, timeout=120)
messages = [{"role": "user", "content": "What is the capital of France?"}]
ask = dict(model="smollm2", messages=messages, extra_body={"temperature": 0}, max_tokens=32)
seen = {}
whole = client.messages.create(**ask)
seen["whole"] = [whole.content[0].text, whole.stop_reason]
with client.messages.stream(**ask) as stream:
    seen["pieces"] = "".join(stream.text_stream)
    final = stream.get_final_message()
seen["final"] = [final.content[0].text, final.stop_reason, final.usage.output_tokens == whole.usage.output_tokens]
seen["counted"] = client.messages.count_tokens(model="smollm2", messages=messages).input_tokens
seen["prompt"] = whole.usage.input_tokens + whole.usage.cache_read_input_tokens
stopped = client.messages.create(**ask, stop_sequences=["Paris"])
seen["stopped"] = [stopped.stop_reason, stopped.stop_sequence]
tool = {"name": "weather", "description": "Tells the weather of a city.", "input_schema": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}}
asked = [{"role": "user", "content": "How is the weather in Paris?"}]
for name, choice in {"any": {"type": "any"}, "tool": {"type": "tool", "name": "weather"}}.items():
    used = client.messages.create(model="smollm2", messages=asked, tools=[tool], extra_body={"temperature": 0}, max_tokens=200,
                                  tool_choice={**choice, "disable_parallel_tool_use": True})
    block = used.content[-1]
    seen[name] = [used.stop_reason, block.type, block.name, isinstance(block.input["city"], str)]
with client.messages.stream(model="smollm2", messages=asked, tools=[tool], extra_body={"temperature": 0}, max_tokens=200,
                            tool_choice={"type": "any", "disable_parallel_tool_use": True}) as stream:
    seen["streamed use"] = stream.get_final_message().content[-1].input == used.content[-1].input
result = {"type": "tool_result", "tool_use_id": block.id, "content": "Sunny, 20 degrees."}
after = client.messages.create(model="smollm2", extra_body={"temperature": 0}, max_tokens=16, tools=[tool], messages=[
    *asked, {"role": "assistant", "content": used.content}, {"role": "user", "content": [result]}])
seen["after"] = after.content[0].type
seen["faults"] = {}
for name, attempt in {
    "bad value": lambda: client.messages.create(**{**ask, "extra_body": {"temperature": 9}}),
    "unknown model": lambda: client.messages.create(**{**ask, "model": "nobody"}),
    "too large": lambda: client.messages.create(**{**ask, "messages": [{"role": "user", "content": "x" * (9 << 20)}]}),
}.items():
    try:
        attempt()
        seen["faults"][name] = "no fault"
    except anthropic.APIStatusError as error:
        seen["faults"][name] = [type(error).__name__, error.status_code, error.body["error"]["type"]]
print(json.dumps(seen))
