"""Suites that measure the product; stands above both buildings."""
