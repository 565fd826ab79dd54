"""What `$ref` may do in a JSON schema: point into it, and neither in circles nor without end.

A schema that comes to itself through a property or an item is a tree or a list, and fine. One that
stands for itself says nothing, and whoever looks for what it says looks for ever.
"""

from collections.abc import Callable, Iterable, Iterator

from ias_inference.domain.errors import InvalidRequest

MAX_EXPANDED = 1_000_000
"""JSON values when all references are put in, each once on its way: some engines do that."""

_BESIDE = ("allOf", "anyOf", "oneOf")
_INSTEAD = ("not", "if", "then", "else")
_Node = dict[str, object] | list[object]


def check(field: str, root: object, referring: Iterable[dict[str, object]]) -> None:
    """Bounds the references of a schema, those of the objects in `referring`.

    Raises InvalidRequest.
    """
    targets = {id(one): _target(field, root, str(one["$ref"])) for one in referring}

    def in_place(node: _Node) -> Iterator[_Node]:
        """What a schema applies to the very value that it is applied to."""
        if isinstance(node, list):
            yield from _nodes(node)
            return
        if id(node) in targets:
            yield targets[id(node)]
        yield from _nodes(node[name] for name in _INSTEAD if name in node)
        yield from _nodes(node[name] for name in _BESIDE if name in node)

    if any(_circles(referring, in_place, lambda *_: None)):
        raise InvalidRequest(field, f"'{field}' has a '$ref' that leads back to itself.")
    if isinstance(root, (dict, list)) and _expanded(root, targets) > MAX_EXPANDED:
        raise InvalidRequest(
            field, f"'{field}' has more than {MAX_EXPANDED} JSON values when its '$ref' are put in."
        )


def _target(field: str, root: object, reference: str) -> _Node:
    """What `#/$defs/Name` points at. Raises InvalidRequest."""
    at, *path = reference.split("/")
    if at != "#":
        told = f"'$ref' must be '#' or begin with '#/': {reference[:100]!r}"
        raise InvalidRequest(field, f"Invalid schema in '{field}': {told}.")
    found = root
    for step in path:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(name)
        elif isinstance(found, list) and name.isascii() and name.isdigit():
            found = found[int(name)] if len(name) < 6 and int(name) < len(found) else None
        else:
            found = None
    if found is True or found is False:
        return {}
    if not isinstance(found, dict):
        told = f"'$ref' points at no schema: {reference[:100]!r}"
        raise InvalidRequest(field, f"Invalid schema in '{field}': {told}.")
    return found


def _expanded(root: _Node, targets: dict[int, _Node]) -> int:
    """JSON values when the references are put in; a bit more than MAX_EXPANDED at most."""
    sizes: dict[int, int] = {}

    def children(node: _Node) -> Iterator[_Node]:
        yield from _nodes(node.values() if isinstance(node, dict) else node)
        if id(node) in targets:
            yield targets[id(node)]

    def leave(node: _Node, below: list[_Node]) -> None:
        # What is still being measured, a schema within itself, counts as nothing more.
        size = len(node) + sum([sizes.get(id(child), 0) for child in below])
        sizes[id(node)] = min(size, MAX_EXPANDED + 1)

    for _ in _circles([root], children, leave):
        pass
    return sizes[id(root)]


def _nodes(values: Iterable[object]) -> Iterator[_Node]:
    return (value for value in values if isinstance(value, (dict, list)))


def _circles(
    starts: Iterable[_Node],
    children: Callable[[_Node], Iterator[_Node]],
    leave: Callable[[_Node, list[_Node]], None],
) -> Iterator[bool]:
    """Goes everywhere once, depth first; yields True for each way back into what it is in."""
    inside: dict[int, bool] = {}
    for start in starts:
        if id(start) in inside:
            continue
        inside[id(start)] = True
        below = list(children(start))
        path = [(start, below, iter(below))]
        while path:
            node, below, rest = path[-1]
            for child in rest:
                if id(child) not in inside:
                    inside[id(child)] = True
                    below = list(children(child))
                    path.append((child, below, iter(below)))
                    break
                if inside[id(child)]:
                    yield True
            else:
                path.pop()
                inside[id(node)] = False
                leave(node, below)
