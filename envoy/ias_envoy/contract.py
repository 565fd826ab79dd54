"""What Envoy must know of the contracts, read from the descriptors so that nobody must remember.

A service whose every RPC is for services alone stays inside the mesh. A service whose RPCs call
models is routed by identity's choice of a cluster; every other one by its package:
`ias.metering.v1.…` belongs to the cluster `metering`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2
from ias.access.v1 import access_pb2

_HTTP_METHODS = ("get", "put", "post", "delete", "patch")
_VARIABLE = re.compile(r"\{[^}=]+(?:=(?P<pattern>[^}]*))?\}")


@dataclass(frozen=True, slots=True)
class RestRule:
    """One google.api.http binding."""

    method: str
    """HTTP method in capitals."""
    template: str
    """Path template, as `/api/v1/users/{user_id}`."""

    @property
    def is_exact(self) -> bool:
        """Whether the template is one path."""
        return "{" not in self.template

    def regex(self) -> str:
        """RE2 for the paths that the template means, undecoded and without a query."""
        pieces: list[str] = []
        end = 0
        for variable in _VARIABLE.finditer(self.template):
            pieces.append(_literal(self.template[end : variable.start()]))
            pieces.append(_segments(variable["pattern"] or "*"))
            end = variable.end()
        pieces.append(_literal(self.template[end:]))
        return "".join(pieces)


@dataclass(frozen=True, slots=True)
class PublicService:
    """A service that clients may call."""

    name: str
    """Full name, as `ias.identity.v1.UserService`."""
    cluster: str | None
    """The cluster that serves it; None when identity chooses one for each request."""
    rest: tuple[RestRule, ...]
    """Its HTTP bindings; empty when it speaks gRPC alone."""
    model_methods: tuple[str, ...]
    """Names of the RPCs whose request names a model in the field `model`."""


def public_services(descriptors: Path) -> list[PublicService]:
    """In the order of their names. Raises OSError when the file can't be read."""
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes()).file
    messages = {
        f".{file.package}.{message.name}": message
        for file in files
        for message in file.message_type
    }
    found = [
        _public(file.package, service, messages)
        for file in files
        for service in file.service
        if file.package.startswith("ias.") and not _is_internal(service)
    ]
    return sorted(found, key=lambda service: service.name)


def _public(
    package: str,
    service: descriptor_pb2.ServiceDescriptorProto,
    messages: dict[str, descriptor_pb2.DescriptorProto],
) -> PublicService:
    calls_models = all(
        _permission(m) == access_pb2.PERMISSION_INFERENCE_CALL for m in service.method
    )
    return PublicService(
        name=f"{package}.{service.name}",
        cluster=None if calls_models else package.split(".")[1],
        rest=tuple(rule for method in service.method for rule in _rest_rules(method)),
        model_methods=tuple(
            method.name
            for method in service.method
            if calls_models and not _is_rest(method) and _names_model(messages[method.input_type])
        ),
    )


def _is_internal(service: descriptor_pb2.ServiceDescriptorProto) -> bool:
    rules = [method.options.Extensions[access_pb2.access] for method in service.method]
    return all(rule.WhichOneof("rule") == "service" for rule in rules)


def _permission(method: descriptor_pb2.MethodDescriptorProto) -> int:
    return method.options.Extensions[access_pb2.access].permission


def _is_rest(method: descriptor_pb2.MethodDescriptorProto) -> bool:
    return method.options.HasExtension(annotations_pb2.http)


def _names_model(message: descriptor_pb2.DescriptorProto) -> bool:
    text = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
    return any(field.name == "model" and field.type == text for field in message.field)


def _rest_rules(method: descriptor_pb2.MethodDescriptorProto) -> Iterator[RestRule]:
    if not _is_rest(method):
        return
    rule: http_pb2.HttpRule = method.options.Extensions[annotations_pb2.http]
    for binding in (rule, *rule.additional_bindings):
        http_method = binding.WhichOneof("pattern")
        assert http_method in _HTTP_METHODS, f"{method.name}: custom HTTP methods aren't used"
        yield RestRule(http_method.upper(), getattr(binding, http_method))


def _literal(text: str) -> str:
    # re.escape would escape `-` and `/` as well, and the YAML is to be read by people.
    return re.sub(r"([.+*?()|\[\]{}^$\\])", r"\\\1", text)


def _segments(pattern: str) -> str:
    joined = {"*": "[^/]+", "**": ".+"}
    return "".join(joined.get(part) or _literal(part) for part in re.split(r"(\*+)", pattern))
