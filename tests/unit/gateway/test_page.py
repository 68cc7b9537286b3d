"""The unsubscribe page: languages, colors, and nothing that is not escaped."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.gateway.page import Pages, PageView, choose_language, contrast
from streamer.settings import GatewaySettings, SettingsError

_LANGUAGES = ["en", "de", "fr", "es", "pt", "nl", "it", "pl"]


def test_all_languages_have_all_texts() -> None:
    pages = Pages(GatewaySettings(names={"acme": "Acme Ltd."}))
    bodies = set()
    for language in _LANGUAGES:
        for view in PageView:
            page = pages.render(view, "acme", language)
            text = page.body.decode()
            assert (page.language, f'<html lang="{language}">' in text) == (language, True)
            assert not re.search(r"[{$]\w+[}]?(?= |<|\.)", text.partition("</style>")[2])
            bodies.add(page.body)
    assert len(bodies) == len(_LANGUAGES) * len(PageView)


@pytest.mark.parametrize(
    ("accepted", "found"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,en;q=0.5", "de"),
        ("en;q=0.5, FR-ca ; q=0.8", "fr"),
        ("ja, pt-BR;q=0.9, en;q=0.8", "pt"),
        ("ja", "en"),
        ("*", "en"),
        ("de;q=0", "en"),
        ("de;q=x, it", "it"),
        ("de;q=nan, de;q=7, nl;q=0.1", "nl"),
    ],
)
def test_the_readers_language_is_chosen(accepted: str, found: str) -> None:
    assert choose_language(accepted, dict.fromkeys(_LANGUAGES)) == found


@given(st.text())
def test_any_header_gives_a_language(accepted: str) -> None:
    assert choose_language(accepted, dict.fromkeys(_LANGUAGES)) in _LANGUAGES


def test_the_sender_is_shown_and_escaped() -> None:
    settings = GatewaySettings(names={"acme": "<Acme & Co.>"}, colors={"acme": "#ffee00"})
    text = Pages(settings).render(PageView.ASK, "acme", "en").body.decode()
    assert "&lt;Acme &amp; Co.&gt;" in text
    assert "<Acme" not in text
    assert "#ffee00" in text
    assert "other" in Pages(settings).render(PageView.ASK, "other", "en").body.decode()
    assert (
        'class="sender"' not in Pages(settings).render(PageView.UNKNOWN, None, "en").body.decode()
    )


def test_the_policy_allows_its_style_and_no_script() -> None:
    page = Pages(GatewaySettings()).render(PageView.ASK, "acme", "en")
    assert "default-src 'none'" in page.policy
    assert re.search(r"style-src 'sha256-[A-Za-z0-9+/]{43}='", page.policy)
    assert b"<script" not in page.body


@given(st.from_regex(r"\A#[0-9a-fA-F]{6}\Z"))
def test_the_button_can_be_read_on_any_color(color: str) -> None:
    def luminance(code: str) -> float:
        parts = [int(code[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(color), luminance(contrast(color))), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_languages_can_be_added_and_changed(tmp_path: Path) -> None:
    (tmp_path / "en.toml").write_text('ask = "No more from {sender}?"\n')
    built_in = Path(__file__).parents[3] / "streamer/gateway/languages/de.toml"
    (tmp_path / "da.toml").write_text(built_in.read_text(encoding="utf-8"), encoding="utf-8")
    pages = Pages(GatewaySettings(languages=tmp_path))
    assert b"No more from" in pages.render(PageView.ASK, "acme", "en").body
    assert pages.render(PageView.ASK, "acme", "da").language == "da"


@pytest.mark.parametrize("text", ["ask = 1", 'ask = "x"\n', "ask = "])
def test_a_faulty_language_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "da.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"gateway.languages: .*da.toml"):
        Pages(GatewaySettings(languages=tmp_path))
    with pytest.raises(SettingsError, match=r"no \.toml file"):
        Pages(GatewaySettings(languages=tmp_path / "x"))
