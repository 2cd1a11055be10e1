"""The Telegram door: journalled intake, handlers that hold verbs, paced outbox."""
