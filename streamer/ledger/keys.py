"""The names of all keys in Redis.

The braces are a cluster hash tag: all keys of one organization are in one slot, so that a script
can access them together. The keys of an account are in a different slot.
"""


def suppressed(organization: str) -> str:
    """Set: the normalised suppressed addresses; other services may write to it directly."""
    return f"{{{organization}}}:suppressed"


def suppression_reasons(organization: str) -> str:
    """Hash: by address (JSON) why, when and by which campaign's mail it was suppressed, and when
    that was undone; see `suppress_events.lua`. What other services suppress is not in it."""
    return f"{{{organization}}}:suppression-reasons"


def event_counts(organization: str, campaign_id: str) -> str:
    """Hash: how many of the campaign's recipients had each kind of event; `guarded` once it was
    paused for that."""
    return f"{{{organization}}}:events:{campaign_id}"


def event_bucket(organization: str, campaign_id: str, number: int) -> str:
    """Hash: by a hash of the address which events a recipient had; see `count_events.lua`."""
    return f"{{{organization}}}:events:{campaign_id}/{number}"


CAMPAIGN_TAGS = "streamer:campaign-tags"
"""Hash: by the tags and the reference's check the campaigns whose tags do not tell them from
others."""


def events_lease(group: str) -> str:
    """String: the lease of the process that currently applies a group's events."""
    return f"streamer:events:{group}:lease"


def campaign(organization: str, campaign_id: str) -> str:
    """Hash: `definition` (JSON), `version` (of the definition), `state`, times; `begun` once a
    worker has read a recipient, which fixes the definition; `expected` (the number of recipients);
    `closed` (where the input ended behind the last one, JSON); `published` (a mark of
    the last published summary)."""
    return f"{{{organization}}}:campaign:{campaign_id}"


def campaign_versions(organization: str, campaign_id: str) -> str:
    """List: the campaign's earlier definitions (JSON), oldest first, each with its `version` and
    when it was `replaced_at`."""
    return f"{{{organization}}}:campaign-versions:{campaign_id}"


def last_mails(organization: str, campaign_id: str) -> str:
    """List: the results of the campaign's last mails, kept only while some of them failed; see
    `count_mails.lua`."""
    return f"{{{organization}}}:last-mails:{campaign_id}"


def campaigns(organization: str) -> str:
    """Set: the ids of the organization's defined campaigns."""
    return f"{{{organization}}}:campaigns"


ORGANIZATIONS = "streamer:organizations"
"""Set: the organizations that have defined campaigns."""


def progress(organization: str, campaign_id: str) -> str:
    """Hash: the campaign's counts, and the offset up to which each partition is counted; see
    `progress`."""
    return f"{{{organization}}}:progress:{campaign_id}"


def progress_campaigns(organization: str) -> str:
    """Set: the ids of the organization's campaigns that have counts."""
    return f"{{{organization}}}:progress-campaigns"


def progress_due(organization: str) -> str:
    """Hash: the ids of the campaigns whose completion is to be checked, each with a number unique
    to the change; the field '' is the last number used."""
    return f"{{{organization}}}:progress-due"


def progress_positions(group: str) -> str:
    """Hash: the read positions of a consumer group's projection, and its `generation`."""
    return f"streamer:progress:{group}:offsets"


def progress_organizations(group: str) -> str:
    """Set: the organizations that a group's projection has met."""
    return f"streamer:progress:{group}:organizations"


def relay_lease(group: str) -> str:
    """String: the lease of the process that currently relays a group's parked records."""
    return f"streamer:relay:{group}:lease"


def relay_positions(group: str) -> str:
    """Hash: by topic id and partition, the offsets of the parked topic that a group's relay has
    moved."""
    return f"streamer:relay:{group}:positions"


def input_positions(group: str) -> str:
    """Hash: by topic id and partition, the input offset that a group committed last, and the
    ledger's epoch."""
    return f"streamer:input:{group}:positions"


def worker_lease(group: str, worker_id: str) -> str:
    """String: the lease of the live process that has a worker's id in a group."""
    return f"streamer:worker:{group}:{worker_id}:lease"


def progress_lease(group: str) -> str:
    """String: the lease of the process that currently runs a group's projection."""
    return f"streamer:progress:{group}:lease"


def heartbeats(group: str) -> str:
    """Hash: by process, the last heartbeat of a group's workers, behind its time in ms since 1970;
    see `heartbeats`."""
    return f"streamer:workers:{group}"


def claims(organization: str, campaign_id: str = "") -> str:
    """String: where the campaign's claims are, in buckets at this key `/N`; see `claimed.lua`.
    Without a campaign: the prefix to which the scripts append one."""
    return f"{{{organization}}}:claimed:{campaign_id}"


