"""One domain's network digital twin: everything an operator runs beside its devices."""

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    """`__version__`, looked up when it is asked for: the look-up costs 25 ms of every start."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fedtwin")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0+unknown"
