"""Judges what module airflow_health saw on all hosts of the play, shows it on one screen, and leaves a page and JSON on
the controller.

What is judged is in module_utils/diagnosis; here is how it looks.
"""

from __future__ import annotations

import html
import json
import os
import shlex
import textwrap
import time

from ansible.plugins.action import ActionBase
from ansible.utils.color import stringc
from ansible.utils.display import Display
from ansible_collections.windsock.airflow.plugins.module_utils.diagnosis import causes as diagnosis
from ansible_collections.windsock.airflow.plugins.module_utils.diagnosis.result import CRITICAL, OK, WARN
from ansible_collections.windsock.airflow.plugins.plugin_utils import typed_command

# Columns and lines of a terminal that nobody has had time to make larger.
WIDTH, HEIGHT = 100, 50
COLOURS = {OK: "green", WARN: "yellow", CRITICAL: "red"}


def command(words):
    """A line for the shell in which this run was typed."""
    return shlex.join(typed_command.command(*words)) if words else ""


def report(results, hosts, now):
    """All that there is to show, as plain data."""
    roots, consequences = diagnosis.causes(results)

    def told(result):
        return {**result._asdict(), "mend": command(result.mend), "argv": list(result.mend)}

    return {
        "status": diagnosis.verdict(results),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "hosts": sorted(hosts),
        "results": [told(result) for result in results],
        "causes": [told(result) for result in roots],
        "consequences": [told(result) for result in consequences],
    }


# ---- the screen ------------------------------------------------------------------------------------------------------


def cut(text, width):
    return text if len(text) <= width else text[:width - 3] + "..."


def headline(shown, name):
    number = {status: len([result for result in shown["results"] if result["status"] == status]) for status in COLOURS}
    counts = ", ".join("{0} {1}".format(number[status], status) for status in (CRITICAL, WARN, OK) if number[status])
    return "{0}: {1}. {2} ({3} UTC)".format(name, shown["status"], counts, shown["time"][:-1].replace("T", " "))


def rows_of(results):
    """(status, host, what, text), section by section: what is not OK first."""
    order = [CRITICAL, WARN, OK]
    sections = list(dict.fromkeys(result["section"] for result in results))
    for section in sections:
        mine = [result for result in results if result["section"] == section]
        yield section, sorted(mine, key=lambda result: order.index(result["status"]))


def shorter(rows):
    """What is OK, a line for each section."""
    for section, results in rows:
        good = [result for result in results if result["status"] == OK]
        kept = [result for result in results if result["status"] != OK]
        if good:
            hosts = len({result["host"] for result in good if result["host"]})
            text = "{0} checks{1}".format(len(good), " on {0} hosts".format(hosts) if hosts > 1 else "")
            kept.append({"status": OK, "host": "", "what": "all else", "text": text})
        yield section, kept


def paint(status, text=None):
    return stringc(text or status, COLOURS[status])


def health_lines(shown, name, colour=paint):
    """One screen: each check a line; where that is too long, what is OK is summed up, and what is WARN is cut at the
    end.
    """
    rows = list(rows_of(shown["results"]))
    tail = closing_lines(shown)
    room = HEIGHT - len(tail) - 3
    if sum(1 + len(results) for _section, results in rows) > room:
        rows = list(shorter(rows))
    # Where there is only one, it needs no column.
    hosts = min(max(map(len, shown["hosts"])), 20) + 2 if len(shown["hosts"]) > 1 else 0
    things = min(max(len(result["what"]) for _section, results in rows for result in results), 24) + 2
    body = []
    for section, results in rows:
        body.append(section)
        for result in results:
            fixed = "  {0:8}  {1:{2}}{3:{4}}".format("",
                                                     cut(result["host"], hosts - 2) if hosts else "", hosts,
                                                     cut(result["what"], things - 2), things)
            line = fixed + cut(result["text"], WIDTH - len(fixed))
            body.append("  " + colour(result["status"], "{0:8}".format(result["status"])) + line[10:])
    if len(body) > room:
        body = body[:room - 1] + ["  ... {0} lines more in the page".format(len(body) - room + 1)]
    return [headline(shown, name), "", *body, "", *tail]


def closing_lines(shown):
    """What to do next."""
    if not shown["causes"]:
        return ["Nothing to do."]
    first = shown["causes"][0]
    place = first["host"] + ", " if first["host"] else ""
    lines = [cut("First cause: {0}{1}: {2}".format(place, first["what"], first["text"]), WIDTH)]
    if first["mend"]:
        lines.append("  " + first["mend"])
    return [*lines, "All causes, with evidence:  " + command(["playbooks/runbooks/diagnose.yml"])]


def diagnosis_lines(shown, name, colour=paint):
    """The causes, in the order in which they should be mended, each with its evidence and the command."""
    lines = [headline(shown, name), ""]
    if not shown["causes"]:
        return [*lines, "No cause found: all that was looked at is well."]
    for number, cause in enumerate(shown["causes"], 1):
        place = "{0}, ".format(cause["host"]) if cause["host"] else ""
        lines += textwrap.wrap("{0}{1}: {2}".format(place, cause["what"], cause["text"]),
                               WIDTH,
                               subsequent_indent=" " * 14,
                               initial_indent="{0:>2}. {1:8}  ".format(number, cause["status"]))
        for evidence in cause["evidence"]:
            lines += textwrap.wrap(evidence, WIDTH, initial_indent=" " * 14, subsequent_indent=" " * 16)
        if cause["mend"]:
            # Not wrapped, to be copied as it is.
            lines.append("    Mend it:  " + cause["mend"])
        if cause["advice"]:
            lines += textwrap.wrap(cause["advice"],
                                   WIDTH,
                                   initial_indent="    {0:8}  ".format("And:" if cause["mend"] else "Do this:"),
                                   subsequent_indent=" " * 14)
        lines.append("")
    if shown["consequences"]:
        lines.append("These follow from it:")
        lines += [
            cut(
                "  {0:8}  {1}{2}: {3}".format(one["status"], one["host"] and one["host"] + ", ", one["what"],
                                              one["text"]), WIDTH) for one in shown["consequences"]
        ]
        lines.append("")
    lines.append("Then:  " + command(["playbooks/runbooks/check_health.yml"]))
    for status in COLOURS:
        lines = [
            line.replace(" {0:8}  ".format(status), " " + colour(status, "{0:8}".format(status)) + "  ", 1)
            for line in lines
        ]
    return lines


