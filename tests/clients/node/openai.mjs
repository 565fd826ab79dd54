// The official TypeScript client against IAS. Prints one JSON object: what each scenario gave.
//
//   node openai.mjs BASE_URL MODEL     keys: IAS_API_KEY, IAS_POOR_API_KEY (of a used-up budget)
import OpenAI from "openai";

const [baseURL, model] = process.argv.slice(2);
const messages = (content) => [{ role: "user", content }];

/** A client that counts the requests it sends, retries included. */
function counting(apiKey) {
  const sent = { requests: 0 };
  const fetch = (...asked) => {
    sent.requests += 1;
    return globalThis.fetch(...asked);
  };
  return { client: new OpenAI({ baseURL, apiKey, fetch }), sent };
}

async function complete() {
  const { client } = counting(process.env.IAS_API_KEY);
  const answer = await client.chat.completions.create({ model, messages: messages("[mock tokens=9]") });
  const [choice] = answer.choices;
  return { content: choice.message.content, finish_reason: choice.finish_reason, usage: answer.usage };
}

async function stream() {
  const { client } = counting(process.env.IAS_API_KEY);
  const began = performance.now();
  const found = { pieces: [], arrivals_ms: [] };
  const chunks = await client.chat.completions.create({
    model,
    messages: messages("[mock tokens=10 pace_ms=40]"),
    stream: true,
    stream_options: { include_usage: true },
  });
  for await (const chunk of chunks) {
    found.usage = chunk.usage ?? found.usage;
    if (!chunk.choices[0]?.delta.content) continue;
    found.pieces.push(chunk.choices[0].delta.content);
    found.arrivals_ms.push(Math.round(performance.now() - began));
  }
  return found;
}

/** The client's own helper, which puts the pieces together and calls back for each. */
async function helper() {
  const { client } = counting(process.env.IAS_API_KEY);
  const pieces = [];
  const running = client.chat.completions
    .stream({ model, messages: messages("[mock tokens=7]") })
    .on("content", (piece) => pieces.push(piece));
  return { content: await running.finalContent(), pieces };
}

async function leave() {
  const { client } = counting(process.env.IAS_API_KEY);
  const chunks = await client.chat.completions.create({
    model,
    messages: messages("[mock tokens=5000 pace_ms=20]"),
    stream: true,
  });
  let seen = 0;
  for await (const chunk of chunks) {
    if (chunk.choices[0]?.delta.content && ++seen === 3) break;
  }
  return { seen };
}

async function models() {
  const { client } = counting(process.env.IAS_API_KEY);
  const names = [];
  for await (const found of client.models.list()) names.push(found.id);
  return { names, retrieved: (await client.models.retrieve(model)).id };
}

/** What a failing call throws: its class, its fields, and how often it was tried. */
async function failure(apiKey, change) {
  const { client, sent } = counting(apiKey);
  try {
    await client.chat.completions.create({ model, messages: messages("hi"), ...change });
  } catch (error) {
    const { status, code, type, param, message, requestID } = error;
    const is_api_error = error instanceof OpenAI.APIError;
    return { class: error.constructor.name, is_api_error, status, code, type, param, message, requestID, ...sent };
  }
  return { class: null, ...sent };
}

async function midStream() {
  const { client } = counting(process.env.IAS_API_KEY);
  let seen = 0;
  try {
    const chunks = await client.chat.completions.create({
      model,
      messages: messages("[mock tokens=20 fail_after=3]"),
      stream: true,
    });
    for await (const chunk of chunks) if (chunk.choices[0]?.delta.content) seen += 1;
  } catch (error) {
    return { class: error.constructor.name, message: error.message, seen };
  }
  return { class: null, seen };
}

const good = process.env.IAS_API_KEY;
console.log(
  JSON.stringify({
    complete: await complete(),
    stream: await stream(),
    helper: await helper(),
    models: await models(),
    wrong_key: await failure(`ias_${"a".repeat(52)}`, {}),
    unknown_model: await failure(good, { model: "no/such-model" }),
    unknown_model_streamed: await failure(good, { model: "no-such", stream: true }),
    bad_request: await failure(good, { temperature: 3 }),
    used_up: await failure(process.env.IAS_POOR_API_KEY, {}),
    used_up_streamed: await failure(process.env.IAS_POOR_API_KEY, { stream: true }),
    mid_stream: await midStream(),
    leave: await leave(),
  }),
);
