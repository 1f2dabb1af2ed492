"""Reading: identity, counts, filters, fields, sorting and pages (TMF630 part 1)."""

from __future__ import annotations

from typing import Any

from tmf630_checks import check
from tmf630_suite import ALWAYS, Suite, at, has_identity, is_error, is_json, links, listed, new_label, total
from tmf630_table import Target


def several(suite: Suite, of: Target, number: int) -> tuple[list[str], list[str]]:
    """Resources whose labels are in order; the ids and the labels."""
    stem = new_label()
    made = [suite.make(of, f"{stem}-{place}") for place in range(number)]
    return [each["id"] for each in made], [at(each, of.label) for each in made]


def ids(found: list[dict[str, Any]]) -> list[str]:
    """The ids of resources."""
    return [each["id"] for each in found]


@check()
def a_list_says_how_long_it_is(suite: Suite, of: Target) -> None:
    listed(suite.get(of.url))


@check()
def counts_are_true(suite: Suite, of: Target) -> None:
    made, labels = several(suite, of, 3)
    every = {of.label: ",".join(labels)}

    assert total(suite.get(of.url, **every)) == 3
    page = suite.get(of.url, **every, limit=2)
    assert total(page) == 3
    assert len(listed(page)) == 2
    rest = suite.get(of.url, **every, offset=2, limit=2)
    assert total(rest) == 3
    assert len(listed(rest)) == 1
    nothing = suite.get(of.url, **{of.label: labels[0] + "x"})
    assert (listed(nothing), total(nothing)) == ([], 0)
    beyond = suite.get(of.url, **every, offset=1000)
    assert (listed(beyond), total(beyond)) == ([], len(made))


@check()
def a_resource_says_what_and_where_it_is(suite: Suite, of: Target) -> None:
    made = suite.make(of)

    has_identity(made)
    assert made["href"].endswith(f"/{of.path}/{made['id']}")
    read = suite.get(suite.there(made["href"]))
    assert read.status_code == 200, f"href leads to {read.status_code}"
    assert is_json(read)["id"] == made["id"]


@check()
def a_list_shows_what_a_single_read_shows(suite: Suite, of: Target) -> None:
    made = suite.make(of)

    for _ in range(5):  # the server may change a resource meanwhile
        (found,) = listed(suite.get(of.url, **{of.label: at(made, of.label)}))
        single = is_json(suite.get(f"{of.url}/{made['id']}"))
        if found == single:
            break
    assert found == single


@check()
def a_filter_finds_only_what_it_says(suite: Suite, of: Target) -> None:
    made, labels = several(suite, of, 3)

    assert ids(listed(suite.get(of.url, **{of.label: labels[1]}))) == [made[1]]
    assert ids(listed(suite.get(of.url, id=made[2]))) == [made[2]]


@check()
def values_are_alternatives(suite: Suite, of: Target) -> None:
    made, labels = several(suite, of, 3)

    by_comma = suite.get(of.url, **{of.label: f"{labels[0]},{labels[2]}"})
    assert set(ids(listed(by_comma))) == {made[0], made[2]}
    repeated = suite.ask("GET", of.url, params=[(of.label, labels[0]), (of.label, labels[1])])
    assert set(ids(listed(repeated))) == {made[0], made[1]}


@check()
def keys_are_combined(suite: Suite, of: Target) -> None:
    made, labels = several(suite, of, 2)

    assert ids(listed(suite.get(of.url, id=made[0], **{of.label: labels[0]}))) == [made[0]]
    assert listed(suite.get(of.url, id=made[0], **{of.label: labels[1]})) == []


@check()
def filters_compare(suite: Suite, of: Target) -> None:
    made, labels = several(suite, of, 4)
    every = {"id": ",".join(made)}

    def found(**conditions: str) -> set[str]:
        named = {f"{of.label}.{word}": value for word, value in conditions.items()}
        return set(ids(listed(suite.get(of.url, **every, **named))))

    assert found(gt=labels[1]) == {made[2], made[3]}
    assert found(gte=labels[1]) == {made[1], made[2], made[3]}
    assert found(lt=labels[1]) == {made[0]}
    assert found(lte=labels[1]) == {made[0], made[1]}
    assert found(ne=labels[1]) == {made[0], made[2], made[3]}
    assert found(gt=labels[0], lt=labels[3]) == {made[1], made[2]}
    encoded = suite.ask("GET", f"{of.url}?id={every['id']}&{of.label}%3E{labels[2]}")
    assert ids(listed(encoded)) == [made[3]]


@check()
def a_filter_of_no_attribute_is_refused(suite: Suite, of: Target) -> None:
    is_error(suite.get(of.url, noSuchAttribute="x"), 400)
    is_error(suite.get(of.url, **{f"{of.label}.noSuchAttribute": "x"}), 400)


