"""Load on the web door, by Locust: `make load`."""
