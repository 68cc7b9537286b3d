"""A sample of what `make faults` visits."""

import os
from pathlib import Path

import pytest

from streamer.stack import Stack
from tests.faults import matrix
from tests.faults.lane import Lane
from tests.faults.scenes import MAIN

_SEED = int(os.environ.get("FAULTS_SEED", "1"))
_SAMPLE = int(os.environ.get("FAULTS_SAMPLE", "16"))


@pytest.mark.timeout(300)
def test_sampled_faults_break_no_promise(stack: Stack, tmp_path: Path) -> None:
    print(f"FAULTS_SEED={_SEED} FAULTS_SAMPLE={_SAMPLE}")
    lane = Lane(11, stack, tmp_path)
    try:
        pairs = matrix.pairs_of(matrix.rehearse(lane, [MAIN]))
        # Each freeze takes 8 s; other faults are cheaper, and freezes are tested elsewhere too.
        quick = [pair for pair in pairs if not pair.fault.startswith("freeze")]
        visits = matrix.Visits(matrix.sample(quick, _SAMPLE, _SEED), print)
        visits.work(lane)
    finally:
        lane.close()
    findings = visits.findings
    assert findings.is_clean, "\n".join(
        [f"{pair}: {words}" for pair, words in findings.broken]
        + [f"not reached: {pair}" for pair in findings.unreached]
        + findings.worlds
    )
