// The official TypeScript client against real models. Prints one JSON object: the answers.
//
//   node openai_real.mjs BASE_URL MODEL EMBEDDING_MODEL     key: IAS_API_KEY
import OpenAI from "openai";

const [baseURL, model, embeddingModel] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: process.env.IAS_API_KEY });
const messages = [{ role: "user", content: "Tell me about budgets." }];
// The model speaks nonsense, and might end with its first token.
const plain = { model, messages, max_tokens: 12, seed: 5, ignore_eos: true };
const schema = {
  type: "object",
  properties: { ok: { type: "boolean" }, colour: { enum: ["red", "green"] } },
  required: ["ok", "colour"],
  additionalProperties: false,
};

async function streamed() {
  const found = { text: "" };
  const chunks = await client.chat.completions.create({
    ...plain,
    stream: true,
    stream_options: { include_usage: true },
  });
  for await (const chunk of chunks) {
    found.text += chunk.choices[0]?.delta.content ?? "";
    found.usage = chunk.usage ?? found.usage;
  }
  return found;
}

async function completionStreamed(asked) {
  let text = "";
  for await (const chunk of await client.completions.create({ ...asked, stream: true })) {
    text += chunk.choices[0]?.text ?? "";
  }
  return text;
}

const completion = { model, prompt: "Once upon a time", max_tokens: 9, seed: 3, ignore_eos: true };
const embedded = { model: embeddingModel, input: ["budgets are hard", "usage is exact"] };
console.log(
  JSON.stringify({
    chat: await client.chat.completions.create(plain),
    chat_streamed: await streamed(),
    completion: await client.completions.create(completion),
    completion_streamed: await completionStreamed(completion),
    logprobs: await client.chat.completions.create({ ...plain, logprobs: true, top_logprobs: 3 }),
    three: await client.chat.completions.create({ ...plain, n: 3 }),
    stopped: await client.chat.completions.create({ ...plain, stop: ["e"], max_tokens: 200 }),
    schema: await client.chat.completions.create({
      model,
      messages,
      max_tokens: 1500,
      seed: 1,
      response_format: { type: "json_schema", json_schema: { name: "answer", strict: true, schema } },
    }),
    tool: await client.chat.completions.create({
      model,
      messages,
      tools: [{ type: "function", function: { name: "set_colour", strict: true, parameters: schema } }],
      tool_choice: { type: "function", function: { name: "set_colour" } },
      max_tokens: 1500,
      seed: 1,
    }),
    floats: await client.embeddings.create({ ...embedded, encoding_format: "float" }),
    // The client asks for base64 by itself, and decodes it.
    decoded: await client.embeddings.create(embedded),
  }),
);
