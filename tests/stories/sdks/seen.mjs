// What a script saw, as one JSON document: every object that an SDK parsed, and every error that it raised.

export const [URL, KEY] = process.argv.slice(2);
export const ROOT = URL.replace(/\/v1$/, "");
const object = (properties) => ({ type: "object", properties, required: Object.keys(properties), additionalProperties: false });
export const WEATHER = object({ city: { type: "string" }, days: { type: "integer" } });
export const CITY = object({ name: { type: "string" }, population: { type: "integer" }, capital: { type: "boolean" } });
export const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
export const DATA_URL = `data:image/png;base64,${PIXEL}`;

const seen = {};

// An error; of a server's own words (`isOwn`) only what programs look at.
function fault(error, isOwn) {
  const told = { class: error.constructor.name, name: error.name, status: error.status ?? error.statusCode ?? null };
  for (const name of ["code", "type", "param"]) told[name] = error[name] ?? null;
  if (isOwn) {
    delete told.param;
    return told;
  }
  const headers = error.headers ?? error.responseHeaders;
  const retryAfter = headers?.get?.("retry-after") ?? headers?.["retry-after"];
  return { ...told, message: error.message, body: error.error ?? error.responseBody, "retry-after": retryAfter ?? null };
}

// Runs a function and keeps what it returns or raises.
export async function note(name, run, isOwn = false) {
  try {
    seen[name] = await run();
  } catch (error) {
    if (error instanceof TypeError || error instanceof ReferenceError) throw error;
    seen[name] = { fault: fault(error, isOwn) };
  }
}

export async function all(stream) {
  const pieces = [];
  for await (const piece of await stream) pieces.push(piece);
  return pieces;
}

// The first two pieces of a stream, which is left then.
export async function two(stream) {
  const pieces = [];
  for await (const piece of await stream) {
    pieces.push(piece);
    if (pieces.length === 2) break;
  }
  return pieces;
}

// Prints the document; `left` is how many answers the client went away from.
export function tell(left) {
  console.log(JSON.stringify({ seen, left }));
}
