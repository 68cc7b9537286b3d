"""How batches share a worker's places."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.concurrency import ConcurrencyLimiter

MAX_IN_FLIGHT = 4
ACCOUNTS = ("first", "second", "third")
ORGANIZATIONS = [f"{account}-{number}" for account in ACCOUNTS for number in range(6)]


def account_of(organization: str) -> str:
    return organization.partition("-")[0]


def places(accounts: int = len(ACCOUNTS)) -> ConcurrencyLimiter:
    return ConcurrencyLimiter(account_of, accounts, MAX_IN_FLIGHT)


def test_a_lone_organization_gets_the_whole_account() -> None:
    assert places(1).has_capacity("first-0", ["first-0"] * (MAX_IN_FLIGHT - 1), None)
    assert not places(1).has_capacity("first-0", ["first-0"] * MAX_IN_FLIGHT, None)


def test_an_extra_slot_is_for_an_organization_without_one() -> None:
    assert places(1).has_capacity("first-1", ["first-0"] * MAX_IN_FLIGHT, None)
    assert not places(1).has_capacity("first-1", [*["first-0"] * MAX_IN_FLIGHT, "first-2"], None)


def test_two_accounts_leave_a_slot_for_a_third() -> None:
    shared, under_way = places(), list[str]()
    for organization in 3 * [o for o in ORGANIZATIONS if account_of(o) != "third"]:
        if shared.has_capacity(organization, under_way, None):
            under_way.append(organization)
    assert len(under_way) == shared.total - 1
    assert shared.has_capacity("third-0", under_way, None)


def test_a_failing_organization_stays_within_its_quota() -> None:
    shared = places()
    assert shared.has_capacity("first-0", ["first-0"] * (shared.quota - 1), shared.quota)
    assert not shared.has_capacity("first-0", ["first-0"] * shared.quota, shared.quota)


@given(st.lists(st.sampled_from(ORGANIZATIONS), max_size=100))
def test_each_account_gets_a_slot_in_any_order(asking: list[str]) -> None:
    shared = places()
    under_way: list[str] = []
    for organization in asking:
        if shared.has_capacity(organization, under_way, None):
            under_way.append(organization)
    assert len(under_way) <= shared.total
    served = {account_of(organization) for organization in under_way}
    for account in ACCOUNTS:
        of_account = [o for o in under_way if account_of(o) == account]
        assert len(of_account) <= MAX_IN_FLIGHT + 1
        assert account in served or shared.has_capacity(f"{account}-0", under_way, None)
        # An account is closed if and only if not even who has nothing under way has a place.
        newcomer = shared.has_capacity(f"{account}-new", under_way, None)
        assert shared.is_saturated(account, under_way) is not newcomer
