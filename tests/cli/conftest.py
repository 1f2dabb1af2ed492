"""typer is imported here, once, with its own use of what click 8.5 deprecates set aside."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import typer  # noqa: F401
