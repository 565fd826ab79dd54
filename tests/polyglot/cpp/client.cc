// A conformance client in C++, built with Debian's packages alone.
// README.md, one folder up, says what it is told and what it prints.
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "ias/inference/v1/chat.grpc.pb.h"
#include "ias/inference/v1/completions.grpc.pb.h"
#include "ias/inference/v1/embeddings.grpc.pb.h"

namespace {

using google::protobuf::Struct;
using ias::inference::v1::ChatService;
using ias::inference::v1::CompletionService;
using ias::inference::v1::EmbeddingService;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

const char* const kNames[] = {
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
    "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"};

// What is printed: an object of JSON, made with protobuf's own means.
class Report {
 public:
  void Set(const std::string& name, const std::string& value) {
    (*object_.mutable_fields())[name].set_string_value(value);
  }
  void Set(const std::string& name, double value) {
    (*object_.mutable_fields())[name].set_number_value(value);
  }
  google::protobuf::ListValue& List(const std::string& name) {
    return *(*object_.mutable_fields())[name].mutable_list_value();
  }
  Struct& Object(const std::string& name) {
    return *(*object_.mutable_fields())[name].mutable_struct_value();
  }
  std::string Json() const {
    std::string text;
    google::protobuf::util::MessageToJsonString(object_, &text);
    return text;
  }

 private:
  Struct object_;
};

// Takes over a status with its details, decoded.
void Outcome(const grpc::Status& status, Report& report) {
  report.Set("code", kNames[status.error_code()]);
  if (status.ok()) return;
  report.Set("message", status.error_message());
  google::rpc::Status told;  // the trailer grpc-status-details-bin
  if (!told.ParseFromString(status.error_details())) return;
  for (const auto& detail : told.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::QuotaFailure quota;
    if (detail.UnpackTo(&info)) {
      report.Set("reason", info.reason());
      report.Set("domain", info.domain());
      auto& fields = *report.Object("metadata").mutable_fields();
      for (const auto& [name, value] : info.metadata()) fields[name].set_string_value(value);
    } else if (detail.UnpackTo(&quota)) {
      for (const auto& broken : quota.violations()) {
        auto& fields =
            *report.List("violations").add_values()->mutable_struct_value()->mutable_fields();
        fields["subject"].set_string_value(broken.subject());
        fields["description"].set_string_value(broken.description());
      }
    }
  }
}

template <typename Message>
void Ending(const Message& message, Report& report) {
  report.Set("finish_reason", ias::inference::v1::FinishReason_Name(message.finish_reason()));
  report.Set("prompt_tokens", message.usage().prompt_tokens());
  report.Set("completion_tokens", message.usage().completion_tokens());
}

// The key and the deadline of a call.
void Prepare(grpc::ClientContext& context) {
  const char* key = std::getenv("IAS_API_KEY");
  context.AddMetadata("authorization", std::string("Bearer ") + (key ? key : ""));
  if (const char* given = std::getenv("IAS_DEADLINE_MS")) {
    context.set_deadline(std::chrono::system_clock::now() + milliseconds(std::atoi(given)));
  }
}

template <typename Request>
Request Says(const std::string& model, const std::string& text) {
  Request request;
  request.set_model(model);
  auto* message = request.add_messages();
  message->set_role(ias::inference::v1::CHAT_ROLE_USER);
  message->set_content(text);
  return request;
}

Report Chat(ChatService::Stub& client, const std::string& model, const std::string& text) {
  Report report;
  grpc::ClientContext context;
  Prepare(context);
  ias::inference::v1::ChatResponse answer;
  const auto status =
      client.Chat(&context, Says<ias::inference::v1::ChatRequest>(model, text), &answer);
  Outcome(status, report);
  if (status.ok()) {
    report.Set("content", answer.message().content());
    Ending(answer, report);
  }
  return report;
}

// Cancels after so many pieces; -1 reads to the end.
Report Stream(ChatService::Stub& client, const std::string& model, const std::string& text,
              int leave_after) {
  Report report;
  grpc::ClientContext context;
  Prepare(context);
  const auto began = steady_clock::now();
  const auto request = Says<ias::inference::v1::StreamChatRequest>(model, text);
  const auto reader = client.StreamChat(&context, request);
  std::string content;
  int count = 0;
  ias::inference::v1::StreamChatResponse piece;
  while (reader->Read(&piece)) {
    content += piece.content();
    report.List("pieces").add_values()->set_string_value(piece.content());
    report.List("arrivals_ms")
        .add_values()
        ->set_number_value(static_cast<double>(
            std::chrono::duration_cast<milliseconds>(steady_clock::now() - began).count()));
    Ending(piece, report);
    if (++count == leave_after) context.TryCancel();
  }
  Outcome(reader->Finish(), report);
  report.Set("content", content);
  return report;
}

Report Complete(CompletionService::Stub& client, const std::string& model,
                const std::string& text) {
  Report report;
  grpc::ClientContext context;
  Prepare(context);
  ias::inference::v1::CompleteRequest request;
  request.set_model(model);
  request.set_text(text);
  ias::inference::v1::CompleteResponse answer;
  const auto status = client.Complete(&context, request, &answer);
  Outcome(status, report);
  if (status.ok()) {
    report.Set("content", answer.text());
    Ending(answer, report);
  }
  return report;
}

Report Embed(EmbeddingService::Stub& client, const std::string& model, const std::string& text) {
  Report report;
  grpc::ClientContext context;
  Prepare(context);
  ias::inference::v1::EmbedRequest request;
  request.set_model(model);
  request.add_texts(text);
  request.set_dimensions(8);
  ias::inference::v1::EmbedResponse answer;
  Outcome(client.Embed(&context, request, &answer), report);
  for (const auto& vector : answer.embeddings()) {
    auto& values = *report.List("vectors").add_values()->mutable_list_value();
    for (const float value : vector.values()) values.add_values()->set_number_value(value);
  }
  report.Set("prompt_tokens", answer.usage().prompt_tokens());
  return report;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 5) {
    std::cerr << "usage: client chat|stream|leave|complete|embed ADDRESS MODEL TEXT\n";
    return 2;
  }
  const std::string command = arguments[1], address = arguments[2], model = arguments[3],
                    text = arguments[4];
  const auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  const auto client = ChatService::NewStub(channel);
  Report report;
  if (command == "chat") {
    report = Chat(*client, model, text);
  } else if (command == "stream") {
    report = Stream(*client, model, text, -1);
  } else if (command == "leave") {
    report = Stream(*client, model, text, 3);
  } else if (command == "complete") {
    report = Complete(*CompletionService::NewStub(channel), model, text);
  } else if (command == "embed") {
    report = Embed(*EmbeddingService::NewStub(channel), model, text);
  } else {
    std::cerr << "no command " << command << "\n";
    return 2;
  }
  std::cout << report.Json() << "\n";
  return 0;
}
