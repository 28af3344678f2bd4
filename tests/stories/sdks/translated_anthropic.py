"""What Anthropic's SDK sees of a model, whichever API its provider speaks."""

import anthropic
from anthropic import Anthropic
from seen import CITY, KEY, PIXEL, ROOT, WEATHER, note, tell

client = Anthropic(base_url=ROOT, api_key=KEY, max_retries=0, timeout=30)
user = lambda content: [{"role": "user", "content": content}]
ask = dict(model="fluent", max_tokens=99, system="Be brief.", messages=user("Zürich ☕ and more"))
tool = {"name": "weather", "description": "Tells.", "input_schema": WEATHER}
other = {"name": "city", "description": "Tells.", "input_schema": CITY}
messages = client.messages


def told(message):
    """What a message tells, without names that each provider makes up."""
    usage = message.usage
    blocks = [block.text if block.type == "text" else [block.name, block.input] for block in message.content]
    return [message.type, message.role, message.model, blocks, message.stop_reason, usage.input_tokens, usage.cache_read_input_tokens,
            usage.output_tokens]


def streamed(**more):
    with messages.stream(**{**ask, **more}) as stream:
        events = [event.type for event in stream]
        return [events[0], events[-1], told(stream.get_final_message())]


note("message")(lambda: told(messages.create(**ask)))
note("message with settings")(lambda: told(messages.create(**ask, stop_sequences=["x"], extra_body={"temperature": 0.5, "top_p": 0.9})))
note("message cut")(lambda: told(messages.create(**{**ask, "max_tokens": 2})))
note("stream")(lambda: streamed())
note("stream cut")(lambda: streamed(max_tokens=2))
note("tools")(lambda: told(messages.create(**ask, tools=[tool, other])))
note("tool named")(lambda: told(messages.create(**ask, tools=[tool, other], tool_choice={"type": "tool", "name": "city"})))
note("tools streamed")(lambda: streamed(tools=[tool, other]))
use = {"type": "tool_use", "id": "toolu_0", "name": "weather", "input": {"city": "Zürich", "days": 7}}
note("tool answered")(lambda: told(messages.create(model="fluent", max_tokens=99, tools=[tool], messages=[
    *user("weather?"), {"role": "assistant", "content": [use]},
    *user([{"type": "tool_result", "tool_use_id": "toolu_0", "content": [{"type": "text", "text": "sunny ☀"}]}])])))
note("structured")(lambda: told(messages.create(**ask, output_config={"format": {"type": "json_schema", "schema": CITY}})))
note("vision")(lambda: told(messages.create(model="fluent", max_tokens=99, messages=user([
    {"type": "text", "text": "What is it?"},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}]))))


def failed(attempt):
    """The class of an error: the words are the provider's."""
    try:
        return attempt()
    except anthropic.APIError as error:
        body = getattr(error, "body", None)
        return [type(error).__name__, getattr(error, "status_code", None), body and body["error"]["type"]]


for status in (400, 404, 429, 500):
    fault = dict(model="fluent", max_tokens=9, messages=user(f"fail {status}"))
    note(f"fault {status}")(lambda: failed(lambda: messages.create(**fault)))
    note(f"fault {status} of a stream")(lambda: failed(lambda: list(messages.create(**fault, stream=True))))
impatient = client.with_options(timeout=0.4)
note("timeout")(lambda: failed(lambda: impatient.messages.create(**{**ask, "messages": user("hang")})))


@note("cancelled")
def _():
    stream = messages.create(**{**ask, "messages": user("stall")}, stream=True)
    piece = next(stream)
    stream.close()
    return piece.type


tell(left=2)
