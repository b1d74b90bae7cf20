"""What the tests of all rooms share: fixtures are in the conftest beside it, plain functions here."""
