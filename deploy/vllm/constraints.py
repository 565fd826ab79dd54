"""Prints IAS's locked versions of the packages that this virtual environment does not have yet.

Run in vLLM's environment, as pip's constraints for installing IAS beside vLLM: what vLLM brought
stays as vLLM wants it, everything else gets the version that IAS is tested with.
"""

import re
import sys
from importlib.metadata import distributions
from pathlib import Path

_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*])?==([^ \\;]+)", re.M)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Reads the lock file named on the command line."""
    installed = {_normal(found.metadata["Name"]) for found in distributions()}
    for name, version in _PIN.findall(Path(sys.argv[1]).read_text()):
        if _normal(name) not in installed:
            sys.stdout.write(f"{name}=={version}\n")


if __name__ == "__main__":
    main()
