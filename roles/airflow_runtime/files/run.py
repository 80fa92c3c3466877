"""Run a module of airflow_runtime: python /opt/airflow/libexec/airflow_runtime/run.py MODULE [ARGUMENT ...]"""

import os
import runpy
import sys

if __name__ == "__main__":
    # A run of site.yml may point the link at another version meanwhile. All modules come from one.
    directory = sys.path[0] = os.path.dirname(os.path.realpath(__file__))
    # A loss of power may leave bytecode with a valid beginning, which no later start would replace. A script has none.
    sys.dont_write_bytecode = True
    modules = sorted(name[:-3] for name in os.listdir(os.path.join(directory, "airflow_runtime"))
                     if name.endswith(".py"))
    if len(sys.argv) < 2 or sys.argv[1] not in modules:
        sys.exit(f"{__doc__}\nModules: {', '.join(modules)}")
    import airflow_runtime  # noqa: F401

    # A DAG may import a module of the site that is called `run`.
    del sys.path[0]
    runpy.run_module(f"airflow_runtime.{sys.argv.pop(1)}", run_name="__main__", alter_sys=True)
