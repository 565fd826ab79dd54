"""What `ias-admin model add` and `model update` take, and how it becomes messages."""

import json
import os
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
from ias_sdk.google.protobuf import ListValue, NullValue, Struct, Value
from ias_sdk.ias.inference import v1 as inference

from ias_admin import names
from ias_admin.command import Ias
from ias_admin.errors import wrong_usage

_MOST = 2**31 - 1
STORED_KEY = "********"
"""Sent for the key that IAS has already."""


class Engine(StrEnum):
    """What answers for a model."""

    OPENAI = "openai"
    VLLM = "vllm"
    MOCK = "mock"


class Kind(StrEnum):
    """What a model is made for."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"
    RERANK = "rerank"


BackendOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="URL[,weight=N][,model=NAME][,key-env=VAR]",
        help="Where requests go; once for each backend. key-env names a variable with its API key.",
    ),
]
AliasOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="A further name for clients; may be given several times."),
]
OrgOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ORG", help="Who alone may call it: name or id; may be given several times."
    ),
]
UpstreamModelOption = Annotated[
    str, typer.Option(help="What the server calls it, where a backend says nothing else.")
]
ApiKeyOption = Annotated[
    bool,
    typer.Option("--api-key-stdin", help="Read the backends' API key from standard input."),
]
PromptPriceOption = Annotated[
    str | None, typer.Option(metavar="PRICE", help="Of 1 000 prompt tokens, as 0.15.")
]
CompletionPriceOption = Annotated[
    str | None, typer.Option(metavar="PRICE", help="Of 1 000 answer tokens, as 0.60.")
]
ContextOption = Annotated[
    int | None,
    typer.Option(min=0, max=_MOST, help="Tokens of prompt and answer; 0 for unknown."),
]
MaxOutputOption = Annotated[
    int | None,
    typer.Option(min=0, max=_MOST, help="Tokens of an answer at most; 4096 when 0."),
]
DefaultOutputOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=_MOST,
        help="Tokens of an answer when the request doesn't say; 0: the most."
        " Text completions have 16 then, as with OpenAI.",
    ),
]
DefaultsOption = Annotated[
    str | None,
    typer.Option(
        metavar="JSON",
        help='For requests that don\'t say themselves, as {"temperature": 0.2, "top_p": 0.9}.',
    ),
]
KindOption = Annotated[Kind | None, typer.Option(help="What it is made for.")]
DisplayNameOption = Annotated[str | None, typer.Option(help="What people call it.")]
TemplateOption = Annotated[
    bool | None,
    typer.Option(
        "--allow-chat-template-kwargs/--no-chat-template-kwargs",
        help="Whether requests may send chat_template_kwargs.",
    ),
]


def backend(engine: Engine, text: str, *, upstream_model: str, api_key: str) -> inference.Backend:
    """A backend, written as URL[,weight=N][,model=NAME][,key-env=VAR]. Raises CliError."""
    url, *parts = text.split(",")
    made = inference.Backend(
        engine=inference.EngineKind[engine.name],
        url=url.strip(),
        upstream_model=upstream_model,
        api_key=api_key,
    )
    for part in parts:
        name, _, value = part.strip().partition("=")
        if name == "weight" and value.isdigit() and 1 <= int(value) <= 1000:
            made.weight = int(value)
        elif name == "model" and value:
            made.upstream_model = value
        elif name == "key-env" and os.environ.get(value):
            made.api_key = os.environ[value]
        elif name == "key-env":
            raise wrong_usage(f"The environment has no variable {value!r} with an API key.")
        else:
            raise wrong_usage(
                f"{part!r} is no part of a backend.",
                "Write one as http://10.0.0.7:8000/v1,weight=2,model=org/name,key-env=VAR.",
            )
    return made


def with_stored_keys(
    backends: Sequence[inference.Backend], stored: Sequence[inference.Backend]
) -> list[inference.Backend]:
    """Backends without a key of their own keep the one that their URL had."""
    keyed = {one.url for one in stored if one.api_key}
    for one in backends:
        if not one.api_key and one.url in keyed:
            one.api_key = STORED_KEY
    return list(backends)


def organization_ids(ias: Ias, references: Sequence[str] | None) -> list[str]:
    """Ids of organisations given by name or id."""
    return [names.organization(ias.stubs, one).id for one in references or ()]


def parameters(text: str) -> Struct:
    """A JSON object as a message. Raises CliError."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise wrong_usage(
            "The default parameters must be a JSON object.", 'Write them as {"temperature": 0.2}.'
        )
    return Struct(fields={name: _value(part) for name, part in found.items()})


def _value(part: Any) -> Value:
    match part:
        case None:
            return Value(null_value=NullValue(0))
        case bool():
            return Value(bool_value=part)
        case int() | float():
            return Value(number_value=float(part))
        case str():
            return Value(string_value=part)
        case list():
            return Value(list_value=ListValue(values=[_value(one) for one in part]))
    return Value(
        struct_value=Struct(fields={name: _value(one) for name, one in dict(part).items()})
    )
