// A conformance client in Go, built with Debian's packages alone.
// README.md, one folder up, says what it is told and what it prints.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	inference "ias/inference/v1"
)

type violation struct {
	Subject     string `json:"subject"`
	Description string `json:"description"`
}

type report struct {
	Code             string            `json:"code"`
	Message          string            `json:"message,omitempty"`
	Content          string            `json:"content,omitempty"`
	Pieces           []string          `json:"pieces,omitempty"`
	ArrivalsMs       []int64           `json:"arrivals_ms,omitempty"`
	FinishReason     string            `json:"finish_reason,omitempty"`
	Vectors          [][]float32       `json:"vectors,omitempty"`
	PromptTokens     int64             `json:"prompt_tokens,omitempty"`
	CompletionTokens int64             `json:"completion_tokens,omitempty"`
	Reason           string            `json:"reason,omitempty"`
	Domain           string            `json:"domain,omitempty"`
	Metadata         map[string]string `json:"metadata,omitempty"`
	Violations       []violation       `json:"violations,omitempty"`
}

// names holds the codes' canonical names: Go's own (codes.Code.String) are spelt otherwise.
var names = strings.Fields(`OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND
	ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE
	UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED`)

// outcome takes over a status with its details, decoded. A nil err is success.
func (r *report) outcome(err error) {
	found := status.Convert(err)
	r.Code, r.Message = names[found.Code()], found.Message()
	for _, detail := range found.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			r.Reason, r.Domain, r.Metadata = detail.Reason, detail.Domain, detail.Metadata
		case *errdetails.QuotaFailure:
			for _, broken := range detail.Violations {
				r.Violations = append(r.Violations, violation{broken.Subject, broken.Description})
			}
		}
	}
}

func (r *report) ending(reason inference.FinishReason, usage *inference.ChatUsage) {
	r.FinishReason = reason.String()
	r.PromptTokens, r.CompletionTokens = usage.GetPromptTokens(), usage.GetCompletionTokens()
}

func chat(ctx context.Context, client inference.ChatServiceClient, model, text string) report {
	var found report
	answer, err := client.Chat(ctx, &inference.ChatRequest{Model: model, Messages: says(text)})
	found.outcome(err)
	if err == nil {
		found.Content = answer.GetMessage().GetContent()
		found.ending(answer.GetFinishReason(), answer.GetUsage())
	}
	return found
}

// stream cancels after so many pieces; -1 reads to the end.
func stream(
	ctx context.Context, client inference.ChatServiceClient, model, text string, leaveAfter int,
) report {
	var found report
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pieces, err := client.StreamChat(
		ctx, &inference.StreamChatRequest{Model: model, Messages: says(text)})
	for err == nil {
		var piece *inference.StreamChatResponse
		if piece, err = pieces.Recv(); err != nil {
			break
		}
		found.Content += piece.GetContent()
		found.Pieces = append(found.Pieces, piece.GetContent())
		found.ArrivalsMs = append(found.ArrivalsMs, time.Since(began).Milliseconds())
		found.ending(piece.GetFinishReason(), piece.GetUsage())
		if len(found.Pieces) == leaveAfter {
			cancel()
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	found.outcome(err)
	return found
}

func complete(
	ctx context.Context, client inference.CompletionServiceClient, model, text string,
) report {
	var found report
	answer, err := client.Complete(ctx, &inference.CompleteRequest{
		Model: model, Prompt: &inference.CompleteRequest_Text{Text: text}})
	found.outcome(err)
	if err == nil {
		found.Content = answer.GetText()
		found.ending(answer.GetFinishReason(), answer.GetUsage())
	}
	return found
}

func embed(
	ctx context.Context, client inference.EmbeddingServiceClient, model, text string,
) report {
	var found report
	dimensions := int32(8)
	answer, err := client.Embed(ctx, &inference.EmbedRequest{
		Model: model, Texts: []string{text}, Dimensions: &dimensions})
	found.outcome(err)
	for _, vector := range answer.GetEmbeddings() {
		found.Vectors = append(found.Vectors, vector.GetValues())
	}
	found.PromptTokens = answer.GetUsage().GetPromptTokens()
	return found
}

func says(text string) []*inference.ChatMessage {
	return []*inference.ChatMessage{{Role: inference.ChatRole_CHAT_ROLE_USER, Content: text}}
}

func main() {
	if len(os.Args) != 5 {
		log.Fatal("usage: client chat|stream|leave|complete|embed ADDRESS MODEL TEXT")
	}
	command, address, model, text := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	connection, err := grpc.Dial(address, grpc.WithInsecure())
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	client := inference.NewChatServiceClient(connection)
	ctx := metadata.AppendToOutgoingContext(
		context.Background(), "authorization", "Bearer "+os.Getenv("IAS_API_KEY"))
	if given := os.Getenv("IAS_DEADLINE_MS"); given != "" {
		milliseconds, err := strconv.Atoi(given)
		if err != nil {
			log.Fatal(err)
		}
		limited, cancel := context.WithTimeout(ctx, time.Duration(milliseconds)*time.Millisecond)
		defer cancel()
		ctx = limited
	}
	var found report
	switch command {
	case "chat":
		found = chat(ctx, client, model, text)
	case "stream":
		found = stream(ctx, client, model, text, -1)
	case "leave":
		found = stream(ctx, client, model, text, 3)
	case "complete":
		found = complete(ctx, inference.NewCompletionServiceClient(connection), model, text)
	case "embed":
		found = embed(ctx, inference.NewEmbeddingServiceClient(connection), model, text)
	default:
		log.Fatalf("no command %q", command)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		log.Fatal(err)
	}
}
