"""Lets plugins be imported by their full names, and found by them in templates: this clone is the collection."""

import pathlib

from ansible.plugins.loader import init_plugin_loader

init_plugin_loader([str(pathlib.Path(__file__).resolve().parents[1] / "collections")])
