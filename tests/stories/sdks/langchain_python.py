import instructor
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from openai import OpenAI
from pydantic import BaseModel
from seen import CITY, DATA_URL, KEY, ROOT, URL, note, plain, tell


class City(BaseModel):
    """Describes a city."""
    name: str
    population: int
    capital: bool


def bare(message):
    """A message without the name of its run, which is made by chance."""
    told = plain(message)
    if str(told.get("id")).startswith(("run-", "lc_run-")):
        told.pop("id")
    return told


common = dict(base_url=URL, api_key=KEY, max_retries=0)
chat = ChatOpenAI(model="fluent", **common)
responses = ChatOpenAI(model="fluent", use_responses_api=True, **common)
claude = ChatAnthropic(model="fluent", base_url=ROOT, api_key=KEY, max_retries=0, max_tokens=99)
turns = [SystemMessage("Be brief."), HumanMessage("Zürich ☕ and more")]
picture = [HumanMessage([{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": DATA_URL}}])]
answered = [HumanMessage("city?"), AIMessage("", tool_calls=[{"name": "City", "args": {"name": "Zürich"}, "id": "call_0"}]),
            ToolMessage("big ☀", tool_call_id="call_0")]
for name, model in {"chat": chat, "response": responses, "message": claude}.items():
    note(f"{name}")(lambda: bare(model.invoke(turns)))
    note(f"{name} streamed")(lambda: [bare(piece) for piece in model.stream(turns)])
    note(f"{name} with tools")(lambda: bare(model.bind_tools([City]).invoke(turns)))
    note(f"{name} with tools streamed")(lambda: [bare(piece) for piece in model.bind_tools([City]).stream(turns)])
    note(f"{name} after a tool")(lambda: bare(model.bind_tools([City]).invoke(answered)))
    note(f"{name} structured")(lambda: model.with_structured_output(City).invoke(turns))
    note(f"{name} of vision")(lambda: bare(model.invoke(picture)))
    for status in (400, 404, 429, 500):
        note(f"{name} fault {status}")(lambda: model.invoke(f"fail {status}"))
note("structured by a call")(lambda: chat.with_structured_output(City, method="function_calling").invoke(turns))
note("beside each other")(lambda: [bare(message) for message in chat.batch([f"number {number}" for number in range(9)])])
note("embeddings")(lambda: OpenAIEmbeddings(model="fluent", check_embedding_ctx_length=False, **common).embed_documents(["one", "two words"]))
note("wrong key", is_own=True)(lambda: ChatOpenAI(model="fluent", base_url=URL, api_key="sk-wrong", max_retries=0).invoke("Hi"))
note("unknown model", is_own=True)(lambda: ChatOpenAI(model="nobody", **common).invoke("Hi"))
note("timeout")(lambda: ChatOpenAI(model="fluent", timeout=0.4, **common).invoke("hang"))

extracted = dict(model="fluent", response_model=City, max_retries=0, messages=[{"role": "user", "content": "Describe."}])
for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
    patched = instructor.from_openai(OpenAI(**common), mode=mode)
    note(f"instructor with {mode.value}")(lambda: patched.chat.completions.create(**extracted))
tell(left=1)
