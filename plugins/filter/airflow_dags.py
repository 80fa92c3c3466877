"""Tell which DAG releases hosts have, and how long the phases of a deploy took."""


def placements(answers):
    """Return {silent: hosts that did not answer, places: [{host, id, root, text}] of each release in place}.

    answers: results of the loop of tasks/steps/initial_release.yml. A host prints the id of its release and where its
    releases are.
    """
    places, silent = [], []
    for answer in answers:
        if answer.get("unreachable") or answer.get("rc", 1):
            silent.append(answer["item"])
        elif answer["stdout"]:
            release, root = answer["stdout"].split(" ", 1)
            places.append({"host": answer["item"], "id": release, "root": root, "text": f"{answer['item']} {release}"})
    return {"silent": silent, "places": places}


def lines(releases):
    """Return a line for each release; a star marks the one in place."""
    return [
        "%s %-25s %-8s %s %s %d files from %s" % (
            "*" if one["active"] else " ", one["id"], one["status"] or "unproven", one["when"], one["by"], one["files"],
            (one["ref"] or one["source"]) + (f"@{one['commit'][:12]}" if one["commit"] else ""))
        for one in releases
    ]


def seconds(clock):
    """Return how long each phase took, as text. clock: [name, time at its end] of each phase, after the beginning."""
    pairs = zip(clock, clock[1:])
    return ", ".join(f"{name} {float(end) - float(begin):.1f} s" for (_name, begin), (name, end) in pairs)


class FilterModule:
    def filters(self):
        return {"airflow_dags_lines": lines, "airflow_dags_placements": placements, "airflow_dags_seconds": seconds}
