"""`ias-admin model`: the registry of what can be called."""

from enum import StrEnum
from typing import Annotated

import typer
from ias_sdk.ias.inference import v1 as inference

from ias_admin import values
from ias_admin.client import pages
from ias_admin.command import Ias, command, group, secret_from
from ias_admin.errors import wrong_usage
from ias_admin.output import Column, Record, View, record, thousands, time

app = group(
    "model",
    "Register models, and switch them on and off. For System Admins.",
    [
        "ias-admin model add llama --engine openai --url http://10.0.0.7:8000/v1",
        "ias-admin model disable llama",
    ],
)


def _state(enabled: bool) -> str:
    return "enabled" if enabled else "disabled"


def _context(tokens: int) -> str:
    return thousands(tokens) if tokens else "unknown"


VIEW = View(
    identifier="name",
    columns=(
        Column("Name", "name"),
        Column("State", "enabled", _state),
        Column("Engine", "backend.engine"),
        Column("URL", "backend.url"),
        Column("Prompt /1000", "prompt_price", right=True),
        Column("Answer /1000", "completion_price", right=True),
        Column("Context", "context_length", _context, right=True),
    ),
    details=(
        Column("Display name", "display_name"),
        Column("Upstream model", "backend.upstream_model"),
        Column("Output at most", "max_output_tokens", thousands),
        Column("Created", "create_time", time),
        Column("Changed", "update_time", time),
    ),
    fields=(
        "name",
        "display_name",
        "enabled",
        "backend.engine",
        "backend.url",
        "backend.upstream_model",
        "prompt_price",
        "completion_price",
        "context_length",
        "max_output_tokens",
        "create_time",
        "update_time",
    ),
)

NameArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Its name.")]


_MOST = 2**31 - 1


class Engine(StrEnum):
    """What answers for a model."""

    OPENAI = "openai"
    MOCK = "mock"


@command(
    app,
    "add",
    examples=[
        "ias-admin model add llama --engine openai --url http://10.0.0.7:8000/v1 "
        "--upstream-model meta-llama/Llama-3.1-8B-Instruct",
        "ias-admin model add qwen --url https://gpu1.example/v1 --api-key-stdin "
        "--prompt-price 0.15 --completion-price 0.60 --context-length 32768 < key.txt",
        "ias-admin model add mock-gpt --engine mock",
    ],
)
def add(
    ias: Ias,
    *,
    name: Annotated[str, typer.Argument(help="By which clients ask for it; may hold a slash.")],
    engine: Annotated[
        Engine, typer.Option(help="An OpenAI-compatible server, or a mock without a model.")
    ] = Engine.OPENAI,
    url: Annotated[
        str, typer.Option(help="Of the server, up to and with /v1. Needed for openai.")
    ] = "",
    upstream_model: Annotated[
        str, typer.Option(help="What the server calls it; NAME if not given.")
    ] = "",
    api_key_stdin: Annotated[
        bool,
        typer.Option("--api-key-stdin", help="Read the server's API key from standard input."),
    ] = False,
    display_name: Annotated[str, typer.Option(help="What people call it.")] = "",
    prompt_price: Annotated[
        str, typer.Option(metavar="PRICE", help="Of 1 000 prompt tokens, as 0.15.")
    ] = "0",
    completion_price: Annotated[
        str, typer.Option(metavar="PRICE", help="Of 1 000 answer tokens, as 0.60.")
    ] = "0",
    context_length: Annotated[
        int,
        typer.Option(min=0, max=_MOST, help="Tokens of prompt and answer; 0 for unknown."),
    ] = 0,
    max_output_tokens: Annotated[
        int, typer.Option(min=0, max=_MOST, help="Tokens of an answer at most; 4096 when 0.")
    ] = 0,
) -> None:
    """Register a model. It serves within 2 seconds, without a restart."""
    if engine is Engine.OPENAI and not url:
        raise wrong_usage("The engine openai needs --url.", "As --url http://10.0.0.7:8000/v1.")
    answer = ias.stubs.models.create_model(
        inference.CreateModelRequest(
            model=inference.Model(
                name=name,
                display_name=display_name,
                backend=inference.Backend(
                    engine=inference.EngineKind[engine.name],
                    url=url,
                    upstream_model=upstream_model,
                    api_key=secret_from(True, "API key") if api_key_stdin else "",
                ),
                prompt_price_nanos=values.price_nanos(prompt_price),
                completion_price_nanos=values.price_nanos(completion_price),
                context_length=context_length,
                max_output_tokens=max_output_tokens,
            )
        )
    )
    _show(ias, answer.model)


@command(app, "list", examples=["ias-admin model list", "ias-admin model list -o json"])
def list_(ias: Ias) -> None:
    """List all models, by name, the disabled ones too."""
    found = pages(ias.stubs.models.list_models, inference.ListModelsRequest(), "models")
    ias.printer.many(VIEW, map(_row, found))


@command(app, "get", examples=["ias-admin model get llama"])
def get(ias: Ias, model: NameArgument) -> None:
    """Show one model."""
    _show(ias, ias.stubs.models.get_model(inference.GetModelRequest(name=model)).model)


@command(app, "enable", examples=["ias-admin model enable llama"])
def enable(ias: Ias, model: NameArgument) -> None:
    """Let a model be called again, within 2 seconds."""
    _show(ias, ias.stubs.models.enable_model(inference.EnableModelRequest(name=model)).model)


@command(app, "disable", examples=["ias-admin model disable llama --yes"])
def disable(ias: Ias, model: NameArgument) -> None:
    """Stop a model from being called, within 2 seconds; requests that run go on."""
    ias.confirm(f"Disable the model {model}? Its callers will be refused.")
    _show(ias, ias.stubs.models.disable_model(inference.DisableModelRequest(name=model)).model)


def _show(ias: Ias, model: inference.Model | None) -> None:
    assert model is not None
    ias.printer.one(VIEW, _row(model))


def _row(model: inference.Model) -> Record:
    """With prices as decimals beside the exact numbers."""
    return record(model) | {
        "prompt_price": values.money(model.prompt_price_nanos),
        "completion_price": values.money(model.completion_price_nanos),
    }
