"""What needs the notebooks' packages is imported when it is first asked for.

`import attention` needs torch and little else; pandas, say, is imported by who uses a table.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def at_first_use(package: str, where: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose names in `where` are imported when they are used.

    where: {name: the module that has it}; for a module, its own name.

    It raises ImportError, naming what is missing and the extra that has it, where the notebooks'
    packages are not installed.
    """

    def look_up(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            module = importlib.import_module(where[name])
        except ModuleNotFoundError as error:
            raise ImportError(
                f"{package}.{name} needs {error.name}, which is not installed: it comes with the "
                'extra of the notebooks, "attention-in-image-classifiers[notebooks]" (see README)',
                name=error.name,
            ) from error
        found = module if where[name] == f"{package}.{name}" else getattr(module, name)
        setattr(sys.modules[package], name, found)  # and is found there the next time
        return found

    return look_up
