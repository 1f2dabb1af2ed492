"""The tables against TM Forum's documents, the documents made of the tables, and the older dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import jsonschema
import pytest
import pytest_asyncio
from tmf_bodies import CREATED, every, patch_of, path_of
from tmf_contract import DEVIATIONS, EXTENSIONS, official
from tmf_parts import BASES, PUBLIC_ADDRESS, Served, is_error, served

from federation.partners.record import Kind
from twin_api.caller import Scope
from twin_api.tmf import APIS
from twin_api.tmf.openapi import document
from twin_api.tmf.shapes import Basic
from twin_api.tmf.shapes_data import SHAPES
from twin_api.tmf.table import Api, Operation, Resource

RESOURCES = [
    pytest.param(api, resource, id=f"{api.number}-{resource.path}")
    for api in APIS
    for resource in api.resources
]
SAME = {"string": {"text", "date", "url"}, "boolean": {"bool"}, "object": {None}, "integer": {"int"}}
EVERYWHERE = {"@type", "@baseType", "@schemaLocation", "@referredType"}


def properties(definitions: Any, name: str) -> dict[str, Any]:
    """The properties of an official definition, with those of what it extends."""
    found: dict[str, Any] = {}
    for part in [definitions[name], *definitions[name].get("allOf", [])]:
        if "$ref" in part:
            found |= properties(definitions, part["$ref"].rpartition("/")[2])
        found |= part.get("properties", {})
    return found


@pytest.mark.parametrize(("api", "resource"), RESOURCES)
def test_a_table_has_the_attributes_of_the_official_document(api: Api, resource: Resource) -> None:
    definitions = official(api.number)["definitions"]
    names = properties(definitions, resource.shape.name).keys() - EVERYWHERE
    extra = {each for kind in resource.types if kind in definitions for each in properties(definitions, kind)}

    ours = resource.shape.attributes.keys() - EVERYWHERE

    assert ours >= names
    assert ours <= names | extra | EXTENSIONS[api.number].get(resource.shape.name, frozenset())
    for name in names:
        theirs, attribute = (
            properties(definitions, resource.shape.name)[name],
            resource.shape.attributes[name],
        )
        target = theirs.get("$ref", "").rpartition("/")[2]
        kind = definitions[target].get("type") if target else theirs.get("type")
        assert attribute.many == (kind == "array"), name
        if not attribute.many:
            assert attribute.basic in SAME[kind], name
            assert (attribute.basic == Basic.DATE) == (theirs.get("format") == "date-time"), name
        if attribute.values and target:
            assert set(attribute.values) == set(definitions[target]["enum"]), name


@pytest.mark.parametrize(("api", "resource"), RESOURCES)
def test_a_table_takes_what_the_official_document_says_may_be_created_and_changed(
    api: Api, resource: Resource
) -> None:
    definitions = official(api.number)["definitions"]
    name = resource.shape.name

    if Operation.CREATE in resource.allowed:
        creatable = properties(definitions, f"{name}_Create").keys() - EVERYWHERE
        assert set(resource.writable()) >= creatable - {"id", "href"}
        assert set(resource.served).isdisjoint(creatable)
        required = set(definitions[f"{name}_Create"].get("required", ())) - {"id", "href"}
        assert set(resource.mandatory) == required
    if Operation.CHANGE in resource.allowed:
        updatable = properties(definitions, f"{name}_Update").keys() - EVERYWHERE
        kinds = {
            each for kind in resource.types if kind in definitions for each in properties(definitions, kind)
        }
        whole = properties(definitions, name).keys()
        assert set(resource.changeable()) <= updatable | (kinds - whole)


METHODS = {
    Operation.LIST: ("", "get"),
    Operation.CREATE: ("", "post"),
    Operation.READ: ("/{id}", "get"),
    Operation.CHANGE: ("/{id}", "patch"),
    Operation.REMOVE: ("/{id}", "delete"),
}


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.number)
def test_an_api_has_the_paths_methods_and_events_of_the_official_document(api: Api) -> None:
    paths = official(api.number)["paths"]
    listeners = {path for path in paths if path.startswith("/listener")}
    operations: dict[str, set[str]] = {}
    for resource in (*api.resources, api.hub):
        for operation in resource.allowed:
            suffix, method = METHODS[operation]
            operations.setdefault(f"/{resource.path}{suffix}", set()).add(method)

    assert operations.keys() == paths.keys() - listeners
    for path, methods in operations.items():
        extra = {"get", "patch"} if path.startswith("/hub") else set[str]()
        assert methods - extra == {method for method in paths[path] if method != "parameters"} - extra, path
    told = {f"/listener/{name[0].lower()}{name[1:]}" for name in api.events}
    assert told <= listeners
    assert {each.rpartition("/")[2] for each in listeners - told} <= {"serviceCatalogBatchEvent"}


def test_deviations_are_still_ones() -> None:
    for number, definitions in DEVIATIONS.items():
        assert number == "TMF642"
        assert set(definitions) == {"Alarm", "AlarmRefOrValue"}


def test_tables_are_sound() -> None:
    for api in APIS:
        for resource in (*api.resources, api.hub):
            names = resource.shape.attributes.keys()
            named = {
                *resource.mandatory,
                *resource.served,
                *resource.ignored,
                *resource.fixed,
                *resource.stamps,
            }
            assert named <= names, resource.path
            assert set(resource.mandatory).isdisjoint({*resource.served, *resource.ignored})
            assert set(resource.apart) < set(resource.types)
            assert isinstance(resource.kind, Kind)
            assert all(isinstance(scope, Scope) for scopes in resource.allowed.values() for scope in scopes)
            if resource.states:
                values = set(resource.shape.attributes[resource.states.attribute].values)
                moves = resource.states.moves
                assert {*moves, *(to for after in moves.values() for to in after)} <= values
                assert set(resource.states.terminal) <= values - set(moves)
    for shape in SHAPES.values():
        for name, attribute in shape.attributes.items():
            assert attribute.basic is not None or attribute.shape in SHAPES, (shape.name, name)


def references(value: Any) -> Iterator[str]:
    """All references in a document."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name == "$ref":
                yield each
            else:
                yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.number)
