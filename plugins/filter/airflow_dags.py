"""Tell from what each host answered which DAG release it has in place."""


def placements(answers):
    """Return {silent: hosts that did not answer, places: [{host, id, root, text}] of each release in place}.

    answers: results of the loop of tasks/first.yml. A host prints the id of its release and where its releases are.
    """
    places, silent = [], []
    for answer in answers:
        if answer.get("unreachable") or answer.get("rc", 1):
            silent.append(answer["item"])
        elif answer["stdout"]:
            release, root = answer["stdout"].split(" ", 1)
            places.append({"host": answer["item"], "id": release, "root": root, "text": f"{answer['item']} {release}"})
    return {"silent": silent, "places": places}


class FilterModule:
    def filters(self):
        return {"airflow_dags_placements": placements}
