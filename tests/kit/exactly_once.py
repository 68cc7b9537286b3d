"""The delivery guarantees, asserted by every test that sends mail."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import orjson

from streamer.model.address import InvalidAddressError, normalise
from streamer.model.campaign import CampaignName
from streamer.model.event import DeadEventError, parse
from streamer.model.progress import named_campaign
from streamer.model.record import RecordId
from streamer.sandbox import Acceptance, Stats


class Input(NamedTuple):
    """An input record."""

    record_id: RecordId
    value: bytes | None


class ResolvedRecord(NamedTuple):
    """An outcome, or a dead letter with the status `dead`."""

    source: RecordId
    organization: str
    campaign: str
    address: str
    status: str
    reason: str | None
    email_id: str | None
    batch_id: str | None


class Evidence(NamedTuple):
    """The results of a run."""

    inputs: Sequence[Input]
    resolutions: Sequence[ResolvedRecord]
    acceptances: Sequence[Acceptance]
    stats: Stats
    committed: dict[tuple[str, int], int]
    """The group's committed offsets, by topic and partition."""
    suppressed: frozenset[tuple[str, str]] = frozenset()
    """Each (organization, address) suppressed from before the first record was consumed."""
    parked: Sequence[RecordId] = ()
    """The original ids of the records that are in the parked topic now."""
    returned: Sequence[RecordId] = ()
    """The original ids of the records that returned from there."""
    progress: Mapping[CampaignName, Mapping[str, int]] | None = None
    """The sum of each campaign's progress records; None: not checked."""
    forgotten: bool = False
    """Whether the ledger forgot batches, so that no outcome names them."""


def assert_exactly_once(evidence: Evidence) -> None:
    """Raise AssertionError listing every broken guarantee, with examples."""
    broken = [*_violations(evidence)]
    assert not broken, "\n".join(broken)


def _violations(evidence: Evidence) -> Iterable[str]:
    accepted = Counter((a.organization, a.campaign, a.address) for a in evidence.acceptances)
    twice = [key for key, count in accepted.items() if count > 1]
    if twice or evidence.stats.accepted_twice:
        yield f"1. accepted more than once: {len(twice)}, as {twice[:3]}"

    resolutions = Counter(resolution.source for resolution in evidence.resolutions)
    doubled = [source for source, count in resolutions.items() if count > 1]
    if doubled:
        yield f"2. more than one ending: {len(doubled)}, as {doubled[:3]}"
    inputs = {record.record_id for record in evidence.inputs}
    missing = inputs - resolutions.keys() - {*evidence.parked}
    if missing:
        yield f"2. no ending: {len(missing)}, as {sorted(missing)[:3]}"
    waiting = Counter(evidence.parked)
    if any(count > 1 for count in waiting.values()):
        yield f"2. parked more than once: {waiting.most_common(3)}"
    if ended_too := waiting.keys() & resolutions.keys():
        yield f"2. parked, and ended: {len(ended_too)}, as {sorted(ended_too)[:3]}"
    unknown = resolutions.keys() - inputs
    if unknown:
        yield f"2. an ending of no input: {len(unknown)}, as {sorted(unknown)[:3]}"

    by_id = {a.email_id: (a.organization, a.campaign, a.address) for a in evidence.acceptances}
    sent = [ending for ending in evidence.resolutions if ending.status == "sent"]
    for ending in sent:
        if by_id.get(ending.email_id or "") != (
            ending.organization,
            ending.campaign,
            ending.address,
        ):
            yield f"3. sent, but not accepted: {ending}"
            break
    told = {(e.organization, e.campaign, e.address) for e in sent}
    told |= {
        (e.organization, e.campaign, e.address)
        for e in evidence.resolutions
        if e.status == "indeterminate"
    }
    untold = accepted.keys() - told
    if untold:
        yield f"3. accepted, but neither sent nor indeterminate: {len(untold)}, as {[*untold][:3]}"

    conflicts = sum(
        count
        for answer, count in evidence.stats.answers.items()
        if "invalid_idempotent_request" in answer
    )
    if conflicts:
        yield f"4. {conflicts} calls repeated a key with another payload"

    ids = {ending.batch_id for ending in evidence.resolutions}
    unpinned = {a.idempotency_key.partition(".")[0] for a in evidence.acceptances} - ids
    if unpinned and not missing and not evidence.forgotten:
        yield f"5. accepted under keys that no outcome names: {[*unpinned][:3]}"

    ended: dict[tuple[str, int], set[int]] = {}
    for source in resolutions:
        ended.setdefault((source.topic, source.partition), set()).add(source.offset)
    for record in evidence.inputs:
        topic, partition, offset = record.record_id
        below = offset < evidence.committed.get((topic, partition), 0)
        if (
            below
            and record.record_id not in waiting
            and offset not in ended.get((topic, partition), ())
        ):
            yield f"6. committed past {record.record_id}, which has no ending"
            break

    mailed = {(a.organization, a.address) for a in evidence.acceptances}
    wronged = mailed & evidence.suppressed
    if wronged:
        yield f"7. suppressed and mailed: {len(wronged)}, as {[*wronged][:3]}"

    yield from _wrong_reasons(evidence)
    yield from _wrong_progress(evidence)


