"""Every benchmark and report about this project itself; nothing imports it."""
