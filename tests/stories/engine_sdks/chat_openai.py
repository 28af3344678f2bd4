import json, sys
import openai
from openai import OpenAI
from pydantic import BaseModel

url = sys.argv[1]
client = OpenAI(base_url=url, api_key="none", max_retries=0, timeout=120)
messages = [{"role": "user", "content": "What is the capital of France?"}]
ask = dict(model="smollm2", messages=messages, temperature=0, max_tokens=32)
seen = {}

whole = client.chat.completions.create(**ask, logprobs=True, top_logprobs=3)
seen["whole"] = whole.choices[0].message.content
seen["logprobs"] = [len(entry.top_logprobs) for entry in whole.choices[0].logprobs.content]
pieces, usage = [], None
for chunk in client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}):
    usage = chunk.usage or usage
    pieces += [choice.delta.content or "" for choice in chunk.choices]
seen["pieces"], seen["usage"] = "".join(pieces), [whole.usage.total_tokens, usage.total_tokens]

class Weather(BaseModel):
    """Tells the weather of a city."""
    city: str
    celsius: bool

tool = openai.pydantic_function_tool(Weather, name="weather")
asked = [{"role": "user", "content": "How is the weather in Paris?"}]
for name, choice in {"required": "required", "named": {"type": "function", "function": {"name": "weather"}}}.items():
    called = client.chat.completions.create(model="smollm2", messages=asked, tools=[tool], tool_choice=choice,
                                            parallel_tool_calls=False, temperature=0, max_tokens=200)
    call = called.choices[0].message.tool_calls[0]
    Weather.model_validate_json(call.function.arguments)
    seen[name] = [called.choices[0].finish_reason, call.function.name]
with client.chat.completions.stream(model="smollm2", messages=asked, tools=[tool], tool_choice="required",
                                    parallel_tool_calls=False, temperature=0, max_tokens=200) as stream:
    final = stream.get_final_completion()
seen["streamed call"] = final.choices[0].message.tool_calls[0].function.parsed_arguments.model_dump()

class City(BaseModel):
    name: str
    population: int
    is_capital: bool

parsed = client.chat.completions.parse(model="smollm2", messages=messages, response_format=City, temperature=0, max_tokens=200)
seen["parsed"] = isinstance(parsed.choices[0].message.parsed, City)
several = client.chat.completions.create(model="smollm2", messages=messages, n=2, temperature=1, seed=1, max_tokens=4)
seen["n"] = len(several.choices)
text = client.completions.create(model="smollm2", prompt="The capital of France is", temperature=0, max_tokens=4, logprobs=2)
seen["text"] = [text.choices[0].text, len(text.choices[0].logprobs.tokens)]

response = client.responses.create(model="smollm2", input="What is the capital of France?", temperature=0, max_output_tokens=32, store=False)
seen["response"] = [response.status, response.output_text]
kinds, text = [], ""
with client.responses.stream(model="smollm2", input="What is the capital of France?", temperature=0, max_output_tokens=32) as stream:
    for event in stream:
        kinds.append(event.type)
        text += event.delta if event.type == "response.output_text.delta" else ""
    seen["response stream"] = [kinds[0], kinds[-1], text, stream.get_final_response().output_text]
structured = client.responses.parse(model="smollm2", input="Describe Paris.", text_format=City, temperature=0, max_output_tokens=200)
seen["response parsed"] = isinstance(structured.output_parsed, City)
go = {"type": "function", "name": "go", "strict": True, "parameters": {
    "type": "object", "properties": {"to": {"enum": ["north", "south"]}}, "required": ["to"], "additionalProperties": False}}
called = client.responses.create(model="smollm2", input="Go north.", tools=[go], tool_choice="required", temperature=0, max_output_tokens=200)
call = next(item for item in called.output if item.type == "function_call")
seen["response call"] = json.loads(call.arguments)["to"] in ["north", "south"]
again = client.responses.create(model="smollm2", temperature=0, max_output_tokens=16, tools=[go], input=[
    {"role": "user", "content": "Go north."}, *[item.model_dump() for item in called.output],
    {"type": "function_call_output", "call_id": call.call_id, "output": "You are there."}])
seen["response again"] = again.output[0].type

seen["models"] = [model.id for model in client.models.list()]
seen["faults"] = {}
for name, attempt in {
    "bad value": lambda: client.chat.completions.create(model="smollm2", messages=messages, temperature=9),
    "unknown model": lambda: client.chat.completions.create(model="nobody", messages=messages),
    "too long": lambda: client.completions.create(model="smollm2", prompt="x " * 20_000),
    "too large": lambda: client.completions.create(model="smollm2", prompt="x" * (9 << 20)),
    "stored": lambda: client.responses.create(model="smollm2", input="x", previous_response_id="resp_1"),
}.items():
    try:
        attempt()
        seen["faults"][name] = "no fault"
    except openai.APIStatusError as error:
        seen["faults"][name] = [type(error).__name__, error.status_code, error.code, error.param]
print(json.dumps(seen))
