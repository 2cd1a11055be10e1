"""The product: posts in, answers out. Never imports torch."""

__version__ = "0.1.0"
