"""`ias-admin`: the command line of IAS."""

import os
from importlib.metadata import version as installed_version
from typing import Annotated

# grpc-core writes diagnostics of its own to stderr, where people read two lines of ours.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import typer

from ias_admin import (
    audit,
    bootstrap,
    budget,
    chat,
    config,
    key,
    model,
    org,
    session,
    usage,
    user,
)
from ias_admin.command import (
    ConfigOption,
    GrpcOption,
    Options,
    OutputOption,
    QuietOption,
    YesOption,
    command,
    group,
)

_SESSION, _TENANCY, _MODELS, _SETUP = "Session", "Organisations", "Models and usage", "Setup"

app = group(
    "ias-admin",
    "Run IAS, Inference-as-a-Service, from the terminal.\n\n"
    "Names are accepted wherever ids are. Exit codes: 0 done, 1 failed, 2 wrong usage, "
    "3 not allowed, 4 not found. Every command has examples in its --help.",
    [
        "ias-admin login --email ops@example.com",
        "ias-admin org create acme",
        "ias-admin user invite ann@acme.org --role org_admin --org acme",
        "ias-admin budget set --org acme --tokens 5M",
        "ias-admin model add llama --engine openai --url http://10.0.0.7:8000/v1",
        "ias-admin usage --by model,user --last 30d",
    ],
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ias-admin {installed_version('ias')}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    *,
    output: OutputOption = None,
    quiet: QuietOption = False,
    yes: YesOption = False,
    grpc: GrpcOption = None,
    config: ConfigOption = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Keeps the global options that stand before the command."""
    ctx.obj = Options(output, quiet, yes, grpc, config)


command(app, "login", examples=session.LOGIN_EXAMPLES, panel=_SESSION)(session.login)
command(app, "logout", examples=session.LOGOUT_EXAMPLES, panel=_SESSION)(session.logout)
command(app, "whoami", examples=session.WHOAMI_EXAMPLES, panel=_SESSION)(session.whoami)
command(app, "usage", examples=usage.EXAMPLES, panel=_MODELS)(usage.usage)
command(app, "chat", examples=chat.EXAMPLES, panel=_MODELS)(chat.chat)
for noun, panel in (
    (org.app, _TENANCY),
    (user.app, _TENANCY),
    (key.app, _TENANCY),
    (budget.app, _TENANCY),
    (audit.app, _TENANCY),
    (model.app, _MODELS),
    (bootstrap.app, _SETUP),
    (config.app, _SETUP),
):
    app.add_typer(noun, rich_help_panel=panel)


def main() -> None:
    """Runs the command line that the process was started with."""
    app(prog_name="ias-admin")


if __name__ == "__main__":
    main()