def test_a_document_is_sound(api: Api) -> None:
    made = document(api, PUBLIC_ADDRESS)

    assert made["openapi"].startswith("3.0.")
    assert made["servers"] == [{"url": PUBLIC_ADDRESS + api.base}]
    for reference in references(made):
        target = made
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
    operations = [
        (path, method, operation)
        for path, item in made["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]
    identities = [operation["operationId"] for _, _, operation in operations]
    assert len(identities) == len(set(identities))
    for path, _, operation in operations:
        assert operation["responses"]
        assert {"400", "401", "403", "429", "503"} <= operation["responses"].keys()
        assert all("description" in each or "$ref" in each for each in operation["responses"].values())
        assert ("{id}" in path) == ("parameters" in made["paths"][path])
        names = [(each["in"], each["name"]) for each in operation["parameters"]]
        assert len(names) == len(set(names))
        assert all(each["schema"]["type"] for each in operation["parameters"])
    for schema in made["components"]["schemas"].values():
        jsonschema.Draft4Validator.check_schema(schema)
        assert set(schema.get("required", ())) <= schema["properties"].keys()
    used = {reference.rpartition("/")[2] for reference in references(made)}
    assert set(made["components"]["schemas"]) <= used
    assert made["security"] == [{name: []} for name in made["components"]["securitySchemes"]]


def fits(api: Api, schema: dict[str, Any], value: Any) -> list[str]:
    """What our own document has against a value."""
    whole = {**schema, "components": document(api, PUBLIC_ADDRESS)["components"]}
    return [error.message for error in jsonschema.Draft4Validator(whole).iter_errors(value)]


@pytest.mark.parametrize(("api", "resource"), every(Operation.CREATE))
async def test_bodies_that_are_taken_and_answered_are_those_of_our_own_document(
    api: Api, resource: Resource
) -> None:
    name = resource.shape.name
    created = {"$ref": f"#/components/schemas/{name}_Create"}
    async with served() as running:
        made = await running.http.post(path_of(api, resource), json=CREATED[resource.path])

    assert fits(api, created, CREATED[resource.path]) == []
    assert fits(api, created, {**CREATED[resource.path], "id": "x"}) != []
    assert fits(api, created, {}) != []
    paths = document(api, PUBLIC_ADDRESS)["paths"]
    shown = paths[f"/{resource.path}"]["post"]["responses"]["201"]["content"]["application/json"]["schema"]
    assert fits(api, shown, made.json()) == []
    assert fits(api, shown, {}) != []
    if Operation.CHANGE in resource.allowed:
        changed = {"$ref": f"#/components/schemas/{name}_Update"}
        assert fits(api, changed, patch_of(resource)) == []
        assert fits(api, changed, {"href": "x"}) != []


@pytest_asyncio.fixture
async def v3() -> AsyncIterator[Served]:
    async with served(dialects=["v3"]) as running:
        yield running


async def test_documents_are_served_to_whoever_asks(v3: Served) -> None:
    for api in APIS:
        answer = await v3.http.get(f"/openapi/{api.name}.json")
        assert answer.json() == document(api, PUBLIC_ADDRESS)
    is_error(await v3.http.get("/openapi/nothing.json"), 404)


async def test_the_older_dialect_renames_and_does_the_same(v3: Served) -> None:
    orders = "/tmf-api/serviceOrdering/v3/serviceOrder"
    item = {"id": "1", "action": "add", "service": {"serviceSpecification": {"id": "NdtTwin"}}}
    related = {"orderItemRelationship": [{"relationshipType": "reliesOn", "orderItem": {"itemId": "1"}}]}

    made = await v3.http.post(orders, json={"orderItem": [item | related]})
    body = made.json()

    assert made.status_code == 201, made.text
    assert made.headers["location"] == body["href"] == f"{PUBLIC_ADDRESS}{orders}/{body['id']}"
    assert body["orderItem"] == [item | related]
    assert "serviceOrderItem" not in body
    ours = (await v3.http.get(f"{BASES['TMF641']}/serviceOrder/{body['id']}")).json()
    assert ours["serviceOrderItem"] == [
        item | {"serviceOrderItemRelationship": related["orderItemRelationship"]}
    ]
    for query in ("orderItem.action=add", "fields=orderItem.id&orderItem.id=1", "sort=orderItem.id"):
        listed = await v3.http.get(f"{orders}?{query}")
        assert [each["orderItem"][0]["id"] for each in listed.json()] == ["1"]
        assert query in listed.headers["link"]
    changed = await v3.http.patch(f"{orders}/{body['id']}", json={"orderItem": [item | {"id": "2"}]})
    assert changed.json()["orderItem"][0]["id"] == "2"
    assert (await v3.http.get(f"{orders}/{body['id']}")).json() == changed.json()
    is_error(await v3.http.post(orders, json={}), 400)

    specifications = "/tmf-api/serviceTestManagement/v3/serviceTestSpecification"
    one = {"name": "t", "relatedServiceSpecification": {"id": "NdtScenario"}}
    answer = await v3.http.post(specifications, json=one)
    assert one.items() <= answer.json().items()
    listed = await v3.http.get(f"{BASES['TMF653']}/serviceTestSpecification")
    assert listed.json()[0]["relatedServiceSpecification"] == [{"id": "NdtScenario"}]


async def test_the_older_dialect_is_off_until_it_is_asked_for() -> None:
    async with served() as running:
        answer = await running.http.get("/tmf-api/serviceOrdering/v3/serviceOrder")

    assert answer.status_code == 404
