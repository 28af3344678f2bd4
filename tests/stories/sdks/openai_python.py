import asyncio
import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from seen import CITY, DATA_URL, KEY, URL, WEATHER, note, plain, tell

client = OpenAI(base_url=URL, api_key=KEY, max_retries=0, timeout=30)
user = lambda text: [{"role": "user", "content": text}]
ask = dict(model="fluent", messages=user("Zürich ☕ and more"))
tool = {"type": "function", "function": {"name": "weather", "description": "Tells.", "strict": True, "parameters": WEATHER}}
other = {"type": "function", "function": {"name": "city", "parameters": CITY}}
flat = {"type": "function", "name": "weather", "strict": True, "parameters": WEATHER}
chats, responses = client.chat.completions, client.responses


class City(BaseModel):
    name: str
    population: int
    capital: bool


note("chat")(lambda: chats.create(**ask))
note("chat with everything")(lambda: chats.create(
    model="fluent", n=2, logprobs=True, top_logprobs=2, temperature=0.5, top_p=0.9, seed=7, stop=["x"], user="u", metadata={"a": "b"},
    presence_penalty=0.1, frequency_penalty=0.1, logit_bias={"5": 1}, store=False, service_tier="auto", extra_body={"x_own": [1, None]},
    messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "name": "bo", "content": "Hi"},
              {"role": "assistant", "content": "Hello"}, *user("again")]))
note("chat cut")(lambda: chats.create(**ask, max_completion_tokens=2))
note("stream")(lambda: list(chats.create(**ask, stream=True)))
note("stream with usage")(lambda: list(chats.create(**ask, stream=True, n=2, logprobs=True, stream_options={"include_usage": True})))
note("tools")(lambda: chats.create(**ask, tools=[tool, other]))
note("tool named")(lambda: chats.create(**ask, tools=[tool, other], tool_choice={"type": "function", "function": {"name": "city"}}))
note("tool alone")(lambda: chats.create(**ask, tools=[tool, other], parallel_tool_calls=False))
note("tools streamed")(lambda: list(chats.create(**ask, tools=[tool, other], stream=True)))
call = {"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Zürich","days":7}'}}
note("tool answered")(lambda: chats.create(model="fluent", tools=[tool], messages=[
    *user("weather?"), {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "call_0", "content": "sunny ☀"}]))


@note("tools by the stream's helper")
def _():
    with chats.stream(**ask, tools=[openai.pydantic_function_tool(City)]) as stream:
        kinds = [event.type for event in stream]
        return [kinds, stream.get_final_completion()]


note("structured")(lambda: chats.parse(**ask, response_format=City))
note("structured by schema")(lambda: chats.create(**ask, response_format={
    "type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": CITY}}))
note("json")(lambda: chats.create(**ask, response_format={"type": "json_object"}))


@note("structured streamed")
def _():
    with chats.stream(**ask, response_format=City) as stream:
        return [[event.type for event in stream], stream.get_final_completion()]


