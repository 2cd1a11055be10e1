"""``python -m models …``: the commands of the machine room where the appliance is not installed."""

from models.commands import app

app(prog_name="python -m models")
