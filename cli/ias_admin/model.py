"""`ias-admin model`: the registry of what can be called."""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from ias_sdk.google.protobuf import FieldMask
from ias_sdk.ias.inference import v1 as inference

from ias_admin import model_options as options
from ias_admin import names, values
from ias_admin.client import pages
from ias_admin.command import Ias, command, group, say, secret_from
from ias_admin.errors import CliError, wrong_usage
from ias_admin.model_options import Engine, Kind
from ias_admin.model_view import CHECK_VIEW, VIEW, row
from ias_admin.output import record

app = group(
    "model",
    "Register models, change them, and switch them on and off. For System Admins.",
    [
        "ias-admin model add llama --engine openai --url http://10.0.0.7:8000/v1",
        "ias-admin model check llama",
        "ias-admin model disable llama",
    ],
)


NameArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Its name or an alias.")]


@command(
    app,
    "add",
    examples=[
        "ias-admin model add llama --engine openai --url http://10.0.0.7:8000/v1 "
        "--upstream-model meta-llama/Llama-3.1-8B-Instruct",
        "ias-admin model add qwen --url https://gpu1.example/v1 --api-key-stdin "
        "--prompt-price 0.15 --completion-price 0.60 --context-length 32768 < key.txt",
        "ias-admin model add big --backend http://gpu1:8000/v1,weight=2 "
        "--backend http://gpu2:8000/v1 --alias gpt-4o --org acme",
        "ias-admin model add fast --engine vllm --backend grpc://10.0.0.9:8193",
        "ias-admin model add mock-gpt --engine mock",
    ],
)
def add(
    ias: Ias,
    *,
    name: Annotated[str, typer.Argument(help="By which clients ask for it; may hold a slash.")],
    engine: Annotated[
        Engine,
        typer.Option(help="An OpenAI-compatible server, vLLM in an adapter of IAS, or a mock."),
    ] = Engine.OPENAI,
    url: Annotated[
        str, typer.Option(help="Of the one backend: short for --backend. Up to and with /v1.")
    ] = "",
    backend: options.BackendOption = None,
    upstream_model: options.UpstreamModelOption = "",
    api_key_stdin: options.ApiKeyOption = False,
    alias: options.AliasOption = None,
    kind: options.KindOption = None,
    org: options.OrgOption = None,
    display_name: options.DisplayNameOption = None,
    prompt_price: options.PromptPriceOption = None,
    completion_price: options.CompletionPriceOption = None,
    context_length: options.ContextOption = None,
    max_output_tokens: options.MaxOutputOption = None,
    default_max_output_tokens: options.DefaultOutputOption = None,
    default_parameters: options.DefaultsOption = None,
    allow_chat_template_kwargs: options.TemplateOption = None,
) -> None:
    """Register a model. It serves within 2 seconds, without a restart."""
    urls = [*([url] if url else []), *(backend or [])] or ([""] if engine is Engine.MOCK else [])
    if not urls:
        raise wrong_usage(
            f"The engine {engine} needs --url or --backend.", "As --url http://10.0.0.7:8000/v1."
        )
    api_key = secret_from(True, "API key") if api_key_stdin else ""
    model = inference.Model(
        name=name,
        backends=[
            options.backend(engine, one, upstream_model=upstream_model, api_key=api_key)
            for one in urls
        ],
    )
    given = _given(
        ias, alias=alias, kind=kind, org=org, display_name=display_name,
        prompt_price=prompt_price, completion_price=completion_price,
        context_length=context_length, max_output_tokens=max_output_tokens,
        default_max_output_tokens=default_max_output_tokens,
        default_parameters=default_parameters,
        allow_chat_template_kwargs=allow_chat_template_kwargs,
    )  # fmt: skip
    for field, value in given.items():
        setattr(model, field, value)
    answer = ias.stubs.models.create_model(inference.CreateModelRequest(model=model))
    _show(ias, answer.model)


