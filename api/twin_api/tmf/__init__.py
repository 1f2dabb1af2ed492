"""TM Forum APIs by one engine (TMF630) and a table for each resource; the broker decides, this talks."""

from twin_api.tmf.apis import APIS
from twin_api.tmf.asked import Commands
from twin_api.tmf.engine import Engine, routes
from twin_api.tmf.errors import error_body, error_response
from twin_api.tmf.present import presenter

__all__ = ["APIS", "Commands", "Engine", "error_body", "error_response", "presenter", "routes"]
