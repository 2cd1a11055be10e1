"""The Telegram door: journalled intake, handlers that hold verbs, paced outbox."""

from appliance.bot.run import run_bot

__all__ = ["run_bot"]