note("vision")(lambda: chats.create(model="fluent", messages=[{"role": "user", "content": [
    {"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "low"}},
    {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}]}]))
note("completion")(lambda: client.completions.create(model="fluent", prompt="once upon", max_tokens=9))
note("completion streamed")(lambda: list(client.completions.create(model="fluent", prompt="once upon", stream=True)))
note("embeddings")(lambda: client.embeddings.create(model="fluent", input=["one", "two words"]))
note("embeddings as numbers")(lambda: client.embeddings.create(model="fluent", input="one", encoding_format="float", dimensions=3))
note("embeddings of tokens")(lambda: client.embeddings.create(model="fluent", input=[1, 2, 3]))

note("response")(lambda: responses.create(model="fluent", input="Hi ☕", instructions="Be brief.", metadata={"a": "b"}))
note("response cut")(lambda: responses.create(model="fluent", input="Hi", max_output_tokens=16, store=False))
note("response streamed")(lambda: list(responses.create(model="fluent", input="Hi ☕", stream=True)))
note("response with tools")(lambda: responses.create(model="fluent", input="weather?", tools=[flat]))
note("response with tools streamed")(lambda: list(responses.create(model="fluent", input="weather?", tools=[flat], stream=True)))
note("response to a tool")(lambda: responses.create(model="fluent", tools=[flat], input=[
    {"role": "user", "content": "weather?"},
    {"type": "function_call", "call_id": "call_0", "name": "weather", "arguments": '{"city":"Zürich","days":7}'},
    {"type": "function_call_output", "call_id": "call_0", "output": "sunny ☀"}]))
note("response structured")(lambda: responses.parse(model="fluent", input="Describe.", text_format=City))
note("response of vision")(lambda: responses.create(model="fluent", input=[{"role": "user", "content": [
    {"type": "input_text", "text": "What?"}, {"type": "input_image", "image_url": DATA_URL, "detail": "auto"}]}]))
note("tokens of a response")(lambda: responses.input_tokens.count(model="fluent", input="Hi"))

note("moderation")(lambda: client.moderations.create(model="fluent", input=["a", "b"]))
note("image")(lambda: client.images.generate(model="fluent", prompt="a cat"))
note("image edited")(lambda: client.images.edit(model="fluent", prompt="a dog", image=("a.png", b"png", "image/png")))
note("speech")(lambda: client.audio.speech.create(model="fluent", voice="alloy", input="hello").content)
note("transcription")(lambda: client.audio.transcriptions.create(model="fluent", file=("a.wav", b"RIFF" * 99, "audio/wav")))
note("transcription streamed")(lambda: list(client.audio.transcriptions.create(
    model="fluent", file=("a.wav", b"RIFF", "audio/wav"), stream=True)))
note("models")(lambda: [model.id for model in client.models.list()])

for status in (400, 404, 409, 422, 429, 500, 503):
    note(f"fault {status}")(lambda: chats.create(model="fluent", messages=user(f"fail {status}")))
    note(f"fault {status} of a stream")(lambda: list(chats.create(model="fluent", messages=user(f"fail {status}"), stream=True)))
note("fault 400 of a response")(lambda: responses.create(model="fluent", input="fail 400"))
stranger = OpenAI(base_url=URL, api_key="sk-wrong", max_retries=0)
note("wrong key", is_own=True)(lambda: stranger.chat.completions.create(**ask))
note("unknown model", is_own=True)(lambda: chats.create(model="nobody", messages=user("Hi")))

impatient = client.with_options(timeout=0.4)
note("timeout")(lambda: impatient.chat.completions.create(model="fluent", messages=user("hang")))
note("timeout of a stream")(lambda: list(impatient.chat.completions.create(model="fluent", messages=user("stall"), stream=True)))


@note("cancelled")
def _():
    stream = chats.create(model="fluent", messages=user("stall"), stream=True)
    pieces = [next(stream), next(stream)]
    stream.close()
    return pieces


@note("response cancelled")
def _():
    stream = responses.create(model="fluent", input="stall", stream=True)
    pieces = [next(stream), next(stream)]
    stream.close()
    return pieces


async def beside():
    async with AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0) as client:
        texts = [f"number {number}" for number in range(20)]
        answers = await asyncio.gather(*(client.chat.completions.create(model="fluent", messages=user(text)) for text in texts))
        stream = await client.chat.completions.create(**ask, stream=True)
        cancelled = asyncio.create_task(client.chat.completions.create(model="fluent", messages=user("hang")))
        pieces = [plain(chunk) async for chunk in stream]
        await asyncio.sleep(0.1)
        cancelled.cancel()
        return [plain(answers), pieces, (await asyncio.gather(cancelled, return_exceptions=True))[0].__class__.__name__]


note("beside each other")(lambda: asyncio.run(beside()))
tell(left=5)
