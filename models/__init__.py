"""The machine room: runs model weights and has never heard of Telegram."""
