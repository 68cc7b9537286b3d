"""What the sandbox counts and shows."""

import time

import orjson
import urllib3

from streamer.sandbox import Faults, SandboxProcess
from tests.integration.sandbox.client import Client, mail

EVIL = '<script>alert("x")</script>'


def _tags(organization: str, campaign: str) -> list[dict[str, str]]:
    return [
        {"name": "organization", "value": organization},
        {"name": "campaign", "value": campaign},
    ]


def test_addresses_count_once_per_campaign(client: Client, sandbox: SandboxProcess) -> None:
    client.send([mail("Ann <Ann@Example.com>", tags=_tags("acme", "spring")), mail(tags=None)])
    client.send([mail(tags=_tags("acme", "autumn")), mail(tags=_tags("other", "spring"))])
    assert sandbox.stats().accepted_twice == 0
    client.send([mail(tags=_tags("acme", "spring"))])
    client.send([mail(tags=_tags("acme", "spring"))])
    assert sandbox.stats().accepted_twice == 1
    assert sandbox.repeats() == [("acme", "spring", "ann@example.com")]


def test_an_acceptance_has_every_field(client: Client, sandbox: SandboxProcess) -> None:
    before, wall_before = time.monotonic(), time.time()
    ids = client.send([mail()], key="k").ids
    (acceptance,) = sandbox.acceptances()
    assert acceptance[:6] == ("acme", "spring", "ann@example.com", ids[0], "k", "default")
    assert before <= acceptance.monotonic <= time.monotonic()
    assert wall_before <= acceptance.wall
    (call,) = sandbox.calls()
    assert (call.account, call.status, call.name, call.mails) == ("default", 200, "", 1)
    assert before <= call.arrived <= acceptance.monotonic


def test_many_acceptances_are_streamed(client: Client, sandbox: SandboxProcess) -> None:
    for batch in range(30):
        client.send([mail(f"user{batch}-{i}@example.com") for i in range(100)])
    assert len({a.email_id for a in sandbox.acceptances()}) == 3000


def test_stats(client: Client, sandbox: SandboxProcess) -> None:
    client.send([mail(), mail("b@example.com")])
    client.send([mail("c@example.com")])
    client.send([mail("bad")])
    stats = orjson.loads(client.call("GET", "/stats").raw)
    assert stats["accepted"] == 3
    assert stats["calls"] == 3
    assert stats["fill"] == 1.5
    assert stats["per_second"] > 0
    assert stats["answers"] == {"200": 2, "422:validation_error": 1}
    assert stats["accounts"]["default"]["accepted"] == 3


def test_reset_keeps_only_the_faults(client: Client, sandbox: SandboxProcess) -> None:
    client.send([mail()], key="k")
    sandbox.set_faults(Faults(error_after_percent=100))
    sandbox.reset()
    assert client.send([mail(), mail()], key="k").status == 500
    stats = sandbox.stats()
    assert (stats.accepted, stats.calls) == (2, 1)
    assert len(sandbox.acceptances()) == 2


def test_counts_work_without_keeping_acceptances() -> None:
    with SandboxProcess(
        limit=None, count_addresses=False, keep_acceptances=False, keep_mails=2
    ) as sandbox:
        client = Client(sandbox.url)
        ids = client.send([mail()] * 3).ids
        stats = sandbox.stats()
        assert (stats.accepted, stats.accepted_twice) == (3, 0)
        assert client.call("GET", "/_sandbox/acceptances").error == (409, "not_kept")
        assert [client.call("GET", f"/mails/{i}").status for i in ids] == [404, 200, 200]


def test_the_list_is_escaped(client: Client, sandbox: SandboxProcess) -> None:
    (email_id,) = client.send([mail("a@x.test")]).ids
    (evil_id,) = client.send([mail(subject=EVIL)]).ids
    reply = client.call("GET", "/list")
    page = reply.raw.decode()
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert page.index(evil_id) < page.index(email_id)
    assert f'href="/mails/{email_id}"' in page