@check()
def pages_that_make_no_sense_are_refused(suite: Suite, of: Target) -> None:
    for name, text in (("limit", "-1"), ("limit", "many"), ("offset", "-1"), ("offset", "1.5")):
        is_error(suite.get(of.url, **{name: text}), 400)


@check()
def fields_narrow_a_resource(suite: Suite, of: Target) -> None:
    made = suite.make(of)
    first = of.label.partition(".")[0]
    assert set(made) - {*ALWAYS, first}, "there is nothing to leave out"

    narrow = is_json(suite.get(f"{of.url}/{made['id']}", fields=first))
    assert set(narrow) == {*ALWAYS, first}
    assert narrow == {name: made[name] for name in narrow}
    identity = is_json(suite.get(f"{of.url}/{made['id']}", fields="none"))
    assert set(identity) == set(ALWAYS)


@check()
def fields_narrow_a_list(suite: Suite, of: Target) -> None:
    made, labels = several(suite, of, 2)
    first = of.label.partition(".")[0]

    answer = suite.get(of.url, **{of.label: ",".join(labels)}, fields=first)
    assert all(set(each) == {*ALWAYS, first} for each in listed(answer))
    assert {each["id"]: at(each, of.label) for each in listed(answer)} == dict(zip(made, labels, strict=True))


@check()
def a_field_of_no_attribute_is_refused(suite: Suite, of: Target) -> None:
    is_error(suite.get(of.url, fields="noSuchAttribute"), 400)


@check()
def pages_are_linked(suite: Suite, of: Target) -> None:
    made, labels = several(suite, of, 5)
    query = {of.label: ",".join(labels)}
    whole = ids(listed(suite.get(of.url, **query)))
    assert set(whole) == set(made)

    answer = suite.get(of.url, **query, limit=2)
    pages, last = [ids(listed(answer))], links(answer).get("last")
    assert len(pages[0]) == 2, "the limit is ignored"
    while "next" in links(answer):
        before, answer = answer, suite.get(suite.there(links(answer)["next"]))
        assert total(answer) == 5, "a page counts otherwise than the first"
        assert len(listed(answer)) <= 2, "the link forgets the limit"
        pages.append(ids(listed(answer)))
        assert len(pages) <= 3, "the pages do not end"
        back = suite.get(suite.there(links(answer)["prev"]))
        assert ids(listed(back)) == ids(listed(before)), "prev is not the page before"
    assert [identity for page in pages for identity in page] == whole, "the pages are not the whole"
    assert last, "there is no link to the last page"
    assert ids(listed(suite.get(suite.there(last)))) == pages[-1]
    for relation in ("first", "self"):
        shown = suite.get(suite.there(links(suite.get(of.url, **query, limit=2))[relation]))
        assert ids(listed(shown)) == pages[0], f"{relation} is not the first page"
    assert "next" not in links(suite.get(of.url, **query, limit=5)), "a whole list has a next page"


@check()
def a_list_is_sorted(suite: Suite, of: Target) -> None:
    made, labels = several(suite, of, 4)
    query = {of.label: ",".join(labels)}

    assert ids(listed(suite.get(of.url, **query, sort=of.label))) == made
    assert ids(listed(suite.get(of.url, **query, sort=f"-{of.label}"))) == made[::-1]
    second = listed(suite.get(of.url, **query, sort=f"-{of.label}", offset=1, limit=2))
    assert ids(second) == [made[2], made[1]], "a page is sorted for itself"
    is_error(suite.get(of.url, sort="noSuchAttribute"), 400)


@check()
def an_order_is_kept(suite: Suite, of: Target) -> None:
    _, labels = several(suite, of, 3)
    query = {of.label: ",".join(labels)}

    first = ids(listed(suite.get(of.url, **query)))
    assert all(ids(listed(suite.get(of.url, **query))) == first for _ in range(3))


@check()
def a_read_can_be_conditional(suite: Suite, of: Target) -> None:
    made = suite.make(of)
    address = f"{of.url}/{made['id']}"

    for _ in range(5):  # the server may change a resource meanwhile
        tag = suite.get(address).headers.get("etag", "")
        assert tag, "there is no ETag"
        again = suite.ask("GET", address, headers={"if-none-match": tag})
        if again.status_code == 304:
            break
    assert (again.status_code, again.content) == (304, b"")
    other = suite.ask("GET", address, headers={"if-none-match": '"no such tag"'})
    assert is_json(other)["id"] == made["id"]


@check()
def head_is_get_without_a_body(suite: Suite, of: Target) -> None:
    made = suite.make(of)

    for address in (f"{of.url}/{made['id']}", f"{of.url}?id={made['id']}"):
        got, head = suite.get(address), suite.ask("HEAD", address)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-type", "x-total-count", "x-result-count"):
            assert head.headers.get(name) == got.headers.get(name)
