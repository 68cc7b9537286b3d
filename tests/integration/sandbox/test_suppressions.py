"""`/suppressions`: an account's own list."""

import pytest

from streamer.sandbox import SandboxProcess
from tests.integration.sandbox.client import Client


def listed(client: Client, query: str = "") -> tuple[list[str], bool]:
    """The addresses of one page, and whether there is more."""
    page = client.call("GET", f"/suppressions{query}").fields
    assert page["object"] == "list"
    assert isinstance(page["data"], list)
    return [each["email"] for each in page["data"]], bool(page["has_more"])


def test_addresses_are_added_once(client: Client, sandbox: SandboxProcess) -> None:
    one = client.post("/suppressions", {"email": "Ann@Example.com"})
    assert (one.status, one.fields["object"]) == (201, "suppression")
    emails = ["bob@example.com", " ann@example.com", "BOB@example.com"]
    added = client.post("/suppressions/batch/add", {"emails": emails})
    assert added.status == 201
    assert len(added.ids) == 2
    assert one.fields["id"] in added.ids
    assert listed(client) == (["bob@example.com", "ann@example.com"], False)
    assert listed(Client(sandbox.url, "re_free")) == ([], False)


def test_an_address_is_found_by_itself_or_by_its_id(client: Client) -> None:
    email_id = client.post("/suppressions", {"email": "a+b@example.com"}).fields["id"]
    by_email = client.call("GET", "/suppressions/A%2Bb%40example.com").fields
    assert client.call("GET", f"/suppressions/{email_id}").fields == by_email
    assert by_email["object"] == "suppression"
    assert (by_email["email"], by_email["origin"]) == ("a+b@example.com", "manual")
    assert by_email["source_id"] is None
    gone = client.call("DELETE", "/suppressions/a%2Bb@example.com").body
    assert gone == {"object": "suppression", "id": email_id, "deleted": True}
    for method in ("GET", "DELETE"):
        missing = client.call(method, f"/suppressions/{email_id}")
        assert missing.error == (404, "not_found")
        assert b"Suppression not found" in missing.raw


def test_bulk_removal_skips_unknown_addresses(client: Client) -> None:
    emails = ["a@x.test", "b@x.test", "c@x.test"]
    ids = client.post("/suppressions/batch/add", {"emails": emails}).ids
    removed = client.post("/suppressions/batch/remove", {"emails": ["A@x.test", "no@x.test"]})
    assert removed.body == {"data": [{"object": "suppression", "id": ids[0], "deleted": True}]}
    assert client.post("/suppressions/batch/remove", {"ids": ids}).ids == ids[1:]
    assert listed(client) == ([], False)


def test_the_list_is_paginated(client: Client, sandbox: SandboxProcess) -> None:
    for number in range(0, 6, 2):
        sandbox.suppress(f"user{number}@x.test", origin="complaint", account="default")
        sandbox.suppress(f"user{number + 1}@x.test", origin="bounce", account="default")
    assert listed(client, "?limit=3") == (["user5@x.test", "user4@x.test", "user3@x.test"], True)
    after = client.call("GET", "/suppressions/user2@x.test").fields["id"]
    assert listed(client, f"?limit=2&after={after}") == (["user1@x.test", "user0@x.test"], False)
    assert listed(client, "?origin=bounce&limit=1") == (["user5@x.test"], True)
    assert listed(client, "?origin=manual") == ([], False)
    sandbox.suppress(*(f"other{number}@x.test" for number in range(20)))
    page, has_more = listed(client)
    assert (len(page), has_more) == (20, True)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/suppressions", {}),
        ("/suppressions", []),
        ("/suppressions/batch/add", {"emails": []}),
        ("/suppressions/batch/add", {"emails": ["a@x.test"] * 101}),
        ("/suppressions/batch/add", {"emails": ["bad"]}),
        ("/suppressions/batch/add", {"emails": [7]}),
        ("/suppressions/batch/remove", {}),
        ("/suppressions/batch/remove", {"emails": ["a@x.test"], "ids": ["1"]}),
    ],
)
def test_an_invalid_body_is_refused(client: Client, path: str, body: object) -> None:
    assert client.post(path, body).error == (422, "validation_error")


@pytest.mark.parametrize("query", ["?limit=0", "?limit=101", "?limit=x", "?origin=x", "?after=x"])
def test_an_invalid_query_is_refused(client: Client, query: str) -> None:
    assert client.call("GET", f"/suppressions{query}").error == (422, "validation_error")


def test_unknown_paths_and_methods_are_refused(client: Client) -> None:
    assert client.call("DELETE", "/suppressions").error == (405, "method_not_allowed")
    assert client.call("GET", "/suppressions/batch/add").error == (405, "method_not_allowed")
    assert client.call("GET", "/suppressions/a/b/c").error == (404, "not_found")
