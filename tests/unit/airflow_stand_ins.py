"""What module database imports of Airflow and alembic, as files that its tests put on the path. Each test adds what it
looks at.
"""

AIRFLOW = {
    "airflow/__init__.py": "",
    "airflow/utils/__init__.py": "",
    "airflow/utils/db.py": "def _get_alembic_config(): return None",
    "alembic/__init__.py": "",
    "alembic/script.py": """
        class ScriptDirectory:
            @staticmethod
            def from_config(_config):
                return ScriptDirectory()
            def get_heads(self):
                return ["head"]
        """,
    "sqlalchemy/__init__.py": "",
    # Connections of an engine call what listens to their pool. The stand-in of Airflow may do that with LISTENERS.
    "sqlalchemy/event.py": """
        LISTENERS = []
        def listen(target, name, function):
            LISTENERS.append((target.__name__, name, function))
        """,
    "sqlalchemy/pool.py": "class Pool: pass",
    "airflow/providers/__init__.py": "",
    "airflow/providers/fab/__init__.py": "",
    "airflow/providers/fab/auth_manager/__init__.py": "",
    "airflow/providers/fab/auth_manager/cli_commands/__init__.py": "",
}
