"""Conformance suites, one module a kind: a plugin's first test file subclasses one, and sets `component`."""
