"""Databases that fail, for real: connections cut, servers killed, networks that swallow, files that are gone."""
