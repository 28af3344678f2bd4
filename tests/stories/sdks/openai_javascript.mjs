import OpenAI, { toFile } from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { CITY, DATA_URL, KEY, URL, WEATHER, all, note, tell, two } from "./seen.mjs";

const client = new OpenAI({ baseURL: URL, apiKey: KEY, maxRetries: 0, timeout: 30_000 });
const user = (content) => [{ role: "user", content }];
const ask = { model: "fluent", messages: user("Zürich ☕ and more") };
const tools = [
  { type: "function", function: { name: "weather", description: "Tells.", strict: true, parameters: WEATHER } },
  { type: "function", function: { name: "city", parameters: CITY } },
];
const flat = [{ type: "function", name: "weather", strict: true, parameters: WEATHER }];
const City = z.object({ name: z.string(), population: z.number(), capital: z.boolean() });
const chats = client.chat.completions;

await note("chat", () => chats.create(ask));
await note("chat with everything", () => chats.create({ ...ask, n: 2, logprobs: true, temperature: 0.5, seed: 7, x_own: [1, null] }));
await note("chat cut", () => chats.create({ ...ask, max_completion_tokens: 2 }));
await note("stream", () => all(chats.create({ ...ask, stream: true })));
await note("stream with usage", () => all(chats.create({ ...ask, stream: true, stream_options: { include_usage: true } })));
await note("stream by its helper", () => chats.stream(ask).finalChatCompletion());
await note("tools", () => chats.create({ ...ask, tools }));
await note("tool alone", () => chats.create({ ...ask, tools, parallel_tool_calls: false }));
await note("tools streamed", () => all(chats.create({ ...ask, tools, stream: true })));
await note("tools by the stream's helper", () => chats.stream({ ...ask, tools }).finalChatCompletion());
await note("tools run", async () => {
  const run = { type: "function", function: { name: "weather", parameters: WEATHER, parse: JSON.parse, function: ({ city }) => `sunny in ${city} ☀` } };
  return chats.runTools({ ...ask, tools: [run] }).finalContent();
});
await note("structured", () => chats.parse({ ...ask, response_format: zodResponseFormat(City, "city") }));
await note("structured streamed", () => chats.stream({ ...ask, response_format: zodResponseFormat(City, "city") }).finalChatCompletion());
await note("vision", () => chats.create({
  model: "fluent",
  messages: user([{ type: "text", text: "What is it?" }, { type: "image_url", image_url: { url: DATA_URL } }]),
}));
await note("completion", () => client.completions.create({ model: "fluent", prompt: "once upon", max_tokens: 9 }));
await note("embeddings", () => client.embeddings.create({ model: "fluent", input: ["one", "two words"] }));
await note("embeddings as numbers", () => client.embeddings.create({ model: "fluent", input: "one", encoding_format: "float" }));
await note("response", () => client.responses.create({ model: "fluent", input: "Hi ☕" }));
await note("response streamed", () => all(client.responses.create({ model: "fluent", input: "Hi ☕", stream: true })));
await note("response with tools", () => client.responses.create({ model: "fluent", input: "weather?", tools: flat }));
await note("response by the stream's helper", () => client.responses.stream({ model: "fluent", input: "weather?", tools: flat }).finalResponse());
await note("image", () => client.images.generate({ model: "fluent", prompt: "a cat" }));
await note("transcription", async () => client.audio.transcriptions.create({ model: "fluent", file: await toFile(Buffer.from("RIFF"), "a.wav") }));
await note("models", async () => (await all(client.models.list())).map(({ id }) => id));

for (const status of [400, 404, 429, 500]) {
  await note(`fault ${status}`, () => chats.create({ ...ask, messages: user(`fail ${status}`) }));
  await note(`fault ${status} of a stream`, () => all(chats.create({ ...ask, messages: user(`fail ${status}`), stream: true })));
}
const stranger = new OpenAI({ baseURL: URL, apiKey: "sk-wrong", maxRetries: 0 });
await note("wrong key", () => stranger.chat.completions.create(ask), true);
await note("unknown model", () => chats.create({ ...ask, model: "nobody" }), true);
await note("timeout", () => chats.create({ ...ask, messages: user("hang") }, { timeout: 400 }));
await note("cancelled", () => two(chats.create({ ...ask, messages: user("stall"), stream: true })));
await note("cancelled by a signal", async () => {
  const signal = AbortSignal.timeout(400);
  return chats.create({ ...ask, messages: user("hang") }, { signal });
});
tell(3);