@command(
    app,
    "update",
    examples=[
        "ias-admin model update llama --prompt-price 0.20 --default-max-output-tokens 512",
        "ias-admin model update big --backend http://gpu1:8000/v1 --backend http://gpu3:8000/v1",
        "ias-admin model update llama --no-aliases --all-orgs",
        """ias-admin model update llama --default-parameters '{"temperature": 0.2}'""",
    ],
)
def update(
    ias: Ias,
    *,
    model: NameArgument,
    backend: options.BackendOption = None,
    engine: Annotated[
        Engine | None, typer.Option(help="Of the new backends; unless given, as before.")
    ] = None,
    upstream_model: options.UpstreamModelOption = "",
    api_key_stdin: options.ApiKeyOption = False,
    alias: options.AliasOption = None,
    no_aliases: Annotated[
        bool, typer.Option("--no-aliases", help="Take all aliases away.")
    ] = False,
    kind: options.KindOption = None,
    org: options.OrgOption = None,
    all_orgs: Annotated[bool, typer.Option("--all-orgs", help="Let everyone call it.")] = False,
    display_name: options.DisplayNameOption = None,
    prompt_price: options.PromptPriceOption = None,
    completion_price: options.CompletionPriceOption = None,
    context_length: options.ContextOption = None,
    max_output_tokens: options.MaxOutputOption = None,
    default_max_output_tokens: options.DefaultOutputOption = None,
    default_parameters: options.DefaultsOption = None,
    allow_chat_template_kwargs: options.TemplateOption = None,
) -> None:
    """Change what is given, and nothing else, within 2 seconds.

    --backend, --alias and --org replace all that there were. A backend keeps its API key.
    """
    if (alias and no_aliases) or (org and all_orgs):
        raise wrong_usage("Some, or none?", "--alias excludes --no-aliases, --org --all-orgs.")
    if not backend and (engine or upstream_model or api_key_stdin):
        raise wrong_usage("Of which backends?", "Give every --backend that the model shall have.")
    changes = _given(
        ias, alias=[] if no_aliases else alias, kind=kind, org=[] if all_orgs else org,
        display_name=display_name, prompt_price=prompt_price, completion_price=completion_price,
        context_length=context_length, max_output_tokens=max_output_tokens,
        default_max_output_tokens=default_max_output_tokens,
        default_parameters=default_parameters,
        allow_chat_template_kwargs=allow_chat_template_kwargs,
    )  # fmt: skip
    if backend:
        before = _found(ias, model)
        kind_of_engine = engine or Engine[before.backends[0].engine.name or "OPENAI"]
        api_key = secret_from(True, "API key") if api_key_stdin else ""
        made = [
            options.backend(kind_of_engine, one, upstream_model=upstream_model, api_key=api_key)
            for one in backend
        ]
        changes["backends"] = options.with_stored_keys(made, before.backends)
    if not changes:
        raise wrong_usage("There is nothing to change.", "See --help for what can be.")
    answer = ias.stubs.models.update_model(
        inference.UpdateModelRequest(
            model=inference.Model(name=model, **changes),
            update_mask=FieldMask(paths=list(changes)),
        )
    )
    _show(ias, answer.model)


@command(app, "list", examples=["ias-admin model list", "ias-admin model list -o json"])
def list_(ias: Ias) -> None:
    """List all models, by name, the disabled ones too."""
    found = pages(ias.stubs.models.list_models, inference.ListModelsRequest(), "models")
    ias.printer.many(VIEW, map(row, found))


@command(app, "get", examples=["ias-admin model get llama"])
def get(ias: Ias, model: NameArgument) -> None:
    """Show one model."""
    _show(ias, _found(ias, model))


@command(app, "enable", examples=["ias-admin model enable llama"])
def enable(ias: Ias, model: NameArgument) -> None:
    """Let a model be called again, within 2 seconds."""
    _show(ias, ias.stubs.models.enable_model(inference.EnableModelRequest(name=model)).model)


@command(app, "disable", examples=["ias-admin model disable llama --yes"])
def disable(ias: Ias, model: NameArgument) -> None:
    """Stop a model from being called, within 2 seconds; requests that run go on."""
    ias.confirm(f"Disable the model {model}? Its callers will be refused.")
    _show(ias, ias.stubs.models.disable_model(inference.DisableModelRequest(name=model)).model)


@command(app, "remove", examples=["ias-admin model remove llama --yes"])
def remove(ias: Ias, model: NameArgument) -> None:
    """Remove a model for good. What it was used for stays in usage and audit."""
    name = _found(ias, model).name
    ias.confirm(f"Remove the model {name} and its aliases for good? Its callers will be refused.")
    ias.stubs.models.delete_model(inference.DeleteModelRequest(name=name))
    say(f"Removed {name}.")


@command(
    app, "check", examples=["ias-admin model check llama", "ias-admin model check llama -o json"]
)
def check(ias: Ias, model: NameArgument) -> None:
    """Ask each backend what it serves, and compare. Ends with 1 when something is wrong."""
    answer = ias.stubs.models.check_model(inference.CheckModelRequest(name=model))
    ias.printer.many(CHECK_VIEW, map(record, answer.backends))
    wrong = sum(bool(one.problems) for one in answer.backends)
    if wrong:
        raise CliError(
            f"{wrong} of {len(answer.backends)} backends of {answer.name} have problems."
        )


def _given(ias: Ias, **arguments: Any) -> dict[str, Any]:
    """Fields of a model, of the options that were given."""
    read: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "alias": ("aliases", list),
        "kind": ("kind", lambda kind: inference.ModelKind[Kind(kind).name]),
        "org": ("organization_ids", lambda orgs: options.organization_ids(ias, orgs)),
        "prompt_price": ("prompt_price_nanos", values.price_nanos),
        "completion_price": ("completion_price_nanos", values.price_nanos),
        "default_parameters": ("default_parameters", options.parameters),
    }
    given = {}
    for name, value in arguments.items():
        if value is not None:
            field, convert = read.get(name, (name, lambda plain: plain))
            given[field] = convert(value)
    return given


def _found(ias: Ias, name: str) -> inference.Model:
    model = ias.stubs.models.get_model(inference.GetModelRequest(name=name)).model
    assert model is not None
    return model


def _show(ias: Ias, model: inference.Model | None) -> None:
    assert model is not None
    shown = row(model)
    if ias.printer.is_table and model.organization_ids:
        known = names.Directory(ias.stubs).organizations(model.organization_ids)
        shown["organizations"] = [known.get(one, one) for one in model.organization_ids]
    ias.printer.one(VIEW, shown)
