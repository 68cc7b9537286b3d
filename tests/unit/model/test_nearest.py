"""What was probably meant."""

from streamer.model.nearest import did_you_mean, nearest


def test_the_nearest_names_come_first() -> None:
    known = ["First_Name", "first", "last_name", "email"]
    assert nearest("first_name", known)[0] == "First_Name"
    assert did_you_mean("emial", known) == "; did you mean email?"
    assert did_you_mean("zzz", known) == ""
    assert did_you_mean("x", []) == ""
