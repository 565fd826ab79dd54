"""`ias-admin chat`: talk to a model from the terminal."""

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import grpc
import typer
from ias_sdk.ias.inference import v1 as inference

from ias_admin.client import Fixed, Stubs
from ias_admin.command import Ias, say, secret_from
from ias_admin.errors import NOT_ALLOWED, CliError, from_rpc, wrong_usage
from ias_admin.output import Column, Format, View, printable, record, thousands
from ias_admin.progress import waiting

EXAMPLES = [
    "ias-admin chat",
    "ias-admin chat mock-gpt -m 'Why is the sky blue?'",
    "git diff | ias-admin chat llama --system 'Write a commit message.'",
]

VIEW = View(
    identifier="content",
    columns=(Column("Answer", "content"),),
    fields=(
        "id",
        "model",
        "content",
        "finish_reason",
        "usage.prompt_tokens",
        "usage.completion_tokens",
        "usage.total_tokens",
        "usage.cached_tokens",
    ),
)


def chat(
    ias: Ias,
    *,
    model: Annotated[
        str | None,
        typer.Argument(help="Its name; the only one that the key may use, if not given."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="The API key; better in IAS_API_KEY, where no process list shows it."),
    ] = None,
    message: Annotated[
        str | None, typer.Option("--message", "-m", help="Ask this, and end.")
    ] = None,
    system: Annotated[str, typer.Option(help="What the model shall be told beforehand.")] = "",
    max_tokens: Annotated[
        int | None, typer.Option(min=1, max=2**31 - 1, help="Tokens of an answer at most.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, help="0 is always the likeliest word.")
    ] = None,
) -> None:
    """Talk to a model. Without -m, what is piped in is asked, or a conversation begins.

    The answer is printed as it comes; what it took is told on stderr.
    """
    stubs = ias.acting_with(Fixed(_key(key)))
    try:
        talk = _Talk(
            ias,
            stubs,
            model or os.environ.get("IAS_DEMO_MODEL") or _only_model(stubs),
            inference.ChatParameters(max_tokens=max_tokens, temperature=temperature),
        )
        if system:
            talk.turns.append(_turn(inference.ChatRole.SYSTEM, system))
        if message is not None:
            talk.ask(message)
        elif not sys.stdin.isatty():
            talk.ask(sys.stdin.read().strip())
        else:
            _converse(ias, talk)
    except grpc.RpcError as error:
        raise _told(error, str(ias.address)) from None


def _key(given: str | None) -> str:
    key = given or os.environ.get("IAS_API_KEY") or os.environ.get("IAS_DEMO_API_KEY")
    if key:
        return key
    if sys.stdin.isatty():
        return secret_from(False, "API key")
    raise wrong_usage(
        "A chat needs an API key.", "Set IAS_API_KEY; `ias-admin key create` makes a key."
    )


def _only_model(stubs: Stubs) -> str:
    """The model that the key may use. Raises CliError when there are several, or none."""
    body = b"".join(piece.data for piece in stubs.openai.list_models())
    try:
        found = [str(model["id"]) for model in json.loads(body)["data"]]
    except (ValueError, KeyError, TypeError):
        found = []
    if len(found) == 1:
        return found[0]
    listed = f"One of: {', '.join(found[:20])}." if found else "The key may use none."
    raise wrong_usage("Which model?", listed)


def _turn(role: inference.ChatRole, content: str) -> inference.ChatMessage:
    return inference.ChatMessage(role=role, content=content)


@dataclass
class _Talk:
    """A conversation so far."""

    ias: Ias
    stubs: Stubs
    model: str
    parameters: inference.ChatParameters
    turns: list[inference.ChatMessage] = field(default_factory=list)

    def ask(self, text: str) -> None:
        """One turn. What failed is not remembered."""
        if not text:
            raise wrong_usage("There is nothing to ask.", "Give -m, or pipe something in.")
        asked = _turn(inference.ChatRole.USER, text)
        request = inference.StreamChatRequest(
            model=self.model, messages=[*self.turns, asked], parameters=self.parameters
        )
        shown = self.ias.printer.form is Format.TABLE
        answer = _Answer(shown=shown)
        try:
            answer.read(self.stubs.chat.stream_chat(request))
        finally:
            if shown and answer.content:
                sys.stdout.write("\n")
                sys.stdout.flush()
        self.turns += [asked, _turn(inference.ChatRole.ASSISTANT, answer.content)]
        if not shown:
            self.ias.printer.one(VIEW, record(answer.last) | {"content": answer.content})
        elif not self.ias.printer.quiet:
            say(answer.taken())


class _Answer:
    """An answer as it comes in."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._started = time.monotonic()
        self._first_s: float | None = None
        self.content = ""
        self.last = inference.StreamChatResponse()

    def read(self, stream: Iterator[inference.StreamChatResponse]) -> None:
        """Reads to the end, and prints what the model says if it is to be shown."""
        with waiting("The model is thinking …"):
            piece = next(stream, None)
        while piece is not None:
            self._take(piece)
            piece = next(stream, None)

    def _take(self, piece: inference.StreamChatResponse) -> None:
        if piece.content and self._first_s is None:
            self._first_s = time.monotonic() - self._started
        self.content += piece.content
        reason = piece.finish_reason or self.last.finish_reason
        usage = piece.usage or self.last.usage
        self.last = inference.StreamChatResponse(
            id=piece.id, model=piece.model, finish_reason=reason, usage=usage
        )
        if self._shown:
            sys.stdout.write(printable(piece.content) if sys.stdout.isatty() else piece.content)
            sys.stdout.flush()

    def taken(self) -> str:
        """The line that ends it."""
        usage = self.last.usage or inference.ChatUsage()
        parts = [
            f"{self.last.model}: {thousands(usage.prompt_tokens)} prompt + "
            f"{thousands(usage.completion_tokens)} answer = {thousands(usage.total_tokens)} tokens",
            f"{time.monotonic() - self._started:.2f} s",
        ]
        if self._first_s is not None:
            parts.append(f"first after {self._first_s:.2f} s")
        if self.last.finish_reason == inference.FinishReason.LENGTH:
            parts.append("cut off at the bound of tokens")
        return " · ".join(parts)


def _converse(ias: Ias, talk: _Talk) -> None:
    say(f"Talking to {talk.model}. Ctrl-C stops an answer, Ctrl-D ends.")
    while True:
        try:
            text = _line()
        except EOFError:
            say("")
            return
        if text in ("/exit", "/quit"):
            return
        if not text:
            continue
        try:
            talk.ask(text)
        except KeyboardInterrupt:
            say("Stopped.")
        except grpc.RpcError as error:
            told = _told(error, str(ias.address))
            say(f"Error: {told.what}")
            if told.exit_code == NOT_ALLOWED:
                raise told from None
            if told.hint:
                say(told.hint)


def _line() -> str:
    """What is typed next. The prompt is part of no answer: it keeps out of a redirected stdout."""
    if sys.stdout.isatty():
        return input("> ").strip()
    sys.stderr.write("> ")
    sys.stderr.flush()
    return input().strip()


def _told(error: grpc.RpcError, address: str) -> CliError:
    """As everywhere, but a refused credential is the key, not a session."""
    told = from_rpc(error, address)
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        return CliError(
            told.what, "Check the API key of --key or IAS_API_KEY.", exit_code=NOT_ALLOWED
        )
    return told
