"""ias-envoy: renders Envoy's configuration, and keeps it in step with the registry of models.

    ias-envoy render --out DIR            from the environment, IAS_ENVOY_* and IAS_*_TARGET
    ias-envoy render --out DIR --inference-target 10.0.0.5:8093,10.0.0.6:8093
    ias-envoy watch --out DIR             beside Envoy, with IAS_REDIS_URL: models with adapters of
                                          their own get clusters as they come and go

Every setting but IAS_REDIS_URL is an option as well; an option wins. Rendered again into the
directory of a running Envoy, changed clusters and routes are in force at once. Start Envoy with

    envoy --disable-hot-restart -c DIR/bootstrap.yaml --concurrency N

where N is the cores that Envoy may use. On a machine that it shares with the services, half of
the cores is a good start: each worker has connections of its own to every process, and a request
costs Envoy about as much CPU time as it costs identity.
"""

import argparse
import sys
from pathlib import Path

from ias_envoy.adapters import written
from ias_envoy.render import render
from ias_envoy.settings import Settings
from ias_envoy.watch import follow, write


def main() -> None:
    """Exits with 2 when a setting can't be used, with 1 when a file can't be read or written."""
    options = vars(_parser().parse_args())
    directory: Path = options.pop("out")
    command = options.pop("command")
    given = {name: value for name, value in options.items() if value is not None}
    try:
        settings = Settings(**given)
        if command == "watch":
            redis_url = settings.redis_url.get_secret_value()
            if not redis_url:
                raise ValueError("watch needs IAS_REDIS_URL")
            follow(directory, settings.clusters(), redis_url)
        # What `watch` has added stays.
        clusters = [*settings.clusters(), *written(directory)]
        changed = write(render(settings.edge(directory), clusters), directory)
    except ValueError as error:
        print(f"ias-envoy: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"ias-envoy: {error}", file=sys.stderr)
        sys.exit(1)
    print(f"{directory}: {', '.join(changed) or 'nothing'} changed")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ias-envoy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    render_ = commands.add_parser("render", help="write bootstrap.yaml, clusters.yaml, routes.yaml")
    watch = commands.add_parser("watch", help="keep clusters.yaml in step with the registry")
    for command in (render_, watch):
        command.add_argument("--out", type=Path, required=True, metavar="DIR")
        for name, field in Settings.model_fields.items():
            if name == "redis_url":  # holds a password, which no command line should
                continue
            command.add_argument(
                f"--{name.replace('_', '-')}",
                dest=name,
                help=f"IAS_{name.upper()}, {field.default!s} unless set",
            )
    return parser


if __name__ == "__main__":
    main()
