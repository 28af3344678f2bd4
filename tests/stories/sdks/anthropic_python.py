from anthropic import Anthropic
from seen import CITY, KEY, PIXEL, ROOT, WEATHER, note, tell

client = Anthropic(base_url=ROOT, api_key=KEY, max_retries=0, timeout=30)
user = lambda content: [{"role": "user", "content": content}]
ask = dict(model="fluent", max_tokens=1000, messages=user("Zürich ☕ and more"))
tool = {"name": "weather", "description": "Tells.", "input_schema": WEATHER}
other = {"name": "city", "input_schema": CITY}
messages = client.messages

note("message")(lambda: messages.create(**ask))
note("message with everything")(lambda: messages.create(
    model="fluent", max_tokens=99, system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    metadata={"user_id": "u"}, stop_sequences=["x"], extra_body={"temperature": 0.5, "x_own": [1, None]},
    messages=[*user("Hi"), {"role": "assistant", "content": "Hello"}, *user([{"type": "text", "text": "again"}])]))
note("message cut")(lambda: messages.create(**{**ask, "max_tokens": 2}))
note("thoughts")(lambda: messages.create(**{**ask, "max_tokens": 3000}, thinking={"type": "enabled", "budget_tokens": 1024}))
note("stream")(lambda: list(messages.create(**ask, stream=True)))
note("thoughts streamed")(lambda: list(messages.create(**{**ask, "max_tokens": 3000}, stream=True, thinking={"type": "enabled", "budget_tokens": 1024})))


@note("stream by its helper")
def _():
    with messages.stream(**ask) as stream:
        return [list(stream.text_stream), stream.get_final_message()]


note("tools")(lambda: messages.create(**ask, tools=[tool, other]))
note("tool named")(lambda: messages.create(**ask, tools=[tool, other], tool_choice={"type": "tool", "name": "city"}))
note("tool alone")(lambda: messages.create(**ask, tools=[tool, other], tool_choice={"type": "auto", "disable_parallel_tool_use": True}))
note("tools streamed")(lambda: list(messages.create(**ask, tools=[tool, other], stream=True)))


@note("tools by the stream's helper")
def _():
    with messages.stream(**ask, tools=[tool, other]) as stream:
        return [[event.type for event in stream], stream.get_final_message()]


use = {"type": "tool_use", "id": "toolu_0", "name": "weather", "input": {"city": "Zürich", "days": 7}}
note("tool answered")(lambda: messages.create(model="fluent", max_tokens=99, tools=[tool], messages=[
    *user("weather?"), {"role": "assistant", "content": [use]},
    *user([{"type": "tool_result", "tool_use_id": "toolu_0", "content": [{"type": "text", "text": "sunny ☀"}]}])]))
note("structured")(lambda: messages.create(**ask, output_config={"format": {"type": "json_schema", "schema": CITY}}))
note("vision")(lambda: messages.create(model="fluent", max_tokens=99, messages=user([
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
    {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}}, {"type": "text", "text": "What is it?"}])))
note("tokens")(lambda: messages.count_tokens(model="fluent", messages=user("one two three"), tools=[tool]))
note("models")(lambda: [model.id for model in client.models.list()])

for status in (400, 404, 413, 429, 500, 529):
    note(f"fault {status}")(lambda: messages.create(model="fluent", max_tokens=9, messages=user(f"fail {status}")))
    note(f"fault {status} of a stream")(lambda: list(messages.create(model="fluent", max_tokens=9, messages=user(f"fail {status}"), stream=True)))
stranger = Anthropic(base_url=ROOT, api_key="sk-wrong", max_retries=0)
note("wrong key", is_own=True)(lambda: stranger.messages.create(**ask))
note("unknown model", is_own=True)(lambda: messages.create(**{**ask, "model": "nobody"}))
impatient = client.with_options(timeout=0.4)
note("timeout")(lambda: impatient.messages.create(model="fluent", max_tokens=9, messages=user("hang")))
note("timeout of a stream")(lambda: list(impatient.messages.create(model="fluent", max_tokens=9, messages=user("stall"), stream=True)))


@note("cancelled")
def _():
    stream = messages.create(model="fluent", max_tokens=9, messages=user("stall"), stream=True)
    pieces = [next(stream), next(stream)]
    stream.close()
    return pieces


tell(left=3)