# ---- the page --------------------------------------------------------------------------------------------------------

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport"
  content="width=device-width"><title>{title}</title><style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.4rem; }} h2 {{ font-size: 1rem; margin: 1.6rem 0 .3rem; text-transform: capitalize; }}
table {{ border-collapse: collapse; width: 100%; }} td {{ padding: .2rem .8rem .2rem 0; vertical-align: top; border-top:
  1px solid #8884; }}
td:first-child {{ width: 6rem; }} td:nth-child(2) {{ width: 11rem; }} td:nth-child(3) {{ width: 12rem; }}
.OK, .WARN, .CRITICAL {{ font-weight: 600; }} .OK {{ color: #1a7f37; }} .WARN {{ color: #9a6700; }} .CRITICAL {{ color:
  #cf222e; }}
ol li {{ margin-bottom: .8rem; }} ul {{ margin: .2rem 0; }} code {{ background: #8882; padding: .1rem .3rem;
  overflow-wrap: anywhere; }}
</style></head><body><h1>{title}</h1>{causes}{tables}</body></html>
"""


def page(shown, name):
    """The same as one file that opens in any browser."""
    def text(value):
        return html.escape(str(value))

    causes = "".join(
        '<li><span class="{status}">{status}</span> {place}<b>{what}</b>: {text}<ul>{evidence}</ul>{mend}{advice}</li>'.
        format(status=cause["status"],
               place=text(cause["host"] and cause["host"] + ", "),
               what=text(cause["what"]),
               text=text(cause["text"]),
               evidence="".join("<li>{0}</li>".format(text(line)) for line in cause["evidence"]),
               mend="<code>{0}</code> ".format(text(cause["mend"])) if cause["mend"] else "",
               advice=text(cause["advice"])) for cause in shown["causes"])
    tables = "".join("<h2>{0}</h2><table>{1}</table>".format(
        text(section), "".join('<tr><td class="{0}">{0}</td><td>{1}</td><td>{2}</td><td>{3}</td></tr>'.format(
            *(text(result[key]) for key in ("status", "host", "what", "text"))) for result in results))
                     for section, results in rows_of(shown["results"]))
    return PAGE.format(title=text(headline(shown, name)),
                       causes="<ol>{0}</ol>".format(causes) if causes else "",
                       tables=tables)


# ---- Ansible ---------------------------------------------------------------------------------------------------------


def observations(hostvars, names):
    """{host: what it answered}, from what the task before has registered."""
    found = {}
    for name in names:
        answer = hostvars[name].get("__airflow_health_answer") or {"msg": "it was not asked"}
        if answer.get("unreachable"):
            found[name] = {"components": {}, "unreachable": str(answer.get("msg", ""))}
        elif "seen" not in answer:
            said = " ".join(str(answer.get(key, "")) for key in ("msg", "module_stderr", "exception")).split()
            found[name] = {"components": {}, "failed": " ".join(said)[:600]}
        else:
            found[name] = {"components": answer["components"], "seen": answer["seen"]}
    return found


class ActionModule(ActionBase):
    """The action."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Judge, show, and fail where something does not work."""
        result = super().run(tmp, task_vars)
        arguments = self._task.args
        names = task_vars["ansible_play_hosts_all"]
        hosts = observations(task_vars["hostvars"], names)
        now = time.time()
        results = diagnosis.examine(hosts, arguments["expected"], now, arguments.get("dag_id", ""),
                                    arguments.get("task_id", ""))
        shown = report(results, hosts, now)
        name = "Airflow of {0}".format(
            os.path.basename(os.path.dirname(os.path.abspath(task_vars.get("inventory_file") or "")))
            or "this inventory")
        self.leave(arguments["directory"],
                   {"health.json": json.dumps(shown, indent=1) + "\n", "health.html": page(shown, name)})
        if arguments["format"] == "json":
            lines = [json.dumps(shown, indent=1)]
        else:
            lines = {"health": health_lines, "diagnosis": diagnosis_lines}[arguments["view"]](shown, name)
            lines.append("The page: {0}".format(os.path.join(arguments["directory"], "health.html")))
        # Past the callback, which would fold the lines.
        Display().display("\n" + "\n".join(lines) + "\n" if arguments["format"] == "text" else lines[0])
        result["changed"] = False
        if arguments["view"] == "health" and shown["status"] == CRITICAL:
            result.update(failed=True, msg="Not healthy. What to do stands above.")
        return result

    @staticmethod
    def leave(directory, files):
        """Write what a browser and a program read; readable by its owner alone, as it names hosts and what is wrong
        with them.
        """
        os.makedirs(directory, mode=0o700, exist_ok=True)
        for name, content in files.items():
            path = os.path.join(directory, name)
            # Two people may look at the same time.
            new = f"{path}.{os.getpid()}.new"
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                file.write(content)
            os.replace(new, path)
