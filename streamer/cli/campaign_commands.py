"""`streamer campaign`: all its commands."""

from streamer.cli import campaign, close, drafts, drop, preview, send_test

app = campaign.app
app.command("edit")(drafts.edit)
app.command("copy")(drafts.copy)
app.command("delete")(drafts.delete)
app.command("close")(close.close)
app.command("drop")(drop.drop)
app.command("preview")(preview.preview)
app.command("test")(send_test.send_test_command)
