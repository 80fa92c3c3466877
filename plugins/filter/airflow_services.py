"""Decide about the units of Airflow, from what each host answered."""


def units(components, validate):
    """Return an item of module files for each component's unit, and for the link that is its second name."""
    files = []
    for name, component in components.items():
        unit = f"{component['unit']}.service"
        files.append(
            {
                "path": f"/etc/systemd/system/{unit}",
                "template": "component.service.j2",
                "validate": validate,
                "template_vars": {"name": name, "component": component},
            }
        )
        if "alias" in component:
            files.append({"path": f"/etc/systemd/system/{component['alias']}.service", "state": "link", "target": unit})
    return files


def with_files(components, more):
    """Return the components, each with the further files that it starts with. more: {name: paths}."""
    return {
        name: {**component, "files": [*component.get("files", []), *more[name]]} if more.get(name) else component
        for name, component in components.items()
    }


def reason(result, task):
    """Return the task that has failed, and why. result: ansible_failed_result."""
    # The results of a loop are dictionaries; a package manager's results are texts.
    items = [
        str(item.get("msg", "")) for item in result.get("results", []) if isinstance(item, dict) and item.get("failed")
    ]
    lines = (result.get("stderr_lines") or [])[-15:]
    return f"{task}: {'; '.join(items) or ' '.join(lines) or result.get('msg', 'no reason was given')}"


def moved(answers, wanted, known, groups):
    """Return {host: its units that the inventory gives to others}.

    answers: results of the loop of tasks/steps/check_moved.yml, whose hosts print the units that they have. wanted,
    known: components that this configuration has, and all components.
    """
    ours, found = {component["unit"] for component in known.values()}, {}
    for answer in answers:
        host = answer["item"]
        given = {component["unit"] for component in wanted.values() if host in groups.get(component["group"], [])}
        there = [line.removesuffix(".service") for line in answer.get("stdout_lines", [])]
        left = [unit for unit in dict.fromkeys(there) if unit in ours - given]
        if left:
            found[host] = left
    return found


def stopped(hosts):
    """Return {addresses: {address: host}, unasked: {host: why it could not ask the database who uses it}}.

    hosts: variables of each host that stops, with its answers to tasks/stop.yml. unasked is empty if one host could
    ask.
    """
    addresses, answers = {}, {}
    for host in hosts:
        name = host["inventory_hostname"]
        for line in (host.get("__airflow_services_found") or {}).get("stdout_lines", []):
            word, _, address = line.partition(" ")
            if word == "address":
                addresses[address] = "this host" if address in ("127.0.0.1", "::1") else name
        left = host.get("__airflow_services_left") or {}
        if "stdout" in left:
            answers[name] = left["stdout"]
    asked = any(not answer.startswith("not asked: ") for answer in answers.values())
    unasked = {} if asked else {host: answer.removeprefix("not asked: ") for host, answer in answers.items()}
    return {"addresses": addresses, "unasked": unasked}


class FilterModule:
    def filters(self):
        return {
            "airflow_services_moved": moved,
            "airflow_services_reason": reason,
            "airflow_services_stopped": stopped,
            "airflow_services_units": units,
            "airflow_services_with_files": with_files,
        }
