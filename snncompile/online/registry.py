"""Networks by name, so that a checkpoint can say how to build what it holds."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from snncompile.errors import InternalError, fail

Factory = TypeVar("Factory", bound=Callable[..., nn.Module])
_FACTORIES: dict[str, Callable[..., nn.Module]] = {}


def register_network(name: str) -> Callable[[Factory], Factory]:
    """Make a factory known under ``name``:  ``@register_network("ottt_vgg")``."""

    def register(factory: Factory) -> Factory:
        if name in _FACTORIES:
            raise InternalError(f"two networks are registered as {name!r}")
        _FACTORIES[name] = factory
        return factory

    return register


def list_networks() -> list[str]:
    """The registered names, sorted."""
    return sorted(_FACTORIES)


def factory_of(name: str) -> Callable[..., nn.Module]:
    """The factory registered under a name."""
    return _FACTORIES[name]


def build_network(name: str, **kwargs: Any) -> nn.Module:
    """Build the network ``name`` with the factory's keyword arguments.

    Errors   SNN701 no such network (the nearest names are given); SNN702 arguments that the factory does not take
    """
    if name not in _FACTORIES:
        near = difflib.get_close_matches(name, _FACTORIES, n=3, cutoff=0.4)
        way_out = f"did you mean {' or '.join(near)}?" if near else "register your own with @register_network"
        raise fail("SNN701", f"no network is registered as {name!r}", notes=[f"known: {', '.join(list_networks())}"], help=way_out)
    factory = _FACTORIES[name]
    signature = inspect.signature(factory)
    try:
        signature.bind(**kwargs)
    except TypeError as error:
        raise fail("SNN702", f"network {name!r}: {error}", notes=[f"its arguments are {signature}"]) from None
    return factory(**kwargs)
