"""What `--help` shows below each command's options: two examples each."""

EXAMPLES: dict[str, tuple[str, str]] = {
    "account hold": (
        "streamer account hold default --why 'key leaked'",
        "streamer account hold acme --domain news.example.com",
    ),
    "account list": ("streamer account list", "streamer account list --json"),
    "account release": (
        "streamer account release default",
        "streamer account release acme --domain news.example.com",
    ),
    "campaign cancel": (
        "streamer campaign cancel acme/spring-26",
        "streamer campaign cancel acme/spring-26 --yes --json",
    ),
    "campaign close": (
        "streamer campaign close acme/spring-26",
        "streamer campaign close acme/spring-26 --json",
    ),
    "campaign copy": (
        "streamer campaign copy acme/spring-26 acme/summer-26",
        "streamer campaign copy acme/spring-26 bolt/spring-26 --json",
    ),
    "campaign create": (
        "streamer campaign create spring.json",
        "streamer campaign create acme/spring-26 --from 'Acme <news@example.com>' "
        "--subject 'Hello {{ first_name }}' --html spring.html --start-at 2026-12-01T09:00:00Z",
    ),
    "campaign delete": (
        "streamer campaign delete acme/spring-26",
        "streamer campaign delete acme/spring-26 --yes",
    ),
    "campaign drop": (
        "streamer campaign drop acme/spring-26",
        "streamer campaign drop acme/spring-26 --yes",
    ),
    "campaign edit": (
        "streamer campaign edit acme/spring-26",
        "streamer campaign edit acme/spring-26 --subject 'Hi {{ first_name }}' --yes",
    ),
    "campaign list": ("streamer campaign list", "streamer campaign list acme --json"),
    "campaign pause": (
        "streamer campaign pause acme/spring-26",
        "streamer campaign pause acme/spring-26 --json",
    ),
    "campaign preview": (
        "streamer campaign preview acme/spring-26 --recipient recipients.csv --open",
        """streamer campaign preview acme/spring-26 --vars '{"first_name": "Ann"}'""",
    ),
    "campaign resume": (
        "streamer campaign resume acme/spring-26",
        "streamer campaign resume acme/spring-26 --now",
    ),
    "campaign show": (
        "streamer campaign show acme/spring-26",
        "streamer campaign show acme/spring-26 --versions --json",
    ),
    "campaign test": (
        "streamer campaign test acme/spring-26 --to you@example.com",
        "streamer campaign test acme/spring-26 --to you@example.com --recipient recipients.csv",
    ),
    "config check": (
        "streamer config check --config streamer.toml",
        "STREAMER_BATCH__SIZE=50 streamer config check",
    ),
    "config show": ("streamer config show --config streamer.toml", "streamer config show --json"),
    "demo": ("streamer demo", "streamer demo --json"),
    "dlq list": (
        "streamer dlq list --since 1h",
        "streamer dlq list --reason unknown_campaign --json",
    ),
    "dlq purge": (
        "streamer dlq purge --until 7d",
        "streamer dlq purge --until 7d --reason undecodable --yes",
    ),
    "dlq replay": (
        "streamer dlq replay --since 1h --dry-run",
        """streamer dlq replay --campaign acme/sprign --fix '{"campaign_id": "spring-26"}'""",
    ),
    "dlq show": ("streamer dlq show 3/1042", "streamer dlq show 3/1042 --json"),
    "doctor": (
        "streamer doctor --config streamer.toml",
        "streamer doctor --json > doctor.json || echo 'something failed'",
    ),
    "ledger rebuild": ("streamer ledger rebuild", "streamer ledger rebuild --yes --json"),
    "ledger status": ("streamer ledger status", "streamer ledger status --json"),
    "events backfill": (
        "streamer events backfill default --since 1d --dry-run",
        "streamer events backfill default --since 2026-11-24T03:40:00Z --yes",
    ),
    "gateway": (
        "streamer gateway --config streamer.toml",
        "streamer gateway --host 0.0.0.0 --port 8080 --forwarded-allow-ips 10.0.0.0/8",
    ),
    "outcomes": (
        "streamer outcomes acme/spring-26 --status failed --format csv",
        "streamer outcomes acme/spring-26 --follow --json",
    ),
    "produce": (
        "streamer produce acme/spring-26 recipients.csv --done",
        "zcat recipients.csv.gz | streamer produce acme/spring-26 - --format csv",
    ),
    "progress": (
        "streamer progress acme/spring-26",
        "streamer progress acme/spring-26 --wait --timeout 3600",
    ),
    "project": ("streamer project --config streamer.toml", "streamer project --rebuild"),
    "retry": (
        "streamer retry acme/spring-26 --status failed --dry-run",
        "streamer retry acme/spring-26 --status failed --reason render_error",
    ),
    "run": (
        "streamer run --workers 4 --config streamer.toml",
        "streamer run --wait-for 60s",
    ),
    "sandbox": (
        "streamer sandbox",
        "streamer sandbox --limit 2 --fault error_after_percent=20",
    ),
    "stack down": ("streamer stack down", "streamer stack down --folder /tmp/trial"),
    "stack status": ("streamer stack status", "streamer stack status --json"),
    "stack up": (
        "streamer stack up",
        "streamer stack up --folder /tmp/trial --kafka-port 19092 --redis-port 16379",
    ),
    "suppress add": (
        "streamer suppress add acme ann@example.com",
        "streamer suppress add acme - < addresses.txt",
    ),
    "suppress check": (
        "streamer suppress check acme ann@example.com",
        "streamer suppress check acme - --json < addresses.txt",
    ),
    "suppress export": (
        "streamer suppress export acme suppressed.txt",
        "streamer suppress export acme | sort | uniq > suppressed.txt",
    ),
    "suppress import": (
        "streamer suppress import acme suppressed.csv",
        "streamer suppress import acme - --new < addresses.txt",
    ),
    "suppress list": ("streamer suppress list", "streamer suppress list --json"),
    "suppress remove": (
        "streamer suppress remove acme ann@example.com",
        "streamer suppress remove acme --all",
    ),
    "suppress show": (
        "streamer suppress show ann@example.com",
        "streamer suppress show - --json < address.txt",
    ),
    "suppress sync": (
        "streamer suppress sync default --dry-run",
        "streamer suppress sync default --yes --json",
    ),
    "topics create": (
        "streamer topics create",
        "streamer topics create --partitions 32 --replication 3",
    ),
    "trace": (
        "streamer trace acme/spring-26 --email ann@example.com",
        "echo ann@example.com | streamer trace acme/spring-26 --email -",
    ),
    "watch": ("streamer watch", "streamer watch acme/spring-26"),
}


def epilog(command: str) -> str:
    """Return the examples of a command for its help, each on a line of its own."""
    return "\n\n".join(["Examples:", *EXAMPLES.get(command, ())])
