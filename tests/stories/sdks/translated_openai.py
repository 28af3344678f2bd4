"""What OpenAI's SDK sees of a model, whichever API its provider speaks."""

import openai
from openai import OpenAI
from pydantic import BaseModel
from seen import CITY, DATA_URL, KEY, URL, WEATHER, note, tell

client = OpenAI(base_url=URL, api_key=KEY, max_retries=0, timeout=30)
user = lambda text: [{"role": "user", "content": text}]
ask = dict(model="fluent", max_completion_tokens=99, messages=[{"role": "system", "content": "Be brief."}, *user("Zürich ☕ and more")])
tool = {"type": "function", "function": {"name": "weather", "description": "Tells.", "parameters": WEATHER}}
other = {"type": "function", "function": {"name": "city", "description": "Tells.", "parameters": CITY}}
flat = {"type": "function", "name": "weather", "description": "Tells.", "strict": False, "parameters": WEATHER}
chats, responses = client.chat.completions, client.responses


class City(BaseModel):
    name: str
    population: int
    capital: bool


def used(usage):
    return [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.prompt_tokens_details.cached_tokens]


def told(answer):
    """What an answer tells, without names that each provider makes up."""
    choice = answer.choices[0]
    calls = [[call.function.name, call.function.arguments] for call in choice.message.tool_calls or []]
    return [answer.object, answer.model, choice.message.role, choice.message.content or None, calls, choice.finish_reason,
            answer.usage and used(answer.usage)]


def told_of_response(response):
    usage = response.usage
    calls = [[item.name, item.arguments] for item in response.output if item.type == "function_call"]
    return [response.object, response.model, response.status, response.output_text, calls, usage.input_tokens, usage.output_tokens,
            usage.input_tokens_details.cached_tokens]


def streamed(**more):
    text, reasons, usage = "", [], None
    for chunk in chats.create(**{**ask, **more}, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
    return [text, reasons, used(usage)]


def helped(**more):
    with chats.stream(**{**ask, **more}) as stream:
        for _ in stream:
            pass
        return told(stream.get_final_completion())


note("chat")(lambda: told(chats.create(**ask)))
note("chat with settings")(lambda: told(chats.create(**ask, temperature=0.5, top_p=0.9, stop=["x"])))
note("chat cut")(lambda: told(chats.create(**{**ask, "max_completion_tokens": 2})))
note("stream")(lambda: streamed())
note("stream cut")(lambda: streamed(max_completion_tokens=2))
note("stream by its helper")(lambda: helped()[:-1])
note("tools")(lambda: told(chats.create(**ask, tools=[tool, other])))
note("tool named")(lambda: told(chats.create(**ask, tools=[tool, other], tool_choice={"type": "function", "function": {"name": "city"}})))
note("no tool")(lambda: told(chats.create(**ask, tools=[tool], tool_choice="none")))
note("tools streamed")(lambda: helped(tools=[tool, other])[:-1])
call = {"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Zürich","days":7}'}}
note("tool answered")(lambda: told(chats.create(model="fluent", tools=[tool], max_completion_tokens=99, messages=[
    *user("weather?"), {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "call_0", "content": "sunny ☀"}])))
note("structured")(lambda: chats.parse(**ask, response_format=City).choices[0].message.parsed)
note("vision")(lambda: told(chats.create(model="fluent", max_completion_tokens=99, messages=[{"role": "user", "content": [
    {"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": DATA_URL}}]}])))
note("response")(lambda: told_of_response(responses.create(model="fluent", input="Hi ☕", instructions="Be brief.", store=False)))
note("response cut")(lambda: told_of_response(responses.create(model="fluent", input="Hi ☕", max_output_tokens=2, store=False)))
note("response with tools")(lambda: told_of_response(responses.create(model="fluent", input="weather?", tools=[flat], store=False)))
note("response to a tool")(lambda: told_of_response(responses.create(model="fluent", tools=[flat], store=False, input=[
    {"role": "user", "content": "weather?"},
    {"type": "function_call", "call_id": "call_0", "name": "weather", "arguments": '{"city":"Zürich","days":7}'},
    {"type": "function_call_output", "call_id": "call_0", "output": "sunny ☀"}])))
note("response structured")(lambda: responses.parse(model="fluent", input="Describe.", text_format=City, store=False).output_parsed)


@note("response streamed")
def _():
    with responses.stream(model="fluent", input="Hi ☕", store=False) as stream:
        events = list(stream)
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        return [events[0].type, events[-1].type, text, told_of_response(stream.get_final_response())]


@note("response with tools streamed")
def _():
    with responses.stream(model="fluent", input="weather?", tools=[flat], store=False) as stream:
        return [list(stream)[-1].type, told_of_response(stream.get_final_response())]


def failed(attempt):
    """The class of an error: the words are the provider's."""
    try:
        return attempt()
    except openai.APIError as error:
        return [type(error).__name__, getattr(error, "status_code", None), isinstance(getattr(error, "body", None), dict)]


for status in (400, 404, 429, 500):
    fault = dict(model="fluent", max_completion_tokens=9, messages=user(f"fail {status}"))
    note(f"fault {status}")(lambda: failed(lambda: chats.create(**fault)))
    note(f"fault {status} of a stream")(lambda: failed(lambda: list(chats.create(**fault, stream=True))))
    note(f"fault {status} of a response")(lambda: failed(lambda: responses.create(model="fluent", input=f"fail {status}")))
impatient = client.with_options(timeout=0.4)
note("timeout")(lambda: failed(lambda: impatient.chat.completions.create(**{**ask, "messages": user("hang")})))


@note("cancelled")
def _():
    stream = chats.create(**{**ask, "messages": user("stall")}, stream=True)
    piece = next(stream)
    stream.close()
    return piece.object


tell(left=2)
