"""Which published objects can be read. Pure.

Anybody in a cluster can write a definition that makes no sense. It is left out and named, and
does not count against other networks. The same goes for what a driver publishes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, cast

from kar_checks.cluster.client import Object

_CEL_PAIRS = {")": "(", "]": "[", "}": "{"}
_CEL_TEXT = re.compile(r"""(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|//[^\n]*""")
_CEL_HALF = re.compile(
    r"(?:&&|\|\||[=!<>]=|[<>+*/%?:,.-])\s*$|^\s*(?:&&|\|\||[=<>]=?|!=|[+*/%?:,.])"
)


def sift(
    kind: str, found: Iterable[Object], why: Callable[[Object], str], left_out: list[str]
) -> list[Object]:
    """Return the objects that can be read; the others are named in ``left_out`` with the reason."""
    out: list[Object] = []
    for one in found:
        problem = why(one)
        if problem:
            left_out.append(f"{kind} {_name(one)}: {problem}")
        else:
            out.append(one)
    return out


def _name(one: Object) -> str:
    meta: Object = one.get("metadata") or {}
    namespace = f"{meta['namespace']}/" if meta.get("namespace") else ""
    return f"{namespace}{meta.get('name', 'without a name')}"


# -- NetworkAttachmentDefinitions -----------------------------------------------------------


def why_not_definition(one: Object) -> str:
    """Return why a NetworkAttachmentDefinition cannot be used; empty if it can."""
    try:
        whole, plugins = _configured(one)
    except ValueError as error:
        return str(error)
    for key in ("cniVersion", "name"):
        if not isinstance(whole.get(key, ""), str):
            return f"{key} in its config is not a string"
    for plugin in plugins:
        if not isinstance(plugin.get("type"), str) or not plugin["type"]:
            return "a plugin in its config has no type"
        if not isinstance((plugin.get("ipam") or {}).get("type", ""), str):
            return "the type of ipam in its config is not a string"
    return ""


def configuration(definition: Object) -> Object:
    """Return the configuration of the plugin that makes a definition's interface.

    Empty if it leaves that to a file on the nodes, or has none that can be read.
    """
    try:
        _, plugins = _configured(definition)
    except ValueError:
        return {}
    return plugins[0] if plugins else {}


def _configured(definition: Object) -> tuple[Object, list[Object]]:
    """Return the whole configuration and its plugins.

    Raises:
        ValueError: it is none that a CNI plugin could be called with.
    """
    spec: Any = definition.get("spec") or {}
    text: Any = spec.get("config") if isinstance(spec, dict) else 0
    if text is None or text == "":
        return {}, []
    if not isinstance(text, str):
        raise ValueError("its config is not a string")
    try:
        found: Any = json.loads(text)
        # What is not Unicode could not be stored.
        json.dumps(found, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("its config is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"its config is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError("its config is not a JSON object")
    whole = cast("Object", found)
    plugins: Any = whole.get("plugins")
    if plugins is None:
        plugins = [whole]
    if not isinstance(plugins, list) or not plugins:
        raise ValueError("plugins in its config is not a list of plugins")
    if not all(isinstance(one, dict) for one in plugins):
        raise ValueError("a plugin in its config is not an object")
    if not all(isinstance(one.get("ipam") or {}, dict) for one in plugins):
        raise ValueError("ipam in its config is not an object")
    return whole, plugins


# -- DeviceClasses and ResourceSlices -------------------------------------------------------


def why_not_class(one: Object) -> str:
    """Return why a DeviceClass cannot be used; empty if it can."""
    try:
        told = expressions(one)
    except (AttributeError, KeyError, TypeError):
        return "its selectors do not have the form of the API"
    return next((f"its selector is not CEL: {why}" for text in told if (why := not_cel(text))), "")


def expressions(device_class: Object) -> list[str]:
    """Return the CEL expressions of a DeviceClass.

    Raises:
        AttributeError, KeyError, TypeError: its selectors do not have the form of the API.
    """
    selectors: list[Object] = (device_class.get("spec") or {}).get("selectors") or []
    found: list[Any] = [one["cel"]["expression"] for one in selectors if one.get("cel")]
    if not all(isinstance(one, str) for one in found):
        raise TypeError("an expression is not a string")
    return found


def not_cel(expression: str) -> str:
    """Return what keeps a text from being an expression; the API server checks more than this."""
    plain = _CEL_TEXT.sub(lambda found: "0" if found["text"] else "", expression)
    if not plain.strip():
        return "it is empty"
    if '"' in plain or "'" in plain:
        return "a string in it is not closed"
    opened: list[str] = []
    for one in plain:
        if one in _CEL_PAIRS.values():
            opened.append(one)
        elif one in _CEL_PAIRS and (not opened or opened.pop() != _CEL_PAIRS[one]):
            return f"{one} closes nothing"
    if opened:
        return f"{opened[-1]} is never closed"
    return "it begins or ends with an operator" if _CEL_HALF.search(plain) else ""


def unpublished(expression: str, driver: str, devices: Iterable[Object]) -> str:
    """Return the first attribute of a driver that an expression reads, and some device lacks.

    Reading it there is an error, and the scheduler places no pod for it. An expression that asks
    beforehand whether the attribute exists is none of these.
    """
    domain = rf"""device\.attributes\[["']{re.escape(driver)}["']\]"""
    known = [set(one.get("attributes") or {}) for one in devices]
    for found in re.finditer(rf"""{domain}(?:\.(\w+)|\[["'](\w+)["']\])""", expression):
        name = found[1] or found[2]
        asked = rf"""["']{name}["']\s+in\s|has\([^)]*\b{name}\s*\)|\?\s*\.?\s*\[?["']?{name}\b"""
        if re.search(asked, expression):
            continue
        if any(not {name, f"{driver}/{name}"} & each for each in known):
            return name
    return ""


def why_not_slice(one: Object) -> str:
    """Return why a ResourceSlice cannot be read; empty if it can."""
    spec: Any = one.get("spec")
    if not isinstance(spec, dict):
        return "it has no spec"
    for key in ("driver", "pool"):
        if not spec.get(key):
            return f"spec.{key} is missing"
    pool: Any = spec["pool"]
    if not isinstance(pool, dict) or not pool.get("name"):
        return "spec.pool.name is missing"
    for key in ("generation", "resourceSliceCount"):
        if not isinstance(pool.get(key, 0), int):
            return f"spec.pool.{key} is not a number"
    devices: Any = spec.get("devices") or []
    if not isinstance(devices, list):
        return "spec.devices is not a list"
    for device in devices:
        if not isinstance(device, dict) or not isinstance(device.get("name"), str):
            return "a device has no name"
        told: Any = device.get("attributes") or {}
        if not isinstance(told, dict) or not all(
            isinstance(each, dict) for each in cast("Object", told).values()
        ):
            return f"the attributes of device {device['name']} do not have the form of the API"
    return ""
