"""One domain's network digital twin: everything an operator runs beside its devices."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("fedtwin")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
