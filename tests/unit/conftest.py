"""The emulator for the tests of itself; none but those starts it."""

from tests.emulator.fixtures import _process, acting_as, client, emulator  # noqa: F401 - fixtures
