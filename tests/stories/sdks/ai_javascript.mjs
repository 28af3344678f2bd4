import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { Output, embedMany, generateText, jsonSchema, streamText, tool } from "ai";
import { CITY, DATA_URL, KEY, URL, WEATHER, note, tell, two } from "./seen.mjs";

// Warnings would stand in the report.
globalThis.AI_SDK_LOG_WARNINGS = false;
const openai = createOpenAI({ baseURL: URL, apiKey: KEY });
const anthropic = createAnthropic({ baseURL: URL, apiKey: KEY });
const common = { prompt: "Zürich ☕ and more", maxRetries: 0 };
const tools = { weather: tool({ description: "Tells.", inputSchema: jsonSchema(WEATHER) }) };
const answering = { weather: tool({ description: "Tells.", inputSchema: jsonSchema(WEATHER), execute: ({ city }) => `sunny in ${city} ☀` }) };
const image = [{ role: "user", content: [{ type: "text", text: "What is it?" }, { type: "image", image: DATA_URL }] }];

// What was answered, without headers, clocks and ids that the SDK makes by chance.
const bare = (result) => ({
  content: result.content.map(({ toolCallId, ...part }) => part),
  finishReason: result.finishReason, usage: result.usage, warnings: result.warnings, model: result.response.modelId,
  metadata: result.providerMetadata, steps: result.steps?.length, output: result.output,
});
const quiet = { onError: () => {} };
async function parts(result) {
  const pieces = [];
  for await (const { id, toolCallId, request, response, ...part } of result.fullStream) {
    if (part.error) throw part.error;
    pieces.push(part);
  }
  return pieces;
}

const models = { chat: openai.chat("fluent"), response: openai.responses("fluent"), message: anthropic("fluent") };
for (const [name, model] of Object.entries(models)) {
  const ask = { ...common, model };
  const structured = () => Output.object({ schema: jsonSchema(CITY) });
  await note(name, async () => bare(await generateText(ask)));
  await note(`${name} streamed`, () => parts(streamText({ ...ask, ...quiet })));
  await note(`${name} with tools`, async () => bare(await generateText({ ...ask, tools })));
  await note(`${name} with tools streamed`, () => parts(streamText({ ...ask, tools, ...quiet })));
  await note(`${name} after a tool`, async () => {
    const stopWhen = ({ steps }) => steps.length === 3;
    return bare(await generateText({ ...ask, tools: answering, stopWhen }));
  });
  await note(`${name} of vision`, async () => bare(await generateText({ model, messages: image, maxRetries: 0 })));
  for (const status of [400, 404, 429, 500]) {
    await note(`${name} fault ${status}`, () => generateText({ ...ask, prompt: `fail ${status}` }));
    await note(`${name} fault ${status} of a stream`, () => parts(streamText({ ...ask, prompt: `fail ${status}`, ...quiet })));
  }
  await note(`${name} timeout`, () => generateText({ ...ask, prompt: "hang", abortSignal: AbortSignal.timeout(400) }));
  await note(`${name} cancelled`, async () => {
    const ending = new AbortController();
    const pieces = await two(streamText({ ...ask, prompt: "stall", abortSignal: ending.signal, ...quiet }).textStream);
    ending.abort();
    return pieces;
  });
  if (name !== "message") {
    await note(`${name} structured`, async () => bare(await generateText({ ...ask, output: structured() })));
  }
}
await note("embeddings", async () => {
  const { embeddings, usage } = await embedMany({ model: openai.embedding("fluent"), values: ["one", "two words"], maxRetries: 0 });
  return { embeddings, usage };
});
const stranger = createOpenAI({ baseURL: URL, apiKey: "sk-wrong" });
await note("wrong key", () => generateText({ ...common, model: stranger.chat("fluent") }), true);
await note("unknown model", () => generateText({ ...common, model: openai.chat("nobody") }), true);
tell(6);