def older_claims(slot_epoch: str) -> str:
    """String: exists while there may be claims that an earlier version wrote to the slot of this
    epoch's key: hashes at this key `:CAMPAIGN:BUCKET`."""
    return slot_epoch.removesuffix("epoch") + "claims"


def batch(organization: str, batch_id: str) -> str:
    """Hash, until the batch is resolved: `body`, `campaigns`, `learned` (the split progress),
    `pinned_at`, `account`, `sender`; `expires_at` if a mail expires; `owner`, unless it is the
    worker that pinned it; `unsure` if an earlier owner may have sent it; `laid_down` while
    deferred. After it is unpinned, only `unpinned`. Earlier versions kept the `result` here."""
    return f"{{{organization}}}:batch:{batch_id}"


def result(organization: str, batch_id: str) -> str:
    """String: the account, the time of the pin and the result of a resolved batch."""
    return f"{{{organization}}}:result:{batch_id}"


def confirmation(key: str) -> str:
    """String: empty; written after an act on a key of the same slot, to have the act confirmed."""
    tag = key.partition("{")[2].partition("}")[0] or key
    return f"{{{tag}}}:confirmation"


EPOCH = "streamer:epoch"
"""String: the ledger's epoch, a random name assigned when the ledger was first used."""

EPOCH_SLOTS = f"{{{EPOCH}}}:slots"
"""Set: the epoch keys of the other slots that have it. It is in the slot of `EPOCH`."""


def pulse(group: str) -> str:
    """String: the pulse of the ledger, as the workers of a group raise it; see `pulse`. It is in
    the slot of `EPOCH`, as the next three."""
    return f"{{{EPOCH}}}:pulse:{group}"


def drawn_pulses(group: str) -> str:
    """Sorted set: the last 2,000 pulses that workers raised it to. One that is missing in between
    was lost, and the pulse was raised again by a worker that had not noticed."""
    return f"{{{EPOCH}}}:drawn-pulses:{group}"


def slot_pulses(group: str) -> str:
    """Hash: the pulse that each slot has at least, by its epoch's key."""
    return f"{{{EPOCH}}}:pulses:{group}"


def rebuild(group: str) -> str:
    """String: exists while the ledger is being rebuilt from a group's topics: since when outcomes
    are read, in ms since 1970."""
    return f"{{{EPOCH}}}:rebuild:{group}"


def rebuild_lease(group: str) -> str:
    """String: the lease of the process that currently rebuilds a group's ledger."""
    return f"streamer:rebuild:{group}:lease"


def slot_pulse(slot_epoch: str, group: str) -> str:
    """String: the pulse at which a slot was last used, in the slot of this epoch's key."""
    return f"{slot_epoch.removesuffix('epoch')}pulse:{group}"


def organization_epoch(organization: str) -> str:
    """String: the copy of the epoch in the organization's slot."""
    return f"{{{organization}}}:epoch"


def account_epoch(account: str) -> str:
    """String: the copy of the epoch in the account's slot."""
    return f"{{account:{account}}}:epoch"


def account_limiter(account: str) -> str:
    """String: the state of the shared rate limit."""
    return f"{{account:{account}}}:limiter"


def account_permits(account: str) -> str:
    """Sorted set: the account's latest calls, by departure time in µs since 1970."""
    return f"{{account:{account}}}:departures"


def account_health(account: str) -> str:
    """Hash: the account's consecutive `failures`, since when (`since`), its total `successes`, and
    the `limit` advertised by the provider; while the circuit is open, `pause` and `probe_at`."""
    return f"{{account:{account}}}:health"


def account_failing(account: str) -> str:
    """Hash: the account's batches that failed since its last successful call, each with the name of
    its last failed call."""
    return f"{{account:{account}}}:failed-calls"


def account_told(account: str) -> str:
    """Hash: by worker, how many of its successful calls are included in the health."""
    return f"{{account:{account}}}:told"


def account_holds(account: str) -> str:
    """Hash: the holds (JSON) by sender's domain, or `*` for the whole account."""
    return f"{{account:{account}}}:holds"


def account_probes(account: str) -> str:
    """Hash: the time of each hold's next test in ms since 1970, by the hold's field."""
    return f"{{account:{account}}}:probes"


def account_responses(account: str) -> str:
    """Hash: by the name of a response other than `accepted`, when it came last, in ms since 1970,
    and its message."""
    return f"{{account:{account}}}:answers"


def hold_batches(account: str, field: str) -> str:
    """List: the pinned batches that drew a hold, each with its sender's domain; they test it in
    turn."""
    return f"{{account:{account}}}:held:{field}"


def hold_doubts(account: str) -> str:
    """Set: doubted domains, whose batches drew responses that held the account until an operator
    released it. If they draw such a response again, only their domain is held."""
    return f"{{account:{account}}}:doubts"