def test_a_mail_is_shown_in_a_sandboxed_frame(client: Client, sandbox: SandboxProcess) -> None:
    html = f'"></iframe>{EVIL}<img src="https://track.test/p.gif" onerror="alert(1)"><p>Hi'
    headers = {"List-Unsubscribe": "<https://u.test/1>", EVIL: EVIL}
    odd = {"odd": EVIL}
    (email_id,) = client.send(
        [mail(subject=EVIL, html=html, text=f"</pre>{EVIL}", headers=headers, **odd)]
    ).ids
    reply = client.call("GET", f"/mails/{email_id}")
    page = reply.raw.decode()
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("</iframe>") == 1
    assert page.count("</pre>") == 2  # of the source, and of the text
    assert '<iframe sandbox="" title="The mail" srcdoc="&quot;&gt;&lt;/iframe&gt;' in page
    assert "List-Unsubscribe" in page
    assert "&lt;https://u.test/1&gt;" in page
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "script" not in policy
    assert "http" not in policy
    assert reply.headers["x-content-type-options"] == "nosniff"


def _listed(client: Client, query: str = "") -> str:
    return client.call("GET", f"/list?{query}").raw.decode()


def test_mails_are_searched_and_filtered(client: Client) -> None:
    tags = [
        [{"name": "organization", "value": "acme"}, {"name": "campaign", "value": campaign}]
        for campaign in ("spring", "summer")
    ]
    spring = client.send([mail("ann@x.test", subject="Hello & more", tags=tags[0])]).ids[0]
    summer = client.send([mail("bob@x.test", subject="Goodbye", tags=tags[1])]).ids[0]
    assert all(each in _listed(client) for each in (spring, summer))
    for query, found, other in (
        ("q=ANN%40x", spring, summer),
        ("q=goodbye", summer, spring),
        ("campaign=acme%2Fspring", spring, summer),
        (f"q={summer}", summer, spring),
        ("campaign=acme%2Fsummer&q=bob", summer, spring),
    ):
        page = _listed(client, query)
        assert found in page, query
        assert other not in page, query
    assert "No mail." in _listed(client, "q=nobody")
    assert 'http-equiv="refresh"' in _listed(client)
    page = client.call("GET", f"/?q=%22{EVIL}&campaign=acme%2Fspring").raw.decode()
    assert "<script" not in page
    assert "<option selected>acme/spring" in page
    assert "<option>acme/summer" in page
    assert "campaign=acme%2Fspring" in page.partition("<iframe")[2]
    assert 'http-equiv="refresh"' not in page  # what is typed stays


def test_what_was_accepted_twice_is_listed(client: Client) -> None:
    client.send([mail("ann@x.test"), mail("bob@x.test")])
    assert "Nothing, as it should be." in _listed(client, "twice=1")
    for _ in range(2):
        client.send([mail("ann@x.test")])
    page = _listed(client, "twice=1")
    assert "<tr><td>3<td>" in page
    assert "ann@x.test" in page
    assert "bob@x.test" not in page
    assert "Nothing" in _listed(client, "twice=1&q=bob")


def test_the_source_of_a_mail_is_shown(client: Client) -> None:
    (email_id,) = client.send([mail(html="<p>Hi & bye</p>")]).ids
    page = client.call("GET", f"/mails/{email_id}").raw.decode()
    assert "<summary>Source</summary><pre>&lt;p&gt;Hi &amp; bye&lt;/p&gt;</pre>" in page


def test_a_wrong_url_is_answered_as_it_is_asked(sandbox: SandboxProcess) -> None:
    url = f"{sandbox.url}/mail"
    browser = urllib3.request("GET", url, headers={"Accept": "text/html,*/*"}, retries=False)
    assert (browser.status, browser.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert b'href="/"' in browser.data
    program = urllib3.request("GET", url, retries=False)
    assert program.headers["content-type"].startswith("application/json")


def test_an_unknown_mail_is_a_404(client: Client) -> None:
    reply = client.call("GET", f"/mails/{EVIL}")
    assert reply.status == 404
    assert "<script" not in reply.raw.decode()
