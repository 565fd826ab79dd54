// The Vercel AI SDK against IAS. Prints one JSON object: what each scenario gave.
//
//   node vercel.mjs BASE_URL MODEL     keys: IAS_API_KEY, IAS_POOR_API_KEY (of a used-up budget)
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, RetryError, generateText, streamText } from "ai";

const [baseURL, model] = process.argv.slice(2);

function provider(apiKey) {
  return createOpenAICompatible({ name: "ias", baseURL, apiKey, includeUsage: true });
}

const good = provider(process.env.IAS_API_KEY)(model);

async function complete() {
  const answer = await generateText({ model: good, prompt: "[mock tokens=9]" });
  return { content: answer.text, finish_reason: answer.finishReason, usage: answer.usage };
}

async function stream() {
  const began = performance.now();
  const found = { pieces: [], arrivals_ms: [] };
  const answer = streamText({ model: good, prompt: "[mock tokens=10 pace_ms=40]" });
  for await (const piece of answer.textStream) {
    if (!piece) continue;
    found.pieces.push(piece);
    found.arrivals_ms.push(Math.round(performance.now() - began));
  }
  return { ...found, finish_reason: await answer.finishReason, usage: await answer.usage };
}

async function failure(apiKey, name) {
  try {
    await generateText({ model: provider(apiKey)(name), prompt: "hi", maxRetries: 0 });
  } catch (error) {
    const last = RetryError.isInstance(error) ? error.lastError : error;
    return {
      is_api_error: APICallError.isInstance(last),
      status: last.statusCode,
      message: last.message,
      code: last.data?.error?.code,
    };
  }
  return {};
}

console.log(
  JSON.stringify({
    complete: await complete(),
    stream: await stream(),
    wrong_key: await failure(`ias_${"a".repeat(52)}`, model),
    unknown_model: await failure(process.env.IAS_API_KEY, "no-such"),
    used_up: await failure(process.env.IAS_POOR_API_KEY, model),
  }),
);
