"""Faults on purpose: kills, power cuts, a hostile Telegram, garbage, erasure looked for byte by byte.

Each suite prints what it did with which seed, and runs a control broken on purpose, which must fail.
"""
