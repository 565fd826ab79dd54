// A conformance client in Node: @grpc/grpc-js over the .proto files, loaded as they are.
// README.md, one folder up, says what it is told and what it prints.
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const definitions = loadSync(
  [
    "ias/inference/v1/chat.proto",
    "ias/inference/v1/completions.proto",
    "ias/inference/v1/embeddings.proto",
    "google/rpc/status.proto",
    "google/rpc/error_details.proto",
  ],
  {
    includeDirs: [`${root}/proto`, `${root}/third_party/googleapis`],
    keepCase: true, // names as in the .proto
    enums: String,
    longs: Number,
    defaults: true,
  },
);
const inference = grpc.loadPackageDefinition(definitions).ias.inference.v1;

const [command, address, model, text] = process.argv.slice(2);
/** A client of one of the services. */
const serviceOf = (Service) => new Service(address, grpc.credentials.createInsecure());
const metadata = new grpc.Metadata();
metadata.set("authorization", `Bearer ${process.env.IAS_API_KEY}`);
const options = {};
if (process.env.IAS_DEADLINE_MS) options.deadline = Date.now() + Number(process.env.IAS_DEADLINE_MS);
const request = { model, messages: [{ role: "CHAT_ROLE_USER", content: text }] };

/** What the last message of an answer says. */
function ending(message) {
  return {
    finish_reason: message?.finish_reason,
    prompt_tokens: message?.usage?.prompt_tokens,
    completion_tokens: message?.usage?.completion_tokens,
  };
}

/** A status with its details, decoded. `error` is null for success. */
function outcome(error) {
  const found = { code: grpc.status[error?.code ?? 0], message: error?.details };
  const [status] = error?.metadata?.get("grpc-status-details-bin") ?? [];
  if (!status) return found;
  for (const { type_url, value } of definitions["google.rpc.Status"].deserialize(status).details) {
    const type = type_url.split("/").pop();
    const detail = definitions[type].deserialize(value);
    if (type === "google.rpc.ErrorInfo") {
      Object.assign(found, { reason: detail.reason, domain: detail.domain, metadata: detail.metadata });
    }
    if (type === "google.rpc.QuotaFailure") {
      found.violations = detail.violations.map(({ subject, description }) => ({ subject, description }));
    }
  }
  return found;
}

function chat() {
  return new Promise((resolve) => {
    serviceOf(inference.ChatService).Chat(request, metadata, options, (error, answer) =>
      resolve({ ...outcome(error), content: answer?.message.content, ...ending(answer) }),
    );
  });
}

function stream({ leaveAfter = Infinity } = {}) {
  return new Promise((resolve) => {
    const began = performance.now();
    const pieces = [];
    const arrivals_ms = [];
    let last;
    const call = serviceOf(inference.ChatService).StreamChat(request, metadata, options);
    call.on("data", (piece) => {
      pieces.push(piece.content);
      arrivals_ms.push(Math.round(performance.now() - began));
      last = piece;
      if (pieces.length === leaveAfter) call.cancel();
    });
    const finish = (error) =>
      resolve({ ...outcome(error), content: pieces.join(""), pieces, arrivals_ms, ...ending(last) });
    call.on("error", finish);
    call.on("end", () => finish(null));
  });
}

function complete() {
  return new Promise((resolve) => {
    serviceOf(inference.CompletionService).Complete({ model, text }, metadata, options, (error, answer) =>
      resolve({ ...outcome(error), content: answer?.text, ...ending(answer) }),
    );
  });
}

function embed() {
  const asked = { model, texts: [text], dimensions: 8 };
  return new Promise((resolve) => {
    serviceOf(inference.EmbeddingService).Embed(asked, metadata, options, (error, answer) =>
      resolve({
        ...outcome(error),
        vectors: answer?.embeddings.map(({ values }) => values),
        prompt_tokens: answer?.usage.prompt_tokens,
      }),
    );
  });
}

const commands = { chat, stream, leave: () => stream({ leaveAfter: 3 }), complete, embed };
console.log(JSON.stringify(await commands[command]()));
