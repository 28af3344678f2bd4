import Anthropic from "@anthropic-ai/sdk";
import { CITY, KEY, PIXEL, ROOT, WEATHER, all, note, tell, two } from "./seen.mjs";

const client = new Anthropic({ baseURL: ROOT, apiKey: KEY, maxRetries: 0, timeout: 30_000 });
const user = (content) => [{ role: "user", content }];
const ask = { model: "fluent", max_tokens: 1000, messages: user("Zürich ☕ and more") };
const tools = [{ name: "weather", description: "Tells.", input_schema: WEATHER }, { name: "city", input_schema: CITY }];
const { messages } = client;

await note("message", () => messages.create(ask));
await note("message cut", () => messages.create({ ...ask, max_tokens: 2 }));
await note("thoughts", () => messages.create({ ...ask, max_tokens: 3000, thinking: { type: "enabled", budget_tokens: 1024 } }));
await note("stream", () => all(messages.create({ ...ask, stream: true })));
await note("stream by its helper", () => messages.stream(ask).finalMessage());
await note("tools", () => messages.create({ ...ask, tools }));
await note("tools streamed", () => all(messages.create({ ...ask, tools, stream: true })));
await note("tools by the stream's helper", () => messages.stream({ ...ask, tools }).finalMessage());
await note("tool answered", () => messages.create({
  ...ask, tools,
  messages: [...user("weather?"), { role: "assistant", content: [{ type: "tool_use", id: "toolu_0", name: "weather", input: { city: "Zürich", days: 7 } }] },
    ...user([{ type: "tool_result", tool_use_id: "toolu_0", content: "sunny ☀" }])],
}));
await note("structured", () => messages.create({ ...ask, output_config: { format: { type: "json_schema", schema: CITY } } }));
await note("vision", () => messages.create({
  ...ask,
  messages: user([{ type: "image", source: { type: "base64", media_type: "image/png", data: PIXEL } }, { type: "text", text: "What is it?" }]),
}));
await note("tokens", () => messages.countTokens({ model: "fluent", messages: user("one two three") }));
await note("models", async () => (await all(client.models.list())).map(({ id }) => id));

for (const status of [400, 404, 429, 500, 529]) {
  await note(`fault ${status}`, () => messages.create({ ...ask, messages: user(`fail ${status}`) }));
  await note(`fault ${status} of a stream`, () => all(messages.create({ ...ask, messages: user(`fail ${status}`), stream: true })));
}
const stranger = new Anthropic({ baseURL: ROOT, apiKey: "sk-wrong", maxRetries: 0 });
await note("wrong key", () => stranger.messages.create(ask), true);
await note("unknown model", () => messages.create({ ...ask, model: "nobody" }), true);
await note("timeout", () => messages.create({ ...ask, messages: user("hang") }, { timeout: 400 }));
await note("cancelled", () => two(messages.create({ ...ask, messages: user("stall"), stream: true })));
tell(2);
