"""Print as JSON which options the Airflow of this Python knows. bin/config-options runs it in a virtualenv.

Module check_config of airflow_runtime asks the same on the host before it replaces airflow.cfg.
"""

import json
import pathlib

import airflow
import yaml
from airflow.configuration import conf
from airflow.providers_manager import ProvidersManager


def types(section):
    return {name: option.get("type") or "string" for name, option in section["options"].items()}


config = pathlib.Path(airflow.__file__).parent / "config_templates/config.yml"
own = yaml.safe_load(config.read_text(encoding="utf-8"))
known = {section: types(body) for section, body in conf.configuration_description.items()}
for _provider, sections in ProvidersManager().provider_configs:
    for section, body in sections.items():
        known.setdefault(section, {}).update(types(body))
print(json.dumps({
    "version": airflow.__version__,
    "sections": {section: options for section, options in known.items() if section in own},
    "sections_of_providers": {section: options for section, options in known.items() if section not in own},
    "renamed": {".".join(old): ".".join(new) for old, new in conf.inversed_deprecated_options.items()},
}))
