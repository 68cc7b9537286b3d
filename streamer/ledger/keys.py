"""The names of all keys in Redis.

The braces are a cluster hash tag: all keys of one organization live in one slot, so that a
script may touch them together; an account's keys live in another.
"""


def suppressed(organization: str) -> str:
    """Set of normalised addresses; other services may write it directly."""
    return f"{{{organization}}}:suppressed"


def campaign(organization: str, campaign_id: str) -> str:
    """Hash: `definition` (JSON), `version` (of the definition), `state`, times; `expected`, how
    many recipients there are; `summary`, the digest of the summary that was published last."""
    return f"{{{organization}}}:campaign:{campaign_id}"


def last_mails(organization: str, campaign_id: str) -> str:
    """List: how the campaign's last mails ended, while some of them failed: see
    `count_mails.lua`."""
    return f"{{{organization}}}:last-mails:{campaign_id}"


def campaigns(organization: str) -> str:
    """Set of the ids of the organization's defined campaigns."""
    return f"{{{organization}}}:campaigns"


ORGANIZATIONS = "streamer:organizations"
"""Set of the organizations that have defined campaigns."""


def progress(organization: str, campaign_id: str) -> str:
    """Hash: the campaign's counts, and how far each partition is counted; see `progress`."""
    return f"{{{organization}}}:progress:{campaign_id}"


def progress_campaigns(organization: str) -> str:
    """Set of the ids of the organization's campaigns that have counts."""
    return f"{{{organization}}}:progress-campaigns"


def progress_due(organization: str) -> str:
    """Hash: the ids of the campaigns to be judged anew, each with a number that no other change
    has; the field '' is the last number."""
    return f"{{{organization}}}:progress-due"


def progress_positions(group: str) -> str:
    """Hash: how far the projection of a consumer group has read, and its `generation`."""
    return f"streamer:progress:{group}:positions"


def progress_organizations(group: str) -> str:
    """Set of the organizations that a group's projection has met."""
    return f"streamer:progress:{group}:organizations"


def relay_lease(group: str) -> str:
    """Who brings a group's parked records back at the moment."""
    return f"streamer:relay:{group}:lease"


def relay_positions(group: str) -> str:
    """Hash: by topic id and partition, how far a group's relay has moved the parked topic."""
    return f"streamer:relay:{group}:positions"


def input_positions(group: str) -> str:
    """Hash: by topic id and partition, the offset of the input that a group committed last, and
    the ledger's epoch."""
    return f"streamer:input:{group}:positions"


def progress_lease(group: str) -> str:
    """Who projects for a group at the moment."""
    return f"streamer:progress:{group}:lease"


def claims_prefix(organization: str) -> str:
    """What the scripts append `CAMPAIGN:BUCKET` to; see `ledger.claims`."""
    return f"{{{organization}}}:claims:"


def batch(organization: str, batch_id: str) -> str:
    """Hash: `body`, `campaigns` and what was `learned` until resolved, then `result`; `pinned_at`,
    `account`, `sender`; `owner`, unless it is who pinned it; `unsure` if an earlier owner may have
    sent it; `laid_down`; or only `unpinned`."""
    return f"{{{organization}}}:batch:{batch_id}"


EPOCH = "streamer:epoch"
"""The ledger's epoch: a random name that it was given when it was first used."""

EPOCH_SLOTS = f"{{{EPOCH}}}:slots"
"""Set: the keys of the other slots that have the epoch. It lies in the slot of `EPOCH`."""


def organization_epoch(organization: str) -> str:
    """The epoch again, in the organization's slot."""
    return f"{{{organization}}}:epoch"


def account_epoch(account: str) -> str:
    """The epoch again, in the account's slot."""
    return f"{{account:{account}}}:epoch"


def account_limiter(account: str) -> str:
    """The shared rate limit's state."""
    return f"{{account:{account}}}:limiter"


def account_permits(account: str) -> str:
    """Sorted set: the account's latest calls, by when they left, in µs since 1970."""
    return f"{{account:{account}}}:departures"


def account_health(account: str) -> str:
    """Hash: how its calls go: `failures` in a row, `successes`, and the `limit` that the
    provider's answers name; while the circuit is open `pause` and `probe_at`."""
    return f"{{account:{account}}}:health"


def account_failing(account: str) -> str:
    """Hash: the batches of the account that failed since a call succeeded last, each with the name
    of its last call that did."""
    return f"{{account:{account}}}:failed-calls"


def account_told(account: str) -> str:
    """Hash: by worker, how many of its calls that got through are counted in the health."""
    return f"{{account:{account}}}:told"


def account_holds(account: str) -> str:
    """Hash: holds, as JSON, by the sender's domain, or `*` for the whole account."""
    return f"{{account:{account}}}:holds"


def account_probes(account: str) -> str:
    """Hash: by the fields of the holds, when each is tested next, in ms since 1970."""
    return f"{{account:{account}}}:probes"


def account_responses(account: str) -> str:
    """Hash: by the name of an answer that was not `accepted`, when it came last, in ms since 1970,
    and its words."""
    return f"{{account:{account}}}:answers"


def hold_batches(account: str, field: str) -> str:
    """List: the pinned batches that a hold came upon, each with its sender's domain; one after the
    other tests it."""
    return f"{{account:{account}}}:held:{field}"


def hold_doubts(account: str) -> str:
    """Set: domains whose batches drew an answer that held the account until an operator released
    it: drawn again by these, it is theirs alone."""
    return f"{{account:{account}}}:doubts"
