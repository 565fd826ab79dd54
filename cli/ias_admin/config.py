"""`ias-admin config`: what is remembered between runs."""

import os
from enum import StrEnum
from typing import Annotated

import typer

from ias_admin import values
from ias_admin.client import Address
from ias_admin.command import Ias, command, group, say
from ias_admin.errors import wrong_usage
from ias_admin.output import Column, Format, Record, View, time

app = group(
    "config",
    "Show and set what ias-admin remembers.",
    ["ias-admin config set address https://ias.example.com", "ias-admin config show"],
)

VIEW = View(
    identifier="address",
    columns=(
        Column("Address", "address"),
        Column("Output", "output"),
        Column("File", "file"),
        Column("Signed in as", "session.email"),
        Column("Session until", "session.refresh_expire_time", time),
    ),
    fields=("address", "output", "file", "session.email", "session.refresh_expire_time"),
)


class Setting(StrEnum):
    """What can be set."""

    ADDRESS = "address"
    OUTPUT = "output"


@command(app, "show", examples=["ias-admin config show"])
def show(ias: Ias) -> None:
    """Show where IAS is looked for and who is signed in there; never a token."""
    ias.printer.one(VIEW, _row(ias))


@command(
    app,
    "set",
    examples=[
        "ias-admin config set address ias.example.com:8080",
        "ias-admin config set address https://ias.example.com",
        "ias-admin config set output json",
    ],
)
def set_(
    ias: Ias,
    setting: Annotated[Setting, typer.Argument(help="Which.")],
    value: Annotated[str, typer.Argument(help="For address: where IAS listens; for output: how.")],
) -> None:
    """Set where IAS is looked for, or how results are printed."""
    with ias.file.edit() as config:
        if setting is Setting.ADDRESS:
            config.address = str(Address.parse(value))
        elif value in list(Format):
            config.output = Format(value).value
        else:
            raise wrong_usage(f"There is no output {value!r}.", f"One of: {', '.join(Format)}.")
    ias.printer.one(VIEW, _row(ias))
    if setting is Setting.ADDRESS and os.environ.get("IAS_GRPC"):
        say("IAS_GRPC is set and goes before the configuration.")


def _row(ias: Ias) -> Record:
    session = ias.config.sessions.get(str(ias.address))
    return {
        "address": str(ias.address),
        "output": ias.printer.form.value,
        "file": str(ias.file.path),
        "session": session
        and {
            "email": session.email,
            "refresh_expire_time": values.iso(session.refresh_expire_time),
        },
    }
