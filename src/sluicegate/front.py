"""Front: the names that a package shows, each loaded from its module when it is asked for.

The ``__init__`` of a package with many modules has one (PEP 562). Who imports one name of such a
package, or one of its modules, does not load all the others: a command and each process of a gate
start with what they use. The invariant: a name is loaded by the ``import`` that asks for it, so
what is missing or wrong fails there, and nothing is loaded later by a process that works.

Type checkers do not run it: they read the same names from imports under ``TYPE_CHECKING``, and
``tests/repo`` holds both to say the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

__all__ = ["front"]


def front(package: str, **modules: Sequence[str]) -> Callable[[str], object]:
    """Return what a package has as its ``__getattr__``.

    Args:
        package: Its ``__name__``.
        modules: For each module of it, the names that the package shows of it. None may be called
            as a module is: the import system keeps modules under their names.
    """
    places = {name: module for module, names in modules.items() for name in names}

    def load(name: str) -> object:
        module = places.get(name)
        if module is None:
            # What the import system asks for first when it is to load a module of that name.
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{package}.{module}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return load
