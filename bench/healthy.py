"""Wait until Airflow on this host says that it is healthy; the same question ends every measurement.

python3 healthy.py MAJOR [SECONDS]: asks 127.0.0.1:8080 and ends with 0 when the database, the scheduler and (Airflow 3)
the DAG processor are healthy. The body is read and not the status code, which is 200 even for a dead scheduler.
"""

import json
import sys
import time
import urllib.request

MAJOR = int(sys.argv[1])
DEADLINE = time.monotonic() + float(sys.argv[2] if len(sys.argv) > 2 else 300)
URL = "http://127.0.0.1:8080" + ("/api/v2/monitor/health" if MAJOR >= 3 else "/health")
PARTS = ["metadatabase", "scheduler"] + (["dag_processor"] if MAJOR >= 3 else [])

# A proxy is for the outside.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
SEEN = "no answer"
while time.monotonic() < DEADLINE:
    try:
        SEEN = json.load(opener.open(URL, timeout=5))
        if all(SEEN.get(part, {}).get("status") == "healthy" for part in PARTS):
            sys.exit(0)
    except (OSError, ValueError) as error:
        SEEN = str(error)
    time.sleep(0.25)
sys.exit(f"not healthy: {SEEN}")
