import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0, timeout: 120_000 });
const messages = [{ role: "user", content: "What is the capital of France?" }];
const ask = { model: "smollm2", messages, temperature: 0, max_tokens: 32 };
const seen = {};
const whole = await client.chat.completions.create({ ...ask, logprobs: true, top_logprobs: 2 });
seen.whole = whole.choices[0].message.content;
seen.logprobs = whole.choices[0].logprobs.content[0].top_logprobs.length;
seen.pieces = "";
for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
  seen.pieces += chunk.choices[0]?.delta?.content ?? "";
}
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };
const tools = [{ type: "function", function: { name: "weather", strict: true, parameters } }];
const asked = [{ role: "user", content: "How is the weather in Paris?" }];
const runner = client.chat.completions.stream({
  model: "smollm2", messages: asked, tools, tool_choice: "required", parallel_tool_calls: false, temperature: 0, max_tokens: 200,
});
const call = (await runner.finalChatCompletion()).choices[0].message.tool_calls[0].function;
seen.call = [call.name, typeof JSON.parse(call.arguments).city];
const schema = { type: "object", properties: { capital: { type: "boolean" } }, required: ["capital"], additionalProperties: false };
const structured = await client.chat.completions.create({
  ...ask, max_tokens: 100, response_format: { type: "json_schema", json_schema: { name: "answer", strict: true, schema } },
});
seen.structured = typeof JSON.parse(structured.choices[0].message.content).capital;
const response = await client.responses.create({ model: "smollm2", input: messages[0].content, temperature: 0, max_output_tokens: 32 });
seen.response = [response.status, response.output_text];
seen.events = [];
for await (const event of await client.responses.create({ model: "smollm2", input: "Hi", max_output_tokens: 4, stream: true })) {
  seen.events.push(event.type);
}
seen.faults = {};
for (const [name, attempt] of Object.entries({
  value: () => client.chat.completions.create({ ...ask, temperature: 9 }),
  model: () => client.chat.completions.create({ ...ask, model: "nobody" }),
})) {
  try {
    await attempt();
    seen.faults[name] = "no fault";
  } catch (error) {
    seen.faults[name] = [error.constructor.name, error.status, error.param];
  }
}
console.log(JSON.stringify(seen));
