"""What a script saw, as one JSON document: every object that an SDK parsed, and every error that it raised."""

import json, sys, traceback

URL, KEY = sys.argv[1:3]
ROOT = URL.removesuffix("/v1")
# Schemas and arguments that all scripts use.
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city", "days"],
           "additionalProperties": False}
CITY = {"type": "object", "properties": {"name": {"type": "string"}, "population": {"type": "integer"}, "capital": {"type": "boolean"}},
        "required": ["name", "population", "capital"], "additionalProperties": False}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
DATA_URL = "data:image/png;base64," + PIXEL

seen = {}


def plain(value):
    """A value as JSON has it."""
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json"))
    if isinstance(value, dict):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, (str, int, float, bool)) else repr(value)


def fault(error, is_own):
    """An error; of a server's own words (`is_own`) only what programs look at."""
    told = {"class": type(error).__name__, "status": getattr(error, "status_code", None)}
    for name in ("code", "type", "param"):
        told[name] = plain(getattr(error, name, None))
    response = getattr(error, "response", None)
    if not is_own:
        told["message"] = str(error)
        told["body"] = plain(getattr(error, "body", None))
        if response is not None:
            told["retry-after"] = response.headers.get("retry-after")
    else:
        told.pop("param")
    return told


def note(name, is_own=False):
    """Runs what it decorates at once, and keeps what that returns or raises."""
    def run(function):
        try:
            seen[name] = plain(function())
        except Exception as error:
            seen[name] = {"fault": fault(error, is_own)}
            if type(error).__module__ == "builtins":
                traceback.print_exc()
                sys.exit(f"{name} is broken")
        return function
    return run


def tell(left):
    """Prints the document; `left` is how many answers the client went away from."""
    print(json.dumps({"seen": seen, "left": left}))
