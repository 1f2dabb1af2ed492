"""Every resource of the six APIs, by its table: create, read, list, change, remove, and who may."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tmf_bodies import CREATED, every, patch_of, path_of
from tmf_contract import conforming
from tmf_parts import PUBLIC_ADDRESS, Served, is_error, served

from federation.partners.record import Kind
from twin_api.caller import Scope
from twin_api.tmf import APIS
from twin_api.tmf.table import Api, Operation, Resource

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[Served]:
    async with served(hooks=[conforming]) as running:
        yield running


@pytest.mark.parametrize(("of", "resource"), every(Operation.CREATE))
async def test_a_resource_is_created_read_listed_and_removed(
    api: Served, of: Api, resource: Resource
) -> None:
    path = path_of(of, resource)

    made = await api.http.post(path, json=CREATED[resource.path])
    body = made.json()
    one = await api.http.get(f"{path}/{body['id']}")
    some = await api.http.get(path, params={"id": body["id"]})

    assert made.status_code == 201, made.text
    assert made.headers["location"] == body["href"] == f"{PUBLIC_ADDRESS}{path}/{body['id']}"
    assert body["@type"] in resource.types
    assert {name: body[name] for name in CREATED[resource.path] if name != "relatedParty"}.items() <= {
        **CREATED[resource.path],
        **body,
    }.items()
    assert one.json() == body
    assert one.headers["etag"] == made.headers["etag"]
    assert some.json() == [body]
    assert (some.headers["x-total-count"], some.headers["x-result-count"]) == ("1", "1")
    if Operation.REMOVE in resource.allowed:
        assert (await api.http.delete(f"{path}/{body['id']}")).status_code == 204
        is_error(await api.http.get(f"{path}/{body['id']}"), 404)
        is_error(await api.http.delete(f"{path}/{body['id']}"), 404)
        assert (await api.http.get(path, params={"id": body["id"]})).json() == []


@pytest.mark.parametrize(("of", "resource"), every(Operation.CHANGE))
async def test_a_resource_is_changed_and_nothing_else_of_it(api: Served, of: Api, resource: Resource) -> None:
    path = path_of(of, resource)
    body = CREATED[resource.path]
    if resource is of.hub:  # only one that failed is changed: it is tried again
        body = {"callback": "https://failed.example/x", "state": "suspended", "deadLetterCount": 2}
        api.keep(Kind.HUB, {**body, "api": of.name, "id": of.name})
        made = (await api.http.get(f"{path}/{of.name}")).json()
    else:
        made = (await api.http.post(path, json=body)).json()
    patch = patch_of(resource)

    changed = await api.http.patch(f"{path}/{made['id']}", json=patch)

    assert changed.status_code == 200, changed.text
    after = {name: value for name, value in changed.json().items() if name != resource.touched}
    assert after == {name: value for name, value in {**made, **patch}.items() if name != resource.touched}
    assert (await api.http.get(f"{path}/{made['id']}")).json() == changed.json()
    assert changed.headers["etag"] == '"2"'


@pytest.mark.parametrize(("of", "resource"), every(Operation.CHANGE))
async def test_what_is_fixed_or_set_by_the_server_cannot_be_changed(
    api: Served, of: Api, resource: Resource
) -> None:
    path = path_of(of, resource)
    made = (await api.http.post(path, json=CREATED[resource.path])).json()
    fixed = {name: made.get(name, "x") for name in ("id", "href", *resource.served, *resource.fixed)}
    if resource.states:
        fixed.pop(resource.states.attribute, None)

    for name, value in fixed.items():
        body = is_error(await api.http.patch(f"{path}/{made['id']}", json={name: value}), 400)
        assert body["code"] == "readOnlyAttribute"
        assert name in body["message"]
    assert (await api.http.get(f"{path}/{made['id']}")).json() == made


@pytest.mark.parametrize(("of", "resource"), every(Operation.CREATE))
async def test_what_is_mandatory_is_asked_for_by_name(api: Served, of: Api, resource: Resource) -> None:
    path, good = path_of(of, resource), CREATED[resource.path]

    for name in resource.mandatory:
        without = {each: value for each, value in good.items() if each != name}
        for bad in (without, {**good, name: None}):
            body = is_error(await api.http.post(path, json=bad), 400)
            assert body["code"] == "missingAttribute"
            assert name in body["message"]
    body = is_error(await api.http.post(path, json={}), 400)
    assert all(name in body["message"] for name in resource.mandatory)


@pytest.mark.parametrize(("of", "resource"), every(Operation.CREATE))
async def test_what_the_server_sets_cannot_be_given(api: Served, of: Api, resource: Resource) -> None:
    path, good = path_of(of, resource), CREATED[resource.path]

    for name in ("id", "href", *resource.served):
        body = is_error(await api.http.post(path, json={**good, name: "x"}), 400)
        assert (body["code"], name in body["message"]) == ("readOnlyAttribute", True)
    for unknown in ("colour", "api"):
        body = is_error(await api.http.post(path, json={**good, unknown: "x"}), 400)
        assert (body["code"], unknown in body["message"]) == ("unknownAttribute", True)
    body = is_error(await api.http.post(path, json={**good, "@type": "Spaceship"}), 400)
    assert body["code"] == "unknownType"


@pytest.mark.parametrize(("of", "resource"), every(Operation.CREATE))
async def test_wrong_types_are_refused_by_name(api: Served, of: Api, resource: Resource) -> None:
    path, good = path_of(of, resource), CREATED[resource.path]
    wrong = {"text": 5, "date": "yesterday", "bool": "true", "int": "1", "number": "1", "url": "a b"}

    for name in resource.writable():
        attribute = resource.shape.attributes[name]
        if attribute.basic == "any":
            continue
        value = {} if attribute.many else wrong[attribute.basic] if attribute.basic else "text"
        body = is_error(await api.http.post(path, json={**good, name: value}), 400)
        assert name in body["message"], body
        assert body["code"] in ("wrongType", "wrongDate", "wrongValue")


@pytest.mark.parametrize(("of", "resource"), every(Operation.LIST))
async def test_a_scope_that_does_not_suffice_is_403(api: Served, of: Api, resource: Resource) -> None:
    path = path_of(of, resource)
    methods = {
        Operation.LIST: ("GET", path),
        Operation.READ: ("GET", f"{path}/x"),
        Operation.CREATE: ("POST", path),
        Operation.CHANGE: ("PATCH", f"{path}/x"),
        Operation.REMOVE: ("DELETE", f"{path}/x"),
    }

    for operation, needed in resource.allowed.items():
        method, at = methods[operation]
        others = " ".join(scope for scope in Scope if scope not in needed)
        async with api.client("acme", others) as http:
            body = is_error(await http.request(method, at, json={}), 403)
        assert body["code"] == "insufficientScope"
        async with api.client("acme", needed[0]) as http:
            assert (await http.request(method, at, json={})).status_code != 403


@pytest.mark.parametrize(("of", "resource"), every(Operation.LIST))
async def test_methods_that_there_are_not_are_405(api: Served, of: Api, resource: Resource) -> None:
    path = path_of(of, resource)

    for at, methods in (
        (path, {"GET": Operation.LIST, "POST": Operation.CREATE}),
        (f"{path}/x", {"GET": Operation.READ, "PATCH": Operation.CHANGE, "DELETE": Operation.REMOVE}),
    ):
        there = {method for method, operation in methods.items() if operation in resource.allowed}
        there |= {"HEAD", "OPTIONS"}
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - there:
            answer = await api.http.request(method, at)
            is_error(answer, 405)
            assert set(answer.headers["allow"].split(", ")) == there
        answer = await api.http.options(at)
        assert (answer.status_code, set(answer.headers["allow"].split(", "))) == (204, there)


async def test_a_foreign_resource_answers_exactly_as_one_that_does_not_exist(api: Served) -> None:
    for of in APIS:
        for resource in of.resources:
            path = path_of(of, resource)
            async with api.client("globex") as other:
                foreign = (await other.post(path, json=CREATED[resource.path])).json()["id"]
                assert (await other.get(f"{path}/{foreign}")).status_code == 200
            for method, operation in (
                ("GET", Operation.READ),
                ("PATCH", Operation.CHANGE),
                ("DELETE", Operation.REMOVE),
            ):
                if operation not in resource.allowed:
                    continue
                body = {} if method == "GET" else patch_of(resource)
                theirs = await api.http.request(method, f"{path}/{foreign}", json=body)
                unknown = await api.http.request(method, f"{path}/{'0' * len(foreign)}", json=body)
                assert theirs.status_code == 404
                assert theirs.content == unknown.content
                assert theirs.headers == unknown.headers
            listed = await api.http.get(path, params={"id": foreign})
            assert (listed.json(), listed.headers["x-total-count"]) == ([], "0")


async def test_kinds_that_no_api_shows_are_shown_by_none(api: Served) -> None:
    shown = {resource.kind for of in APIS for resource in (*of.resources, of.hub)}

    assert set(Kind) - shown == {Kind.USE, Kind.SIGNING_KEY}
