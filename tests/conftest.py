"""Lets modules be imported as they are: their module_utils lie in this repository."""

import pathlib

import ansible.module_utils

ansible.module_utils.__path__.append(str(pathlib.Path(__file__).resolve().parents[1] / "plugins/module_utils"))