def _wrong_reasons(evidence: Evidence) -> Iterable[str]:
    """Yield results that contradict what the record's value alone determines."""
    ended = {resolution.source: resolution for resolution in evidence.resolutions}
    for record in evidence.inputs:
        ending = ended.get(record.record_id)
        if ending is None:
            continue
        try:
            normalise(parse(record.value).email)
        except DeadEventError as error:
            if (ending.status, ending.reason) != ("dead", error.reason):
                yield f"{record.record_id} should be a dead letter, is {ending}"
                return
        except InvalidAddressError:
            if (ending.status, ending.reason) != ("failed", "invalid_address"):
                yield f"{record.record_id} should be invalid_address, is {ending}"
                return


def _wrong_progress(evidence: Evidence) -> Iterable[str]:
    """Yield campaigns whose progress records do not add up to their results and parked records."""
    if evidence.progress is None:
        return
    values = {record.record_id: record.value for record in evidence.inputs}
    counts: defaultdict[CampaignName | None, Counter[str]] = defaultdict(Counter)
    for source, organization, campaign, _, status, reason, *_ in evidence.resolutions:
        name = (
            CampaignName(organization, campaign)
            if organization
            else named_campaign(values.get(source))
        )
        counts[name][f"{status}:{reason}" if reason else status] += 1
    ended = {resolution.source for resolution in evidence.resolutions}
    for source in {*evidence.parked, *evidence.returned} - ended:
        counts[named_campaign(values.get(source))]["parked"] += 1
    named = {name: each for name, each in counts.items() if name is not None}
    for name in named.keys() | evidence.progress.keys():
        written = {word: n for word, n in evidence.progress.get(name, {}).items() if n}
        if written != named.get(name, {}):
            yield f"8. progress of {name}: {written}, should be {dict(counts[name])}"


def read_outcome(value: bytes) -> ResolvedRecord:
    """Decode the value of an outcome."""
    outcome = orjson.loads(value)
    source = outcome["source"]
    return ResolvedRecord(
        RecordId(source["topic"], source["partition"], source["offset"]),
        outcome["organization_id"],
        outcome["campaign_id"],
        outcome["email"],
        outcome["status"],
        outcome["reason"],
        outcome["email_id"],
        outcome["batch_id"],
    )


def read_dead_letter(headers: Iterable[tuple[str, str | bytes | None]]) -> ResolvedRecord:
    """Decode the headers of a dead letter."""
    decoded = {name: value.decode() for name, value in headers if isinstance(value, bytes)}
    source = RecordId(
        decoded["streamer-source-topic"],
        int(decoded["streamer-source-partition"]),
        int(decoded["streamer-source-offset"]),
    )
    return ResolvedRecord(source, "", "", "", "dead", decoded.get("streamer-reason"), None, None)
