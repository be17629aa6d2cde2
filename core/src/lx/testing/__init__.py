"""What tests of plugins and of applications use: fakes, fixtures, `requires`, and the conformance suites; needs pytest."""
