"""The web door: an HTTP API and one page."""
